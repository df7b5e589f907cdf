"""Decoded pictures as image files."""

import io
import logging

from PIL import Image

from ganlib.codec import image_io, large_images
from ganlib.codec.image_formats import ImageError, writable_format

log = logging.getLogger(__name__)

HOLD_METADATA = {"AVIF", "HEIF", "JPEG", "JXL", "MPO", "PNG", "TIFF", "WEBP"}  # formats for which Pillow writes them
ICONS = {"ICNS", "ICO"}  # which Pillow scales to the sizes of icons
JPEG_DENSEST = 65535  # dots an inch
# Metadata to leave out where Pillow cannot write them: these are tried in turn
LEFT_OUT = ((), ("exif",), ("dpi",), ("icc_profile",), ("exif", "dpi", "icc_profile"))


def write(path, strips, suffix, name):
    """Write a picture as an image file. Metadata that cannot be written are left out, with a warning.

    Large ones are written strip by strip where libvips can. (See large_images.WRITERS.)

    Args:
        path: to write to, of any name.
        strips: Strips.
        suffix: of the format, such as ".png".
        name: of the picture, for warnings.

    Raises:
        ImageError: there is no format with this suffix, or it does not hold such a picture.
        OSError: the disk is full.
        Any error that the strips raise.
    """
    kind = writable_format(suffix)
    if strips.exif and not _can_be_parsed(strips.exif):
        log.warning("%s: its EXIF is damaged and is left out", name)
        strips.exif = None
    if strips.width * strips.height >= image_io.LARGE and suffix.lower() in large_images.WRITERS:
        large_images.write(path, strips, suffix.lower())
    else:
        # first into memory: on a full disk Pillow's encoders only say "encoder error"
        path.write_bytes(_encoded(strips, kind, name))


def _encoded(strips, kind, name):
    image = Image.fromarray(strips.into())
    metadata = {"exif": strips.exif, "dpi": strips.dpi, "icc_profile": strips.icc}
    metadata = {key: value for key, value in metadata.items() if value}
    if kind not in HOLD_METADATA and (lost := metadata.keys() - {"dpi"}):
        log.warning("%s: %s left out, which %s does not hold", name, " and ".join(sorted(lost)), kind)
    if kind in ("JPEG", "MPO") and strips.dpi and not all(1 <= n <= JPEG_DENSEST for n in strips.dpi):
        del metadata["dpi"]  # which Pillow would write modulo 2^16
        log.warning("%s: a density of %g x %g dots an inch is left out, which JPEG does not hold", name, *strips.dpi)
    if kind == "GIF" and image.mode == "RGB":
        log.warning("%s: GIF holds no more than 256 colours; .png loses nothing", name)
    for left_out in LEFT_OUT:
        kept = {key: value for key, value in metadata.items() if key not in left_out}
        file = io.BytesIO()
        try:
            image.save(file, kind, **kept)
        except Exception as error:  # a plugin may raise anything for metadata that it cannot write
            if not kept:  # metadata are not the reason
                what = f"{image.mode} picture of {image.width}x{image.height} pixels"
                raise ImageError(f"{kind} does not hold a {what} ({error}): .png does") from error
            refused = error
            continue
        if kind in ICONS and Image.open(file).size != image.size:
            raise ImageError(f"{kind} does not hold a picture of {image.width}x{image.height} pixels: .png does")
        if lost := sorted(metadata.keys() - kept.keys()):
            log.warning("%s: %s cannot be written and is left out (%s)", name, " and ".join(lost), refused)
        return file.getvalue()


def _can_be_parsed(exif):
    try:
        parsed = Image.Exif()
        parsed.load(exif)
        parsed.tobytes()
    except Exception:  # untrusted bytes: parsing them may raise anything
        return False
    return True
