"""Write files so that each appears whole, or not at all."""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

# Of the temporary file. No program takes it for a picture, and a folder run skips names that begin with a dot.
SUFFIX = ".ganlib-part"
STEM_BYTES = 40  # bytes of the final name that the temporary name repeats; a file system allows 255 in all


@contextlib.contextmanager
def atomic_write(path):
    """Write a file under a temporary name beside `path`, then rename it to `path`.

        with atomic_write("table.csv") as part:
            part.write_text("...")

    After a kill, a full disk or an error inside the block, `path` is unchanged; only SIGKILL leaves a temporary
    file. Missing folders are created. /dev/null, a named pipe and the like are written to directly.

    Args:
        path: of the file. An existing one is replaced and its permissions are kept; of a link, the file it points to.

    Yields:
        Path to write to, an empty file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; the error names `path`, not the temporary file.
    """
    meant, path = path, Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with names_file(meant):
            yield path
        return
    with _part_of(path) as part, names_file(meant):
        mode = (path if path.exists() else part).stat().st_mode
        yield part
        part.chmod(stat.S_IMODE(mode))  # some libraries replace it with a private file of their own
        os.replace(part, path)


@contextlib.contextmanager
def names_file(path):
    """Inside, an OSError becomes one that names `path`, not the temporary file."""
    try:
        yield
    except BrokenPipeError:  # the reader of a pipe has closed it
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
    """Yield an empty temporary file beside `path`; a missing folder is created. An error inside removes the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "a file is where its folder should be", str(path.parent)) from None
    part = path.with_name(f"{_prefix(path)}{secrets.token_hex(6)}{SUFFIX}")
    try:
        try:
            part.open("xb").close()
        except OSError as error:  # name `path`, not the temporary file
            raise type(error)(error.errno, error.strerror, str(path)) from None
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(path):
    """Remove the temporary files of `path` that killed processes have left."""
    path = Path(path)
    with contextlib.suppress(OSError):
        for part in path.parent.iterdir():
            if part.name.startswith(_prefix(path)) and part.name.endswith(SUFFIX):
                part.unlink(missing_ok=True)


def _prefix(path):
    return f".{os.fsencode(path.name)[:STEM_BYTES].decode('ascii', 'ignore')}."
