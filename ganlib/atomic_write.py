"""The one way in which a file comes into being: whole, or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

# Of the temporary file. No program takes it for a picture, and a folder run skips what begins with a dot.
SUFFIX = ".ganlib-part"
STEM_BYTES = 40  # of the final name in the temporary one; a file system takes 255 bytes in all


@contextlib.contextmanager
def atomic_write(path):
    """Write a file under a temporary name beside `path`; once that is done, the name becomes `path`.

        with atomic_write("table.csv") as part:
            part.write_text("...")

    A kill, a full disk or an error inside the block leaves `path` as it was, and no temporary file but after
    SIGKILL. Missing folders are made. What is no file, such as /dev/null or a named pipe, is written to as it is.

    Args:
        path: of the file; replaced where it exists, with its permissions kept. Of a link, it is the file behind it.

    Yields:
        Path to write to, an empty file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; it names `path`, not the temporary file.
    """
    meant, path = path, Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with names_file(meant):
            yield path
        return
    with _part_of(path) as part, names_file(meant):
        mode = (path if path.exists() else part).stat().st_mode
        yield part
        part.chmod(stat.S_IMODE(mode))  # some libraries put a private file of their own in its place
        os.replace(part, path)


@contextlib.contextmanager
def names_file(path):
    """Inside, an OSError of writing becomes one that names the file that is meant."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has seen enough
        raise
    except OSError as error:
        named = OSError(f"{path} cannot be written: {error.strerror or error}")
        named.errno = error.errno
        raise named from error


def check_writable(path):
    """Raise now, before long work, the OSError that atomic_write(path) would raise afterwards."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder has this name", str(path))
    if not path.exists() or path.is_file():
        with _part_of(path) as part:
            part.unlink()


@contextlib.contextmanager
def _part_of(path):
    """Inside, an empty temporary file beside `path`, in a folder that is made where it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "a file is where its folder should be", str(path.parent)) from None
    part = path.with_name(f"{_prefix(path)}{secrets.token_hex(6)}{SUFFIX}")
    try:
        try:
            part.open("xb").close()
        except OSError as error:  # which should name the file that is meant
            raise type(error)(error.errno, error.strerror, str(path)) from None
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(path):
    """Remove what processes that were killed have left of writing `path`."""
    path = Path(path)
    with contextlib.suppress(OSError):
        for part in path.parent.iterdir():
            if part.name.startswith(_prefix(path)) and part.name.endswith(SUFFIX):
                part.unlink(missing_ok=True)


def _prefix(path):
    return f".{os.fsencode(path.name)[:STEM_BYTES].decode('ascii', 'ignore')}."
