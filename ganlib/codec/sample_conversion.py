"""Convert samples of any depth, with or without alpha, to the 8-bit RGB or grayscale that is coded."""

import io

import numpy as np

from ganlib.codec import mapped_arrays
from ganlib.codec.image_formats import ImageError

ROWS = 256  # pixels, height of a strip
COLOUR_SPACES = ("CMYK", "YCbCr", "LAB", "HSV")  # modes of Pillow that are neither RGB nor gray
PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 262, 0  # TIFF
SAMPLE_FORMAT, SIGNED = 339, 2  # TIFF
PLANAR_CONFIGURATION, SEPARATE = 284, 2  # TIFF: one band after the other
IMAGE_WIDTH, IMAGE_LENGTH = 256, 257  # TIFF
COMPRESSION, NONE = 259, 1  # TIFF
TILE_OFFSETS, TILE_BYTE_COUNTS = 324, 325  # TIFF
REMEDY = "scale them to 0..255, as uint8"


def samples_of(image, bits):
    """A PIL image -> its samples, H,W or H,W,bands uint8 or uint16. Of two or four bands the last is alpha.

    Args:
        image: PIL.Image; it is loaded here.
        bits: of a sample in its file.

    Raises:
        ImageError: numbers without a fixed range, or a mode that cannot be converted.
    """
    _scale_transparent_gray(image)
    _check_strips(image)
    image.load()
    mode, clear = image.mode, image.has_transparency_data
    if mode == "F":
        raise ImageError(f"floating-point samples have no fixed range: {REMEDY}")
    if image.format == "TIFF" and mode == "L" and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        raise ImageError(f"signed samples have no fixed range: {REMEDY}")
    if mode == "I" or mode.startswith("I;16"):
        return _deep_gray(image, bits)
    if mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("LA" if clear else "L"))
    if mode in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", *COLOUR_SPACES):  # a palette holds 8-bit RGB colours
        return np.asarray(image.convert("RGBA" if clear else "RGB"))
    raise ImageError(f"mode {mode} is not supported: convert to RGB first")


def _scale_transparent_gray(image):
    """Pillow scales the gray of a PNG from 2 or 4 to 8 bits, but not the gray that is transparent: scale it here."""
    scale = {"L;2": 85, "L;4": 17}.get(image.tile[0][3]) if image.format == "PNG" and image.tile else None
    if scale and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= scale


def _check_strips(image):
    """ImageError where the strips of an uncompressed TIFF do not cover it: Pillow would leave the rest black."""
    if image.format == "TIFF" and image.tile:
        layers = len(image.getbands()) if image.tag_v2.get(PLANAR_CONFIGURATION) == SEPARATE else 1
        needed = layers * image.tag_v2[IMAGE_WIDTH] * image.tag_v2[IMAGE_LENGTH]
        held = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in image.tile)
        if held < needed:
            raise ImageError(f"cut short or damaged: it holds {held / needed:.0%} of its pixels")


def check_tiles(image, file):
    """ImageError where a tile of a TIFF is not in its file: libvips would make it black without a warning."""
    if image.format == "TIFF" and TILE_OFFSETS in image.tag_v2:
        size = file.seek(0, io.SEEK_END)
        for offset, count in zip(image.tag_v2[TILE_OFFSETS], image.tag_v2[TILE_BYTE_COUNTS], strict=True):
            if not 0 < offset < offset + count <= size:
                raise ImageError("cut short or damaged: not all of its tiles are in the file")


def has_compressed_tiles(image):
    """Whether a file has tiles that must be decoded to know that they are whole."""
    return image.format == "TIFF" and TILE_OFFSETS in image.tag_v2 and image.tag_v2.get(COMPRESSION, NONE) != NONE


def _deep_gray(image, bits):
    """Gray of more than 8 bits -> H,W or H,W,2 uint16, from 0 to 65535."""
    samples = np.asarray(image)
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError(f"samples below 0 or above 65535 have no fixed range: {REMEDY}")
    samples = samples.astype(np.uint16)
    transparent = image.info.get("transparency")
    opaque = None if transparent is None else samples != transparent
    if image.format == "TIFF" and bits <= 16:
        if bits < 16:
            samples = np.round(samples * (65535 / (2**bits - 1))).astype(np.uint16)
        if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
            samples = 65535 - samples
    return samples if opaque is None else np.dstack([samples, opaque * np.uint16(65535)])


def eight_bits(samples, convert):
    """Samples -> H,W,3 or H,W uint8: rounded, without alpha.

    Args:
        samples: H,W or H,W,bands uint8 or uint16, with or without alpha.
        convert: blend transparent pixels with white.

    Raises:
        ImageError: something is transparent, and `convert` is off.
    """
    if samples.dtype == np.uint8 and samples.shape[2:] in ((), (3,)):
        return samples
    depth = (3,) if samples.shape[2:] in ((3,), (4,)) else ()
    pixels = mapped_arrays.array((*samples.shape[:2], *depth), np.uint8)
    return collect((samples[top : top + ROWS] for top in range(0, len(samples), ROWS)), pixels, convert)


def collect(strips, pixels, convert):
    """Fill `pixels`, H,W,3 or H,W uint8, with strips of samples from top to bottom, and return it; see eight_bits."""
    top = 0
    for strip in strips:
        place = pixels[top : top + len(strip)]
        place[:] = _rounded(_without_alpha(strip, convert)).reshape(place.shape)
        mapped_arrays.release(pixels)
        top += len(strip)
    return pixels


def _without_alpha(samples, convert):
    if samples.shape[2:] not in ((2,), (4,)):
        return samples
    colour, alpha = samples[:, :, :-1], samples[:, :, -1:]
    white = np.iinfo(samples.dtype).max
    if (alpha == white).all():
        return colour
    if not convert:
        raise ImageError("transparency is not coded: remove the alpha channel, or convert=True (--convert) for white")
    alpha = alpha.astype(np.uint64)
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(samples.dtype)


def _rounded(samples):
    return samples if samples.dtype == np.uint8 else (samples.astype(np.uint32) * 255 + 32767) // 65535
