"""How many bits a sample of an image file has. Pillow's mode does not show it: it reads 16-bit RGB as 8-bit "RGB"."""

import re
import struct

import pyvips

DEEP_RAW_MODE = re.compile(r";(16|32)[BLNS]")  # of Pillow's decoders, as in "RGB;16B": bits a sample and byte order
SIZ = b"\xff\x4f\xff\x51"  # the two markers that begin a JPEG 2000 codestream
TIFF_BITS_PER_SAMPLE = 258


def sample_bits(image):
    """PIL image -> bits of its deepest sample; if it has been opened and not read yet, those in its file."""
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16"):
        # 12 bits of a TIFF come as they are, from 0 to 4095; those of other formats come scaled to 16
        return _tiff_bits(image) if image.format == "TIFF" else 16
    tiles = getattr(image, "tile", None) or []
    if any(DEEP_RAW_MODE.search(str(tile[3])) for tile in tiles):
        return 16
    file = getattr(image, "fp", None)
    if image.format == "TIFF":
        return max(8, _tiff_bits(image))
    if image.format == "PPM" and tiles and isinstance(tiles[0][3], tuple):
        return 16 if tiles[0][3][-1] > 255 else 8  # its largest value
    if image.format == "HEIF":
        return image.info.get("bit_depth", 8)
    if image.format == "JPEG2000" and tiles and file:
        return max(8, _whole(file, _jpeg2000_bits))
    if image.format == "AVIF" and file:
        return max(8, _whole(file, _avif_bits))
    if image.format == "JXL":
        return max(8, JpegXLHeader(image.fc).bits)
    return 8


def _tiff_bits(image):
    bits = image.tag_v2.get(TIFF_BITS_PER_SAMPLE, (1,))
    return max(bits if isinstance(bits, tuple) else (bits,))


def _whole(file, function):
    """Call a function with all bytes of an open file; the file's position is kept."""
    position = file.tell()
    file.seek(0)
    try:
        return function(file.read())
    finally:
        file.seek(position)


def _jpeg2000_bits(data):
    """The components' precision from the SIZ segment: after both markers 36 bytes of sizes, then 3 bytes of each."""
    at = data.find(SIZ) + len(SIZ)
    count = struct.unpack_from(">H", data, at + 36)[0]
    return max((data[at + 38 + 3 * i] & 0x7F) + 1 for i in range(count))


def _avif_bits(data):
    """Bits of the picture itself: a gain map or an alpha plane beside it may have another depth."""
    try:
        header = pyvips.Image.new_from_buffer(data, "")  # reads no pixels
    except pyvips.Error:
        return 8  # Pillow will report the error
    return header.get("bits-per-sample") if "bits-per-sample" in header.get_fields() else 8


class JpegXLHeader:
    """Depth, and whether it is animated, from the first bytes of a JPEG XL file (ISO/IEC 18181-1, SizeHeader and on).

    Attributes:
        bits: of a sample; 8 where the header cannot be read that far.
        animated: more than one picture.
    """

    def __init__(self, data):
        self.bits, self.animated = 8, False
        self._value = int.from_bytes(_jpeg_xl_codestream(data)[2:66], "little")  # bits come lowest first
        self._size()
        if self._take(1):  # all that follows has its default
            return
        if self._take(1):  # orientation, size on a screen, preview, animation
            self._take(3)
            if self._take(1):
                self._size()
            if self._take(1):  # encoders do not write previews
                return
            self.animated = bool(self._take(1))
            if self.animated:
                return
        floating = self._take(1)
        choices = (32, 16, 24) if floating else (8, 10, 12)
        chosen = self._take(2)
        self.bits = choices[chosen] if chosen < 3 else 1 + self._take(6)

    def _take(self, count):
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken

    def _size(self):
        """Skip height, ratio and width. A side is a multiple of 8, in 5 bits, or any number, in 9 to 30 bits."""
        small = self._take(1)
        for is_width in (False, True):
            if not (is_width and self._take(3)):  # a ratio that is not 0 gives the width
                self._take(5 if small else (9, 13, 18, 30)[self._take(2)])


def _jpeg_xl_codestream(data):
    """The codestream of a file, which may stand alone or in boxes, whole or in parts."""
    if data[:2] == b"\xff\x0a":
        return data
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, at + 8)[0] if at + 16 <= len(data) else 0, 16
        if kind == b"jxlc":
            return data[at + header :]
        if kind == b"jxlp":  # begins with the number of the part
            return data[at + header + 4 :]
        if size < header:
            break
        at += size
    return b""
