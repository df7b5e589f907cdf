"""Pictures that need not fit into memory, read and written strip by strip, by libvips.

image file --reading()--> strips of samples
strips --Strips.into()--> array, mapped to a temporary file --write()--> image file
"""

import concurrent.futures
import contextlib
import io
import logging
import os
from dataclasses import dataclass, field

import numpy as np
import pyvips

from ganlib.codec import mapped_arrays

log = logging.getLogger(__name__)
# libvips's warnings are hidden, unless the user has set a level: an error follows them, or Pillow reads the file
if logging.getLogger("pyvips").level == logging.NOTSET:
    logging.getLogger("pyvips").setLevel(logging.ERROR)

ROWS = 256  # pixels, height of a strip that is read
DTYPES = {"uchar": np.uint8, "ushort": np.uint16}  # libvips's names of the types that are read
PROBE = 2**20  # bytes: more than can be free where libvips has found the disk full
MILLIMETRES = 25.4  # an inch
LARGEST_TIFF = 2**31  # bytes of pixels; a larger file must be a BigTIFF, which fewer programs read
# Formats that libvips writes from top to bottom, with the options that lose no more than Pillow would.
WRITERS = {
    ".png": {"compression": 6, "filter": "paeth"},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".jpg": {"Q": 75},
}
WRITERS |= {".tiff": WRITERS[".tif"], ".jpeg": WRITERS[".jpg"]}


@dataclass
class Strips:
    """A picture that comes in strips, from top to bottom; iterate over it once.

    Each strip is h,width,3 or h,width uint8, and is overwritten by the next.
    """

    width: int
    height: int
    channels: int  # 3 RGB, 1 grayscale
    strips: object = field(repr=False)
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None  # dots an inch, horizontally and vertically
    decoded_mask: np.ndarray | None = field(default=None, repr=False)  # height,width bool; None unless salvaged
    _begun: bool = field(default=False, init=False, repr=False)

    @property
    def shape(self):
        """Shape of the pixels as an array."""
        return (self.height, self.width, 3)[: 3 if self.channels == 3 else 2]

    def __iter__(self):
        self._begun = True
        return iter(self.strips)

    def into(self, pixels=None):
        """Write all strips into an array of `shape`, a new one or perhaps a numpy.memmap, and return it.

        Raises:
            ValueError: the array is of another shape or type, or some of the strips have been taken already.
        """
        if self._begun:
            raise ValueError("some of these strips have been taken already: ask the codec for new ones")
        if pixels is None:
            pixels = np.empty(self.shape, np.uint8)
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise ValueError(
                f"out is {pixels.dtype} of shape {pixels.shape}; this picture needs uint8 of shape {self.shape}"
            )
        top = 0
        for strip in self:
            pixels[top : top + len(strip)] = strip
            mapped_arrays.release(pixels)
            top += len(strip)
        return pixels


class UnreadableError(ValueError):
    """libvips cannot read the file: it is damaged, or compressed in a way that this libvips does not know."""


@dataclass
class Samples:
    """What a file holds, in strips from top to bottom; iterate over it once.

    Each strip is h,width or h,width,bands, uint8 or uint16; the second of two bands and the fourth of four is alpha.
    """

    width: int
    height: int
    bands: int
    strips: object = field(repr=False)

    def __iter__(self):
        return iter(self.strips)


@contextlib.contextmanager
def reading(file, fail_on="error"):
    """The samples of an image file, as they are stored.

        with reading(file) as samples:
            for strip in samples: ...

    Args:
        file: on disk, or io.BytesIO; opened for reading bytes. No other code may read it inside the block.
        fail_on: where libvips stops: at an "error" or a "warning". ("truncated" would return black where libtiff
            cannot decode.)

    Yields:
        Samples, or None where they are neither RGB nor gray of 8 or 16 bits.

    Raises:
        UnreadableError: libvips cannot read it; the strips may raise it too.
    """
    # Not by its name: this need not be UTF-8, and libvips would return what it has cached under that name
    in_memory = isinstance(file, io.BytesIO)
    position = None if in_memory else os.lseek(file.fileno(), 0, os.SEEK_CUR)
    strips = None
    try:
        if in_memory:
            source = pyvips.Source.new_from_memory(file.getvalue())
        else:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on=fail_on)
        known = image.interpretation in ("b-w", "grey16", "srgb", "rgb", "rgb16") and image.format in DTYPES
        if known and image.bands <= 4:
            strips = _strips(image)
            yield Samples(image.width, image.height, image.bands, strips)
        else:
            yield None
    except pyvips.Error as error:
        raise UnreadableError(_first_line(error)) from error
    finally:
        if strips is not None:
            strips.close()
        if not in_memory:  # Python's file object expects the position unchanged
            os.lseek(file.fileno(), position, os.SEEK_SET)


def _strips(image):
    region = pyvips.Region.new(image)
    depth = (image.bands,) if image.bands > 1 else ()
    for top in range(0, image.height, ROWS):
        rows = min(ROWS, image.height - top)
        strip = region.fetch(0, top, image.width, rows)
        yield np.frombuffer(strip, DTYPES[image.format]).reshape(rows, image.width, *depth)


def _first_line(error):
    """First line of a pyvips.Error: libtiff repeats the same for each strip."""
    return (error.detail or error.message).strip().partition("\n")[0]


def write(path, strips, suffix):
    """Write strips to an image file, through a temporary file of raw pixels.

    After an error, a part of the file may remain: give a temporary name.

    Args:
        path: of the file.
        strips: Strips.
        suffix: which of WRITERS.

    Raises:
        OSError: the file cannot be written.
        Any error that the strips raise.
    """
    pixels = strips.into(mapped_arrays.array(strips.shape, np.uint8))
    image = pyvips.Image.new_from_memory(pixels, strips.width, strips.height, strips.channels, "uchar")
    image = image.copy(interpretation="srgb" if strips.channels == 3 else "b-w")
    if strips.dpi:
        image = image.copy(xres=strips.dpi[0] / MILLIMETRES, yres=strips.dpi[1] / MILLIMETRES)
    if strips.exif and suffix.startswith(".tif"):
        log.warning("EXIF is left out: libvips does not write it into a TIFF. A PNG keeps it")
    for name, value in (("icc-profile-data", strips.icc), ("exif-data", strips.exif)):
        if value:
            image.set_type(pyvips.GValue.blob_type, name, value)
    options = dict(WRITERS[suffix])
    if suffix.startswith(".tif"):
        options["bigtiff"] = pixels.nbytes > LARGEST_TIFF
    image.set_progress(True)
    image.signal_connect("eval", lambda image, progress: mapped_arrays.release(pixels))
    # In a separate thread: Python delivers Ctrl-C to the main thread. If that were in libvips' call of the function
    # above, the exception would be printed and ignored.
    with open(path, "wb") as file, concurrent.futures.ThreadPoolExecutor(1) as pool:
        target = pyvips.Target.new_to_descriptor(file.fileno())
        try:
            pool.submit(image.write_to_target, target, suffix, **options).result()
        except pyvips.Error as error:
            if "write error" in str(error):  # libvips hides the reason: another write raises it
                with open(file.fileno(), "wb", closefd=False) as same:
                    same.write(bytes(PROBE))
            raise OSError(_first_line(error)) from error
        except BaseException:
            image.set_kill(True)
            raise
