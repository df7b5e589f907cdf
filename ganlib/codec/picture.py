"""The parts of a picture that a .gic file holds."""

import numbers
from dataclasses import dataclass

import numpy as np

from ganlib.codec import mapped_arrays
from ganlib.codec.container import MAX_METADATA
from ganlib.codec.image_formats import ImageError


@dataclass(frozen=True)
class Picture:
    """Pixels and metadata, as they are coded.

    Raises:
        TypeError: a field of another type.
        ImageError: pixels of another type or shape, or metadata that are too long.
    """

    pixels: np.ndarray  # H,W,3 or H,W, uint8
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None  # dots an inch, horizontally and vertically

    def __post_init__(self):
        if not isinstance(self.pixels, np.ndarray):
            raise TypeError(f"pixels must be a numpy array, not {type(self.pixels).__name__}")
        check_array(self.pixels, ((), (3,)), "HxWx3 (RGB) or HxW (grayscale)")
        for name, data in (("icc", self.icc), ("exif", self.exif)):
            if not isinstance(data or b"", bytes):
                raise TypeError(f"{name} must be bytes, not {type(data).__name__}")
            if data and len(data) > MAX_METADATA:
                raise ImageError(f"{name} of {len(data)} bytes: a .gic file holds {MAX_METADATA}")
        dpi = (1, 1) if self.dpi is None else self.dpi
        if not isinstance(dpi, (tuple, list)) or len(dpi) != 2 or not all(isinstance(n, numbers.Real) for n in dpi):
            raise TypeError(f"dpi={dpi!r} must be two numbers")
        if min(self.pixels.strides) < 0:  # torch refuses negative strides; the picture may be larger than memory
            pixels = mapped_arrays.array(self.pixels.shape, np.uint8)
            for row, turned in zip(pixels, self.pixels):
                row[:] = turned
            mapped_arrays.release(pixels)
            object.__setattr__(self, "pixels", pixels)


def check_array(array, depths, wanted):
    """ImageError where an array is not uint8 of shape H,W + one of `depths`; `wanted` says this in words."""
    if array.dtype != np.uint8:
        raise ImageError(f"array of {array.dtype}: give uint8, 0 to 255 (for [0, 1] floats: (x * 255).round())")
    if array.ndim not in (2, 3) or array.shape[2:] not in depths or 0 in array.shape:
        raise ImageError(f"array of shape {array.shape}: give {wanted}")
