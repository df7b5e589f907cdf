"""The one way in which a file comes into being: whole, or not at all."""

import contextlib
import os
import tempfile
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
    SIGKILL. Missing folders are made.

    Args:
        path: of the file; replaced where it exists.

    Yields:
        Path to write to, an empty file.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = os.fsencode(path.name)[:STEM_BYTES].decode("ascii", "ignore")
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{stem}.", suffix=SUFFIX)
    os.close(handle)
    part = Path(part)
    try:
        yield part
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask():
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
