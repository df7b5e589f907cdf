"""Pictures in and out: what the codec takes, what it refuses, and why. Nothing is dropped silently.

path, bytes, file --open_header()--> PIL image --inspect()--> what it is --libvips or Pillow--> samples --> Picture
"""

import contextlib
import io
import itertools
import logging
import os
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from ganlib.codec import container, large_images, mapped_arrays
from ganlib.codec.image_formats import open_header
from ganlib.codec.image_inspection import inspect

log = logging.getLogger(__name__)

LARGE = 2**24  # pixels from which on a file is read and written strip by strip
ROWS = 256  # pixels, height of a strip
TAKEN = "a path, the bytes of an image file, a file opened for reading bytes, a PIL.Image or a uint8 array"
# Of EXIF's orientations: what turns the rows as they are stored into those of the upright picture.
UPRIGHT = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: p[::-1, ::-1],
    4: np.flipud,
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}
COLOUR_SPACES = ("CMYK", "YCbCr", "LAB", "HSV")  # modes that are neither RGB nor gray
EXTRA_SAMPLES, UNASSOCIATED = 338, (2,)  # TIFF: of a fourth band, alpha that the colours are not multiplied with
PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 262, 0  # TIFF
TOO_MANY = "more pixels than Pillow reads by default: raise PIL.Image.MAX_IMAGE_PIXELS (--max-pixels), if you trust it"


class ImageError(ValueError):
    """The picture cannot be coded as it is; the message tells the remedy."""


@dataclass(frozen=True)
class Picture:
    """What of a picture goes into a file."""

    pixels: np.ndarray  # H,W,3 or H,W, uint8
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None  # dots an inch, horizontally and vertically


def load(image, convert=False):
    """Any picture -> Picture, upright.

    Args:
        image: path, bytes of an image file, file opened for reading bytes, PIL.Image, or HxWx3, HxWx4 or HxW uint8
            array. The orientation, wherever it stands, is applied.
        convert: turn what would be refused into 8-bit RGB or grayscale: transparency over white, 16 bits to 8,
            CMYK to RGB, the first frame of an animation.

    Raises:
        ImageError: the picture has what a .gic file does not hold, and `convert` is off; or it cannot be read; or
            what was given is no picture at all.
    """
    if isinstance(image, np.ndarray):
        return Picture(_from_array(image, convert))
    if isinstance(image, Image.Image):
        return _picture(image, None, convert, "the image")
    with _opened(image) as (file, name):
        try:
            if file.read(4) == container.SIGNATURE[:4]:
                raise ImageError("a .gic file already: decompress it first")
            return _picture(open_header(file), file, convert, name)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        except Image.DecompressionBombError:
            raise ImageError(f"{name}: {TOO_MANY}") from None
        except UnidentifiedImageError:
            raise ImageError(f"{name} cannot be read as an image: of no known format, or damaged") from None
        except Exception as error:  # a decoder may raise anything on a damaged file
            raise ImageError(f"{name} cannot be read as an image: {error}") from error


def to_rgb(image):
    """Any picture that can be converted -> H,W,3 uint8, upright, for training and measuring. (See load.)"""
    return as_rgb(load(image, convert=True).pixels)


def as_rgb(pixels):
    """H,W,3 or H,W uint8 -> H,W,3: a gray picture with three equal channels."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def to_pil(pixels, icc=None, exif=None, dpi=None):
    """H,W,3 or H,W uint8 -> PIL.Image, with the metadata where Pillow keeps them."""
    image = Image.fromarray(pixels)
    for name, value in (("icc_profile", icc), ("exif", exif), ("dpi", dpi)):
        if value:
            image.info[name] = value
    return image


@contextlib.contextmanager
def _opened(image):
    """(seekable file, its name) of a path, of bytes, or of a file."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        yield io.BytesIO(image), "the image"
    elif hasattr(image, "read"):
        name = str(getattr(image, "name", "the file"))
        # A plain file is read in place. Others are read here, since their fileno() may be that of something else,
        # as in a GzipFile, or they cannot be read twice, as standard input.
        if not (isinstance(image, io.BytesIO) or _is_plain(image)):
            data = image.read()
            if not isinstance(data, bytes):
                raise ImageError(f"{name} is opened as text: open it for reading bytes, with mode 'rb'")
            image = io.BytesIO(data)
        image.seek(0)
        yield image, name
    elif isinstance(image, (str, os.PathLike)):
        name = os.fsdecode(image)
        try:
            file = open(image, "rb")
        except FileNotFoundError:
            raise ImageError(f"{name} does not exist") from None
        except IsADirectoryError:
            raise ImageError(f"{name} is a folder: give one of its files") from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise ImageError(f"{name} cannot be read: {getattr(error, 'strerror', error)}") from None
        with file:
            yield file, name
    else:
        kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
        remedy = f"{kind} is no picture: give {TAKEN}"
        if hasattr(image, "detach"):  # a tensor
            remedy += "; of C,H,W in [0, 1]: (x * 255).round().byte().permute(1, 2, 0).cpu().numpy()"
        raise ImageError(remedy)


def _is_plain(file):
    """Whether a file object is a file on disk and nothing else."""
    return isinstance(getattr(file, "raw", file), io.FileIO) and file.seekable()


def _picture(image, file, convert, name):
    """A PIL image, of a file whose header has been read, or (file=None) from somebody else -> Picture."""
    found = inspect(image, name)
    if not convert:
        _refuse_losses(image, found)
    width, height = image.size
    if 0 in image.size:
        raise ImageError(f"the image has no pixels ({width}x{height})")
    if max(width, height) > container.MAX_SIDE or width * height > container.MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are too many for a .gic file: cut the picture into parts")
    pixels = None
    # Of 16-bit colour Pillow gives the upper 8 bits of each sample, without rounding
    if file and (width * height >= LARGE or (found.bits > 8 and image.mode in ("RGB", "RGBA", "LA"))):
        pixels = _by_libvips(image, found, file, convert, name)
    if pixels is None:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or np.inf)  # where Pillow's own open() would refuse
        if file and width * height > limit:
            raise ImageError(TOO_MANY)
        pixels = _by_pillow(image, found, convert)
    return Picture(pixels, _fitting_profile(found.icc, pixels, name), found.exif, found.dpi)


def _refuse_losses(image, found):
    """ImageError for what a .gic file does not hold. (Transparency is known once the pixels are.)"""
    if found.frames > 1:
        raise ImageError(
            f"an animation or document of {found.frames} frames: give one of them (in Pillow: image.seek(n), then "
            "image.copy()), or convert=True (--convert) for the first"
        )
    if found.preview:
        raise ImageError("a raw photograph, beginning with a preview: develop it, or convert=True (--convert) for that")
    if found.bits > 8:
        raise ImageError(f"more than 8 bits a sample ({found.bits}): convert=True (--convert) rounds to 8")
    if image.mode in COLOUR_SPACES:
        raise ImageError(f"colour space {image.mode}: convert to RGB first, or convert=True (--convert)")


def _by_libvips(image, found, file, convert, name):
    """Upright pixels, in an array that may lie in a temporary file; None where Pillow must read them."""
    if image.format not in ("PNG", "JPEG", "MPO", "TIFF") or found.bits not in (8, 16):
        return None
    if image.format == "TIFF" and image.tag_v2.get(EXTRA_SAMPLES, UNASSOCIATED) != UNASSOCIATED:
        return None  # colours multiplied with their alpha, which libvips would leave so
    try:
        with large_images.reading(file) as samples:
            if samples is None:
                return None
            strips = iter(samples)
            first = next(strips)  # before room is made for what a damaged header may claim
            depth = (3,) if samples.bands >= 3 else ()
            pixels = mapped_arrays.array((samples.height, samples.width, *depth), np.uint8)
            return UPRIGHT[found.orientation](_collected(itertools.chain([first], strips), pixels, convert))
    except large_images.UnreadableError as error:
        log.debug("%s: libvips cannot read it: %s", name, error)
        return None  # compressed in another way, or damaged: Pillow has the last word


def _by_pillow(image, found, convert):
    """Upright pixels."""
    image.load()
    samples = _samples(image, found)
    pixels = samples
    if samples.ndim == 3 and samples.shape[2] != 3 or samples.dtype != np.uint8:
        colour = samples.ndim == 3 and samples.shape[2] >= 3
        pixels = np.empty(samples.shape[:2] + (3,) * colour, np.uint8)
        _collected((samples[top : top + ROWS] for top in range(0, len(samples), ROWS)), pixels, convert)
    if image.format == "TIFF":  # turned by Pillow
        return np.array(pixels)
    return np.array(UPRIGHT[found.orientation](pixels))


def _samples(image, found):
    """A PIL image -> H,W or H,W,bands uint8 or uint16; the second of two bands and the fourth of four is alpha."""
    mode, clear = image.mode, image.has_transparency_data
    if mode == "F":
        raise ImageError("floating-point samples have no fixed range: scale them to 0..255 and make them uint8")
    if mode == "I" or mode.startswith("I;16"):
        return _deep_gray(image, found)
    if mode in ("1", "L"):
        return np.asarray(image.convert("LA" if clear else "L"))
    if mode == "La":
        return np.asarray(image.convert("LA"))
    if mode == "LA" or (mode in ("RGB", "RGBA") and not clear) or mode == "RGBA":
        return np.asarray(image)
    if mode in ("RGB", "RGBX", "P", "PA", "RGBa", *COLOUR_SPACES):  # each colour of a palette is an 8-bit RGB colour
        return np.asarray(image.convert("RGBA" if clear else "RGB"))
    raise ImageError(f"mode {mode} is not supported: convert to RGB first")


def _deep_gray(image, found):
    """Gray samples of more than 8 bits -> H,W or H,W,2 uint16, from 0 to 65535."""
    samples = np.asarray(image)
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError("32-bit samples beyond 65535 have no fixed range: scale them to 0..255 and make them uint8")
    samples = samples.astype(np.uint16)
    transparent = image.info.get("transparency")
    opaque = None if transparent is None else samples != transparent
    if image.format == "TIFF":
        if found.bits < 16:
            samples = np.round(samples * (65535 / (2**found.bits - 1))).astype(np.uint16)
        if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
            samples = 65535 - samples
    return samples if opaque is None else np.dstack([samples, opaque * np.uint16(65535)])


def _collected(strips, pixels, convert):
    """Fill `pixels`, H,W,3 or H,W uint8, with strips of samples from top to bottom, and return it."""
    top = 0
    for strip in strips:
        pixels[top : top + len(strip)] = _plain(strip, convert)
        mapped_arrays.release(pixels)
        top += len(strip)
    return pixels


def _plain(samples, convert):
    """h,w or h,w,bands uint8 or uint16, with or without alpha -> h,w,3 or h,w uint8.

    Raises:
        ImageError: something is transparent, and `convert` is off. With it, white shines through.
    """
    white = np.iinfo(samples.dtype).max
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        samples, alpha = samples[:, :, :-1], samples[:, :, -1:]
        if (alpha != white).any():
            if not convert:
                raise ImageError(
                    "transparency is not coded: remove the alpha channel, or convert=True (--convert) for white"
                )
            alpha = alpha.astype(np.uint64)
            samples = (samples * alpha + white * (white - alpha) + white // 2) // white
    if white > 255:
        samples = (samples.astype(np.uint32) * 255 + white // 2) // white
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    return samples.astype(np.uint8, copy=False)


def _from_array(array, convert):
    if array.dtype != np.uint8:
        raise ImageError(f"array of {array.dtype}: give uint8, 0 to 255 (for [0, 1] floats: (x * 255).round())")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)) or 0 in array.shape:
        raise ImageError(f"array of shape {array.shape}: give HxWx3 (RGB), HxWx4 (RGBA) or HxW (grayscale)")
    if array.shape[2:] == (4,):
        strips = (array[top : top + ROWS] for top in range(0, len(array), ROWS))
        return _collected(strips, mapped_arrays.array((*array.shape[:2], 3), np.uint8), convert)
    return np.ascontiguousarray(array[:, :, 0] if array.shape[2:] == (1,) else array)


def _fitting_profile(icc, pixels, name):
    """The profile where it tells of such pixels: that of CMYK or gray tells nothing of RGB."""
    fitting = (b"RGB ", b"GRAY") if pixels.ndim == 2 else (b"RGB ",)
    if icc and icc[36:40] == b"acsp" and icc[16:20] not in fitting:
        space = icc[16:20].decode("ascii", "replace").strip()
        log.warning("%s: its colour profile, of %s, is left out: the pixels are none of these any more", name, space)
        return None
    return icc
