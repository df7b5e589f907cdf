"""Arrays that may be larger than memory: the small ones in memory, the large ones in a temporary file.

    array() --small--> numpy.ndarray
            --large--> numpy.memmap of a file without a name --release()--> pages leave memory, numbers stay on disk

A page of a mapped file counts as memory of this process from its first use on. So code that processes a large array
piece by piece calls release() after each piece, and only one piece is in memory. Where a piece needs much other
memory, the code also calls give_back(), which takes some hundredths of a second.
"""

import contextlib
import ctypes
import mmap
import os
import tempfile

import numpy as np

LARGEST_IN_MEMORY = 2**25  # bytes: a dozen pages of a book, or 128 channels of latents of a picture of 16 megapixels


def array(shape, dtype):
    """A new array of zeros, to be written and read in pieces.

    A large one lies in the folder for temporary files (environment variable TMPDIR) until the last reference to it is
    gone.

    Raises:
        OSError: there is no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= LARGEST_IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="ganlib-") as file:
        _reserve(file, size)
        return np.memmap(file, dtype, mode="r+", shape=tuple(shape))


def _reserve(file, size):
    """Claim the disk space now: a mapped file that finds the disk full later kills the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # not on this system
        file.truncate(size)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{size / 1e6:,.0f} MB are needed in {tempfile.gettempdir()} for a picture of this size: make room "
            "there, or set TMPDIR to a folder that has it",
        ) from error


def release(*arrays):
    """Let the pages of mapped files leave memory; their contents stay. Arrays in memory are left as they are.

    Args:
        arrays: arrays, or views of them, also of files that other code has mapped.

    Returns:
        True where one of them is mapped, so that it is worth saving memory.
    """
    mapped = False
    for piece in arrays:
        while piece is not None and not isinstance(getattr(piece, "base", None), mmap.mmap):
            piece = getattr(piece, "base", None)
        # changes to a private copy (mode "c") exist only in memory; Windows has no madvise
        if isinstance(piece, np.memmap) and piece.mode in ("r", "r+", "w+") and hasattr(piece.base, "madvise"):
            piece.base.madvise(mmap.MADV_DONTNEED)
            mapped = True
    return mapped


def give_back():
    """Return memory of freed tensors to the system: glibc keeps a few hundred MB of it for the next ones."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library, or Windows
        ctypes.CDLL(None).malloc_trim(0)
