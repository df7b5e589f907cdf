"""What an image file is: decided in one place, for every library that may read its pixels later.

file --Pillow reads its header--> image --inspect()--> Inspection: frames, depth, orientation, profile, EXIF, density
"""

import contextlib
import functools
import logging
import math
import struct
from dataclasses import dataclass, field

from PIL import Image, PngImagePlugin
from PIL.ExifTags import IFD

from ganlib.codec import exif
from ganlib.codec.container import MAX_METADATA
from ganlib.codec.sample_depth import JpegXLHeader, sample_bits

log = logging.getLogger(__name__)

# Tags of EXIF and TIFF
ORIENTATION = 0x0112
DENSITY = 282, 283, 296  # across, down, unit
NEW_SUBFILE_TYPE = 254
PREVIEW, MASK = 1, 4  # bits of NEW_SUBFILE_TYPE: the page is a smaller copy of another one, or its mask
INCH, CENTIMETRE = 2, 3  # units of density; 1 is no unit, only a ratio
# In a TIFF, Pillow counts these tags as EXIF too: sizes, strips and tiles, colours, density, XMP, ICC profile. They
# describe how that file stores its pixels, and are wrong for any other file.
TIFF_LAYOUT = (*range(254, 260), 262, 266, 273, *range(277, 285), 288, 289, *range(290, 298), 301, *range(317, 326))
TIFF_LAYOUT += (330, *range(336, 348), *range(512, 522), *range(529, 533), 700, 34675)

# One picture with previews, a gain map, or its layers: not an animation, although Pillow counts several frames
ONE_PICTURE = ("MPO", "PSD")
DENSEST = 1e6  # dots an inch


@dataclass(frozen=True)
class Inspection:
    """What is known of an image before its pixels are read."""

    frames: int  # pictures one after another; previews, gain maps and layers do not count
    preview: bool  # the first picture is only a preview of the main one, as in raw photographs
    bits: int  # of the deepest sample in the file
    orientation: int  # EXIF's 1 to 8; 1 is upright
    icc: bytes | None = field(repr=False)
    exif: bytes | None = field(repr=False)  # as it was read, without orientation
    dpi: tuple[float, float] | None  # dots an inch, horizontally and vertically, of the upright picture


def inspect(image, name="the image"):
    """Look at an image that Pillow has opened, or made. No pixels are read.

    Args:
        image: PIL.Image. If it has been opened and not loaded yet, its file counts: "RGB" may have 16 bits.
        name: for the log.
    """
    if _is_unread(image) and isinstance(image, PngImagePlugin.PngImageFile):
        image.info.update(_more_of_a_png(image.fp))
    orientation, density, kept = _exif(image, name)
    info = image.info
    dpi = _density(image, info, *density)
    if dpi and orientation >= 5:  # rows become columns
        dpi = dpi[::-1]
    return Inspection(
        _frames(image),
        image.format == "TIFF" and bool(_subfile_type(image) & PREVIEW),
        sample_bits(image),
        orientation,
        _small_enough(info.get("icc_profile"), f"{name}: its colour profile"),
        _small_enough(kept, f"{name}: its EXIF"),
        dpi,
    )


def _more_of_a_png(file):
    """{name: value} of the metadata behind the pixels, which Pillow reads after the pixels, and of the chunk cICP."""
    position = file.tell()
    file.seek(8)
    with PngImagePlugin.PngStream(file) as stream, contextlib.suppress(Exception):  # reading the pixels will raise it
        while True:
            kind, start, length = stream.read()
            if kind == b"IEND":
                break
            if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                stream.crc(kind, stream.call(kind, start, length))
            else:
                if kind == b"cICP":  # Pillow does not know it
                    stream.im_info["cICP"] = file.read(4)
                file.seek(start + length + 4)
    file.seek(position)
    return stream.im_info


def _is_unread(image):
    return bool(getattr(image, "tile", None)) and getattr(image, "fp", None) is not None


def _exif(image, name):
    """Orientation, 1 to 8; the tags of density; bytes of the EXIF without orientation, or None.

    The EXIF is also None where it cannot be parsed: the pixels are more important.
    """
    found, kept = Image.Exif(), None
    try:
        try:
            # the method of the base class: that of a PNG would read the pixels
            found = Image.Image.getexif(image)
        except Exception:
            found = _without_exif(image).getexif()
            raise
        kept = _kept(image, found)
    except Exception as error:  # untrusted bytes: parsing them may raise anything
        log.warning("%s: its EXIF cannot be read and is left out (%s: %s)", name, type(error).__name__, error)
    orientation, *density = (_value(found, tag) for tag in (ORIENTATION, *DENSITY))
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    if image.format == "JXL" and not image.jpeg:
        orientation = 1  # the file's own orientation counts, not EXIF's, and the decoder has applied it
    return orientation, density, kept


def _value(found, tag):
    try:
        return found.get(tag)
    except Exception:  # as above
        return None


def _kept(image, found):
    """Bytes of the EXIF without orientation and layout, or None: those of the file, unless they were changed."""
    stored, copied = Image.Exif(), None
    if (data := _bytes_of(image.info)) is not None:
        stored.load(data)
        copied = functools.partial(exif.without, data, (ORIENTATION,))
    elif image.format == "TIFF" and _is_unread(image):
        at, order, big = image.tag_v2._offset, image.tag_v2._endian, image.tag_v2._bigtiff
        stored.endian, stored.bigtiff = order, big
        stored.load_from_fp(image.fp, at)
        copied = functools.partial(exif.of_tiff, image.fp, at, order, big, (ORIENTATION, *TIFF_LAYOUT))
    if copied and _are_equal(stored, found):
        with contextlib.suppress(ValueError, struct.error):  # Pillow may still read a damaged EXIF
            return copied()
    return _rewritten(found, (ORIENTATION, *TIFF_LAYOUT))


def _bytes_of(info):
    """EXIF as it was read, or None."""
    if info.get("exif") is None and "Raw profile type exif" in info:  # in an old PNG
        return bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
    return info.get("exif")


def _are_equal(one, other):
    """Whether two Image.Exif are equal, apart from the orientation."""
    try:
        return _rewritten(one, (ORIENTATION,)) == _rewritten(other, (ORIENTATION,))
    except Exception:  # Pillow cannot write one of the values, so no program can have copied and changed them
        return True


def _rewritten(found, left_out):
    """Image.Exif -> bytes without some tags, or None. Pillow alone would write "?" for a letter that is not ASCII."""
    written = Image.Exif()
    written.endian = found.endian  # not bigtiff: EXIF never is
    for tag, value in found.items():
        if tag not in left_out:
            inner = found.get_ifd(tag) if tag in (IFD.Exif, IFD.GPSInfo) else None
            written[tag] = {key: _as_bytes(value) for key, value in inner.items()} if inner else _as_bytes(value)
    if isinstance((inner := written.get(IFD.Exif) or {}), dict) and IFD.Interop in inner:
        inner[IFD.Interop] = found.get_ifd(IFD.Interop)
    return written.tobytes() if len(written) else None


def _as_bytes(value):
    """A text that is not ASCII as the bytes that it was read from: Pillow decodes them as Latin-1."""
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def _without_exif(image):
    """An image with only the XMP of another image: it may hold an orientation too."""
    other = Image.new("L", (1, 1))
    other.info = {key: image.info[key] for key in ("XML:com.adobe.xmp", "xmp") if key in image.info}
    return other


def _density(image, info, *in_exif):
    """Dots an inch as (x, y), or None where the file does not give it. in_exif: values of DENSITY."""
    # Pillow makes up 1 dpi for a TIFF, and 72 dpi for a JPEG with EXIF, without a density
    made_up = image.format == "TIFF" or (image.format in ("JPEG", "MPO") and info.get("jfif_unit") not in (1, 2))
    dpi, scale = info.get("dpi"), 1.0
    if dpi is None or made_up:
        *dpi, unit = in_exif
        scale = {INCH: 1.0, CENTIMETRE: 2.54}.get(INCH if unit is None else unit)
    try:
        x, y = (float(value) * scale for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return (x, y) if all(math.isfinite(n) and 0 < n <= DENSEST for n in (x, y)) else None


def _frames(image):
    if image.format in ONE_PICTURE:
        return 1
    if image.format == "JXL":
        return 2 if JpegXLHeader(image.fc).animated else 1  # 2: several; its plugin always reports 1
    frames = getattr(image, "n_frames", 1)
    if image.format == "TIFF" and frames > 1:
        frames -= _side_pages(image, frames)
    return frames


def _side_pages(image, pages):
    """Number of pages of a TIFF, without the first one, that are smaller copies of another or masks."""
    count, current = 0, image.tell()
    for page in range(1, pages):
        with contextlib.suppress(SyntaxError, KeyError, TypeError, ValueError, OSError, struct.error):
            image.seek(page)  # one that Pillow cannot read counts as a page
            count += bool(_subfile_type(image) & (PREVIEW | MASK))
    image.seek(current)
    return count


def _subfile_type(image):
    kind = image.tag_v2.get(NEW_SUBFILE_TYPE, 0)
    return kind if isinstance(kind, int) else 0


def _small_enough(data, what):
    if data and len(data) > MAX_METADATA:
        log.warning("%s of %d bytes is left out: a .gic file holds %d", what, len(data), MAX_METADATA)
        return None
    return data or None
