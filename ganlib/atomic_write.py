"""The one way in which a file comes into being: whole, or not at all."""

import contextlib
import errno
import os
import secrets
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
        path: of the file; replaced where it exists.

    Yields:
        Path to write to, an empty file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "a file is where its folder should be", str(path.parent)) from None
    part = path.with_name(f"{_prefix(path)}{secrets.token_hex(6)}{SUFFIX}")
    try:
        part.open("xb").close()
        yield part
        os.replace(part, path)
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
