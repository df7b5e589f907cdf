"""Check the arguments of the codec. A wrong one raises here, before any work is done."""

import math
import numbers

import numpy as np

# A file of a hundred kilobytes may claim 200 megapixels. A picture, or a region of one, that is returned in one piece
# stays below 600 MB, unless Codec.max_pixels is raised. Strips have no such limit.
DEFAULT_MAX_PIXELS = 200_000_000


def number(name, value, low, high=math.inf):
    """A finite number from low to high, both included -> float.

    Raises:
        TypeError: not a number. ValueError: out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a number")
    try:
        number = float(value)
    except OverflowError:  # an integer larger than any float
        number = math.inf
    if not (low <= number <= high and math.isfinite(number)):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more, and finite"
        raise ValueError(f"{name}={value!r} must be {limits}")
    return number


def target(size, rate):
    """Largest size of a file, in bytes or in bits per pixel: at most one is given -> int or None, float or None.

    Raises:
        TypeError: not a number. ValueError: out of range, or both are given.
    """
    if size is not None and rate is not None:
        raise ValueError("give target_bytes or target_bpp, not both")
    size = None if size is None else int(number("target_bytes", size, 1))
    return size, None if rate is None else number("target_bpp", rate, 1e-6)


def region(value, width, height):
    """(x0, y0, x1, y1) within a picture, or None for the whole -> four int.

    Raises:
        TypeError: not four numbers. ValueError: not whole, empty, or outside of the picture.
    """
    if value is None:
        return 0, 0, width, height
    message = f"region={value!r} must be four whole numbers (x0, y0, x1, y1)"
    try:
        corners = [number("region", n, -math.inf) for n in value]
    except TypeError:
        raise TypeError(message) from None
    except ValueError:  # not finite
        raise ValueError(message) from None
    if len(corners) != 4 or any(not n.is_integer() for n in corners):
        raise ValueError(message)
    x0, y0, x1, y1 = (int(n) for n in corners)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"{message} with x0 < x1 and y0 < y1 within {width}x{height} pixels")
    return x0, y0, x1, y1


def output(array, shape):
    """An array to write pixels to: uint8, of the right shape, writable.

    Raises:
        TypeError: not an array. ValueError: another shape or type, or read-only.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"out must be a numpy array, not {type(array).__name__}")
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"out is {array.dtype} of shape {array.shape}; this picture needs uint8 of shape {shape}")
    if not array.flags.writeable:
        raise ValueError("out cannot be written to: open a mapped file with mode r+ or w+")
