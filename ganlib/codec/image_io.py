"""Pictures in and out: what the codec takes, what it refuses, and why. Nothing is dropped silently."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from ganlib.codec import large_images

ORIENTATION = 0x0112  # EXIF tag
# Of a TIFF, Pillow counts these as EXIF too: sizes, strips and tiles, colours, ICC profile. They tell how that file
# held its pixels, and are wrong of any other.
TIFF_LAYOUT = (*range(254, 260), 262, 266, 273, *range(277, 285), 288, 289, *range(290, 298), 301, *range(317, 326))
TIFF_LAYOUT += (330, *range(336, 348), *range(512, 522), *range(529, 533), 34675)
LARGE = 2**24  # pixels from which on a file is read strip by strip


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
    """PIL image, uint8 array, path or open file -> Picture.

    Args:
        image: PIL.Image, HxWx3 or HxW uint8 array, path, or file opened for reading bytes. EXIF orientation is
            applied.
        convert: turn what would be refused into 8-bit RGB or grayscale: transparency over white, 16 bits to 8,
            CMYK to RGB, the first frame of an animation.

    Raises:
        ImageError: the picture has what a .gic file does not hold, and `convert` is off; or it cannot be read.
    """
    if isinstance(image, np.ndarray):
        return Picture(_check_array(image))
    if isinstance(image, Image.Image):
        return _from_pil(image, convert)
    path = getattr(image, "name", "the file") if hasattr(image, "read") else Path(image)
    try:
        if isinstance(path, Path) and path.is_file() and (large := large_images.read(path, LARGE)):
            pixels, icc, exif = large
            return Picture(pixels, icc, _upright(_parsed(path, exif)))
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(image) as opened:
                opened.load()
                return _from_pil(opened, convert)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(
            f"{path}: more pixels than Pillow reads by default; raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ImageError(f"{path} cannot be read as an image: {error}") from error


def as_rgb(pixels):
    """H,W,3 or H,W uint8 -> H,W,3: a gray picture with three equal channels."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def _check_array(pixels):
    if pixels.dtype != np.uint8:
        raise ImageError(f"array of {pixels.dtype}: give uint8, 0 to 255 (for [0, 1] floats: (x * 255).round())")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise ImageError(f"array of shape {pixels.shape}: give HxWx3 (RGB) or HxW (grayscale)")
    return np.ascontiguousarray(pixels)


def _from_pil(image, convert):
    icc, exif = image.info.get("icc_profile"), image.getexif()
    if getattr(image, "is_animated", False) and not convert:
        raise ImageError(
            f"animation of {image.n_frames} frames: extract one, or convert=True (--convert) for the first"
        )
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if image.has_transparency_data:
        if not convert:
            raise ImageError(
                "transparency is not coded: remove the alpha channel, or convert=True (--convert) for white"
            )
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    elif mode.startswith("I;16") or mode in ("I", "F"):
        if not convert:
            raise ImageError(f"more than 8 bits a sample (mode {mode}): convert=True (--convert) rounds to 8")
        image = Image.fromarray(_to_8_bits(np.asarray(image), mode))
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        if not convert:
            raise ImageError(f"colour space {mode}: convert to RGB first, or convert=True (--convert)")
        image, icc = image.convert("RGB"), None  # a CMYK profile says nothing of RGB
    elif mode == "P":  # every colour of a palette is an 8-bit RGB colour
        image = image.convert("RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in ("RGB", "L"):
        raise ImageError(f"mode {mode} is not supported: convert to RGB first")
    if 0 in image.size:
        raise ImageError(f"the image has no pixels ({image.width}x{image.height})")
    return Picture(np.array(image), icc, _upright(exif), image.info.get("dpi"))


def _to_8_bits(samples, mode):
    if mode == "F":
        raise ImageError("floating-point samples have no fixed range: scale them to 0..255 and make them uint8")
    if samples.min() < 0 or samples.max() > 65535:
        raise ImageError("32-bit samples beyond 65535 have no fixed range: scale them to 0..255 and make them uint8")
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _parsed(path, data):
    """EXIF of a large file: its bytes, or what the tags of a TIFF say."""
    if data is None and path.suffix.lower() in (".tif", ".tiff"):
        with TiffImagePlugin.TiffImageFile(path) as opened:  # reads no pixels
            return opened.getexif()
    exif = Image.Exif()
    if data:
        exif.load(data)
    return exif


def _upright(exif):
    """EXIF without the orientation, which has been applied; None where nothing else is there."""
    for tag in (ORIENTATION, *TIFF_LAYOUT):
        if tag in exif:
            del exif[tag]
    return exif.tobytes() if len(exif) else None


def to_pil(pixels, icc=None, exif=None, dpi=None):
    """H,W,3 or H,W uint8 -> PIL.Image, with the metadata where Pillow's save() looks for it."""
    image = Image.fromarray(pixels)
    if icc:
        image.info["icc_profile"] = icc
    if exif:
        image.info["exif"] = exif
    if dpi:
        image.info["dpi"] = dpi
    return image
