"""Pictures in and out: what the codec accepts or refuses, and why. Only text (XMP, comments) is lost silently.

path, bytes, file --open_header()--> PIL image --inspect()--> what it is --libvips or Pillow--> samples --> Picture
"""

import contextlib
import errno
import io
import itertools
import logging
import os

import numpy as np
from PIL import Image, UnidentifiedImageError

from ganlib.codec import large_images, mapped_arrays, png_colours
from ganlib.codec.container import SIGNATURE
from ganlib.codec.header import FORMAT_MAX_PIXELS, MAX_SIDE
from ganlib.codec.image_formats import ImageError, open_header
from ganlib.codec.image_inspection import inspect
from ganlib.codec.picture import Picture, check_array
from ganlib.codec.sample_conversion import (
    COLOUR_SPACES,
    check_tiles,
    collect,
    eight_bits,
    has_compressed_tiles,
    samples_of,
)

log = logging.getLogger(__name__)

LARGE = 2**24  # pixels; files of this size or more are read and written strip by strip
TAKEN = "a path, the bytes of an image file, a file opened for reading bytes, a PIL.Image or a uint8 array"
# {EXIF's orientation: function that turns the stored pixels into the upright picture}
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
INVERSE = {6: 8, 8: 6}  # a quarter turn to the right, and to the left; each of the others is its own inverse
EXTRA_SAMPLES, UNASSOCIATED = 338, (2,)  # TIFF: the fourth band is alpha, and colours are not multiplied by it
TOO_MANY = "more pixels than are read in one piece: raise PIL.Image.MAX_IMAGE_PIXELS (--max-pixels) if you trust it"


def load(image, convert=False, max_pixels=None):
    """Any picture -> Picture, upright.

    Args:
        image: path, bytes of an image file, file opened for reading bytes, PIL.Image, or HxWx3, HxWx4 or HxW uint8
            array. The orientation is applied, wherever it is stored.
        convert: turn what would be refused into 8-bit RGB or grayscale: transparency over white, 16 bits to 8,
            CMYK to RGB, the first frame of an animation.
        max_pixels: of a file that must be read in one piece; Pillow's limit where None, 179 megapixels.

    Raises:
        ImageError: the picture has something that a .gic file does not hold, and `convert` is off; or it cannot be
            read; or the argument is not a picture.
        OSError: the folder for temporary files has no room for the pixels of a large one.
    """
    if isinstance(image, np.ndarray):
        return Picture(_from_array(image, convert))
    if isinstance(image, Image.Image):
        with _readable("the image"):
            return _picture(image, None, convert, "the image")
    with _opened(image) as (file, name), _readable(name):
        if file.read(4) == SIGNATURE[:4]:
            raise ImageError("a .gic file already: decompress it first")
        return _picture(open_header(file, bool(max_pixels)), file, convert, name, max_pixels)


@contextlib.contextmanager
def _readable(name):
    """Inside, any error of a decoder becomes an ImageError with the picture's name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: {TOO_MANY}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} cannot be read as an image: of no known format, or damaged") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        if getattr(error, "errno", None) == errno.ENOSPC:  # disk full: no room for its pixels
            raise
        raise ImageError(f"{name} cannot be read as an image: {error}") from error


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
    """Yield (seekable file, its name) for a path, for bytes, or for a file."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        yield io.BytesIO(bytes(image)), "the image"  # bytes(): a memoryview may have gaps
    elif hasattr(image, "read"):
        name = str(getattr(image, "name", "the file"))
        # A plain file is read in place. Other files are read into memory here: their fileno() may belong to another
        # file, as in a GzipFile, or they cannot be read twice, as standard input.
        if not (isinstance(image, io.BytesIO) or _is_on_disk(image)):
            if hasattr(image, "seekable") and image.seekable():
                image.seek(0)
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
        with file, _opened(file) as (contents, _):  # a named pipe is read as a whole
            yield contents, name
    else:
        kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
        remedy = f"{kind} is no picture: give {TAKEN}"
        if hasattr(image, "detach"):  # a tensor
            remedy += "; of C,H,W in [0, 1]: (x * 255).round().byte().permute(1, 2, 0).cpu().numpy()"
        raise ImageError(remedy)


def _is_on_disk(file):
    """Whether a file object is a file on disk, and nothing else."""
    return isinstance(getattr(file, "raw", file), io.FileIO) and file.seekable()


def _picture(image, file, convert, name, max_pixels=None):
    """A PIL image of `file`, whose header has been read, or (file=None) an image of the caller -> Picture."""
    found = inspect(image, name)
    if not convert:
        _refuse_losses(image, found)
    _refuse_sizes(image)
    # the limit at which Pillow's own open() refuses
    limit = max_pixels or 2 * (Image.MAX_IMAGE_PIXELS or np.inf)
    png_colours.warn(image.info, found.icc, name)
    pixels = None
    if file:
        check_tiles(image, file)
        if _is_for_libvips(image, found):
            if has_compressed_tiles(image):
                # for a tile that cannot be decoded libvips gives black, but Pillow raises: so Pillow decodes first
                _refuse_too_many(image, limit)
                image.load()
            pixels = _by_libvips(image, found, file, convert, name)
    if pixels is None:
        if file:
            _refuse_too_many(image, limit)
        pixels = _by_pillow(image, found, convert)
    return Picture(pixels, _fitting_profile(found.icc, pixels, name), found.exif, found.dpi)


def _is_for_libvips(image, found):
    """Whether libvips should read a file: one with 16-bit colour, or a large one that it can read in strips."""
    # From 16-bit colour Pillow takes the upper 8 bits of each sample, without rounding
    deep_colour = found.bits > 8 and image.mode in ("RGB", "RGBA", "LA")
    large = image.width * image.height >= LARGE
    return deep_colour or (large and not has_compressed_tiles(image))


def _refuse_sizes(image):
    """ImageError where a side, or the picture, has no pixels or more than a .gic file holds."""
    width, height = image.size
    if 0 in image.size:
        raise ImageError(f"the image has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE or width * height > FORMAT_MAX_PIXELS:
        raise ImageError(f"{width}x{height} pixels are too many for a .gic file: cut the picture into parts")


def _refuse_too_many(image, limit):
    if image.width * image.height > limit:
        raise ImageError(TOO_MANY)


def _refuse_losses(image, found):
    """ImageError for what a .gic file does not hold. (Transparency is checked later, with the pixels.)"""
    if found.frames > 1:
        raise ImageError(
            f"an animation or document of {found.frames} frames: give one of them (in Pillow: image.seek(n), then "
            "image.copy()), or convert=True (--convert) for the first"
        )
    if found.preview:
        raise ImageError("a raw photograph that begins with a preview: develop it, or convert=True (--convert)")
    if found.bits > 8:
        raise ImageError(f"more than 8 bits a sample ({found.bits}): convert=True (--convert) rounds to 8")
    if image.mode in COLOUR_SPACES:
        raise ImageError(f"colour space {image.mode}: convert to RGB first, or convert=True (--convert)")


def _by_libvips(image, found, file, convert, name):
    """Upright pixels, in an array that may lie in a temporary file; None where Pillow must read them."""
    if image.format not in ("PNG", "JPEG", "MPO", "TIFF") or found.bits not in (8, 16) or image.mode in COLOUR_SPACES:
        return None
    if image.format == "TIFF" and image.tag_v2.get(EXTRA_SAMPLES, UNASSOCIATED) != UNASSOCIATED:
        return None  # the colours are multiplied by their alpha, and libvips would not undo that
    # libjpeg only warns where the data of a segment end too early, and invents the rest
    fail_on = "error" if image.format in ("PNG", "TIFF") else "warning"
    try:
        with large_images.reading(file, fail_on) as samples:
            if samples is None:
                return None
            strips = iter(samples)
            first = next(strips)  # before memory is allocated: a damaged header may claim any size
            depth = (3,) if samples.bands >= 3 else ()
            shape = (samples.height, samples.width)
            pixels = mapped_arrays.array((*(shape if found.orientation < 5 else shape[::-1]), *depth), np.uint8)
            as_stored = UPRIGHT[INVERSE.get(found.orientation, found.orientation)](pixels)  # a view of the same array
            collect(itertools.chain([first], strips), as_stored, convert)
            return pixels
    except large_images.UnreadableError as error:
        log.debug("%s: libvips cannot read it: %s", name, error)
        return None  # compressed in another way, or damaged: now Pillow tries


def _by_pillow(image, found, convert):
    """Upright pixels."""
    pixels = eight_bits(samples_of(image, found.bits), convert)
    # Pillow itself turns a TIFF upright
    return np.array(pixels if image.format == "TIFF" else UPRIGHT[found.orientation](pixels))


def _from_array(array, convert):
    check_array(array, ((), (1,), (3,), (4,)), "HxWx3 (RGB), HxWx4 (RGBA) or HxW (grayscale)")
    return np.ascontiguousarray(eight_bits(array, convert))


def _fitting_profile(icc, pixels, name):
    """The profile, or None where it does not fit the pixels: one for CMYK or gray does not fit RGB."""
    fitting = (b"RGB ", b"GRAY") if pixels.ndim == 2 else (b"RGB ",)
    if icc and icc[36:40] == b"acsp" and icc[16:20] not in fitting:
        space = icc[16:20].decode("ascii", "replace").strip()
        log.warning(
            "%s: its colour profile is left out: it describes %s, and the pixels have been converted", name, space
        )
        return None
    return icc
