"""Pictures that need not fit into memory, read and written strip by strip, by libvips.

image file --read()--> array, mapped to a temporary file
strips --Strips.into()--> array, mapped to a temporary file --write()--> image file
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyvips

from ganlib.codec import mapped_arrays

log = logging.getLogger(__name__)

ROWS = 256  # pixels, height of a strip that is read
# Formats that libvips writes from top to bottom, with the options that lose no more than Pillow would.
WRITERS = {
    ".png": {"compression": 6, "filter": "paeth"},
    ".tif": {"compression": "deflate", "predictor": "horizontal", "bigtiff": True},
    ".jpg": {"Q": 75},
}
WRITERS |= {".tiff": WRITERS[".tif"], ".jpeg": WRITERS[".jpg"]}
# Of EXIF's eight orientations: what turns the rows as they are stored into those of the upright picture.
UPRIGHT = {
    2: np.fliplr,
    3: lambda p: p[::-1, ::-1],
    4: np.flipud,
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


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
    dpi: tuple | None = None  # dots per inch, across and down
    decoded_mask: np.ndarray | None = field(default=None, repr=False)  # height,width bool; None unless salvaged

    @property
    def shape(self):
        """Of the pixels as an array."""
        return (self.height, self.width, 3)[: 3 if self.channels == 3 else 2]

    def __iter__(self):
        return iter(self.strips)

    def into(self, pixels=None):
        """Write all strips into an array of `shape`, a new one or perhaps a numpy.memmap, and return it."""
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


def _field(image, name, otherwise=None):
    return image.get(name) if name in image.get_fields() else otherwise


def is_plain(image):
    """Whether a pyvips.Image is one picture of 8-bit RGB or grayscale without transparency."""
    colour = {1: ("b-w",), 3: ("srgb", "rgb")}.get(image.bands, ())
    return image.format == "uchar" and image.interpretation in colour and _field(image, "n-pages", 1) == 1


def read(path, smallest):
    """A large picture, upright, in an array that may lie in a temporary file.

    Args:
        path: of an image file.
        smallest: pixels below which it is left to others.

    Returns:
        pixels: H,W,3 or H,W uint8, icc, exif (bytes or None); or None where the picture is smaller, cannot be read by
        libvips, or is not plain 8-bit RGB or grayscale.

    Raises:
        OSError: the file is damaged, or there is no room for the pixels.
    """
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="truncated")
    except pyvips.Error:
        return None
    if image.width * image.height < smallest or not is_plain(image):
        return None
    depth = (3,) if image.bands == 3 else ()
    pixels = mapped_arrays.array((image.height, image.width, *depth), np.uint8)
    region = pyvips.Region.new(image)
    for top in range(0, image.height, ROWS):
        rows = min(ROWS, image.height - top)
        try:
            strip = region.fetch(0, top, image.width, rows)
        except pyvips.Error as error:
            raise OSError(f"row {top} and what follows cannot be read: {error.detail or error.message}") from error
        pixels[top : top + rows] = np.frombuffer(strip, np.uint8).reshape(rows, image.width, *depth)
        mapped_arrays.release(pixels)
    upright = UPRIGHT.get(_field(image, "orientation"), lambda p: p)(pixels)
    return upright, _field(image, "icc-profile-data"), _field(image, "exif-data")


def write(path, strips):
    """Write strips to an image file, through a temporary file of raw pixels. The suffix says which of WRITERS.

    Where it cannot be finished, part of the file may be left: give a temporary name.

    Raises:
        OSError: the file cannot be written.
        Whatever the strips raise.
    """
    pixels = strips.into(mapped_arrays.array(strips.shape, np.uint8))
    image = pyvips.Image.new_from_memory(pixels, strips.width, strips.height, strips.channels, "uchar")
    image = image.copy(interpretation="srgb" if strips.channels == 3 else "b-w")
    if strips.exif and Path(path).suffix.lower().startswith(".tif"):
        log.warning("EXIF is left out: libvips does not write it into a TIFF. A PNG keeps it")
    for name, value in (("icc-profile-data", strips.icc), ("exif-data", strips.exif)):
        if value:
            image.set_type(pyvips.GValue.blob_type, name, value)
    image.set_progress(True)
    image.signal_connect("eval", lambda image, progress: mapped_arrays.release(pixels))
    try:
        image.write_to_file(str(path), **WRITERS[Path(path).suffix.lower()])
    except pyvips.Error as error:
        raise OSError(f"{path} cannot be written: {error.detail or error.message}") from error
