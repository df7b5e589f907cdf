"""The codecs that people use today, each called in the same way. Ours is compared with them.

image --encode(quality)--> bytes --decode--> image        rd_points: a curve
image --at_size(target)--> bytes, quality                 the same size as our file, to compare by eye
"""

import importlib
import io
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageFile, UnidentifiedImageError, features

from ganlib.codec.image_io import as_rgb
from ganlib.evaluation.metrics import bits_per_pixel, psnr

NEIGHBOURS = 3  # steps of quality searched on either side of a target size; see at_size


class MissingCodecError(RuntimeError):
    """Pillow cannot write the format here."""


@dataclass(frozen=True)
class Baseline:
    """One codec, written by Pillow or by a plugin of it, and its settings."""

    format: str  # Pillow's name of the file format
    package: str  # that pip installs
    library: str  # Pillow's name of the library behind its own formats; else the module that registers the plugin
    low: float  # least quality: 0 to 100 in the codec's own scale, for JPEG 2000 the requested bpp
    high: float  # greatest quality
    step: float  # between two qualities
    ladder: tuple[float, ...]  # qualities of a curve that covers about 0.1 to 1.5 bpp on photographs
    variants: Callable[[float], list[dict]]  # quality -> options of Image.save, the smallest file is used
    switch: float | None = None  # quality at which the encoder changes its method and the file becomes smaller
    # Whether a gray picture is coded as one channel: three equal ones make JPEG's files 4 to 11 % larger, HEIC's 1 %
    # (scikit-image's camera). With the other codecs three cost nothing, or are written in any case.
    gray: bool = False

    def is_available(self):
        """Whether Pillow can write the format here."""
        if self.package == "pillow":
            return features.check(self.library)
        try:
            importlib.import_module(self.library)
        except (ImportError, OSError):  # not installed, or without a library that it needs
            return False
        return True


def _jpeg(quality):
    common = {"quality": int(quality), "subsampling": "4:2:0", "optimize": True}
    # progressive scans save a few per cent on photographs and cost a little on thumbnails
    return [common | {"progressive": False}, common | {"progressive": True}]


def _jpeg2000(quality):
    # Pillow's defaults, the reversible 5/3 wavelet and no colour transform, cost 1.4 to 6 dB at 0.1 to 1 bpp
    # (kodim04, 07 and 13). A file of .jp2 boxes (85 bytes) holds the codestream, so that the
    # colour space is stated; the comment replaces OpenJPEG's own, which would add 32 bytes.
    ratio = 24 / quality  # OpenJPEG asks for the ratio to three 8-bit channels
    return [{"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True, "mct": 1, "comment": " "}]


def _webp(quality):
    return [{"quality": int(quality), "method": 6}]


def _avif(quality):
    # One thread: with more, libaom writes another file, so that the bytes would depend on the machine. Its default
    # is tuned for perceived quality; tuned for PSNR it would be 0.3 dB higher (kodim07, 0.29 bpp).
    return [{"quality": int(quality), "speed": 4, "subsampling": "4:2:0", "max_threads": 1, "autotiling": False}]


def _jpeg_xl(quality):
    # Effort 7 is libjxl's default. libjxl is made for high perceived quality, which does not raise PSNR at low
    # rates; below quality 19 it codes the picture at half the resolution.
    return [{"quality": int(quality), "effort": 7}]


def _heic(quality):
    # x265 with libheif's defaults, 450 bytes of boxes in each file. Against 4:2:0, full chroma resolution gains
    # 0.8 dB at 1.1 bpp and loses 0.2 to 0.5 dB below 0.3 bpp (a crop of scikit-image's coffee).
    return [{"quality": int(quality), "subsampling": "4:4:4"}]


CODECS = {
    "JPEG": Baseline(
        "JPEG", "pillow", "jpg", 1, 100, 1,
        (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90), _jpeg, gray=True,
    ),
    "JPEG 2000": Baseline(
        "JPEG2000", "pillow", "jpg_2000", 0.001, 24, 0.001,
        (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5), _jpeg2000,
    ),
    "WebP": Baseline(
        "WEBP", "pillow", "webp", 0, 100, 1,
        (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90), _webp,
    ),
    "AVIF": Baseline(
        "AVIF", "pillow", "avif", 0, 100, 1,
        (15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70, 80), _avif,
    ),
    "JPEG XL": Baseline(
        "JXL", "pillow-jxl-plugin", "pillow_jxl", 0, 99, 1,  # 100 would be lossless
        (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90), _jpeg_xl, switch=19,
    ),
    "HEIC": Baseline(
        "HEIF", "pillow-heif", "pillow_heif.HeifImagePlugin", 0, 100, 1,
        (8, 12, 16, 20, 24, 28, 32, 36, 40, 46, 52, 60), _heic, gray=True,
    ),
}  # fmt: skip


def available():
    """Names of the codecs that Pillow can write here, in the order of CODECS."""
    return [name for name, codec in CODECS.items() if codec.is_available()]


def _codec(name):
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}: choose one of {', '.join(CODECS)}")
    if not CODECS[name].is_available():
        remedy = f"pip install --force-reinstall {CODECS[name].package}, or choose one of {', '.join(available())}"
        raise MissingCodecError(f"Pillow cannot write {name} here: {remedy}")
    return CODECS[name]


def _picture(image, gray):
    if getattr(image, "dtype", None) != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim < 2:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise ValueError(
            f"baselines code HxWx3 or HxW uint8 arrays, not {found}: use np.asarray(picture.convert('RGB'))"
        )
    return Image.fromarray(np.ascontiguousarray(image if gray else as_rgb(image)))


@contextmanager
def _room_for(picture):
    """Make Pillow's buffer as large as the raw picture: with optimize=True libjpeg writes the whole file at once, and
    Pillow's guess of one or two bytes per pixel leads to "broken data stream" on noisy pictures."""
    default = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(default, 3 * picture.width * picture.height + 2**16)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = default


def encode(name, image, quality):
    """Code a picture. Equal inputs give equal bytes, on any number of cores.

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8, or HxW of a gray picture.
        quality: within the codec's range: whole numbers up to 100, or bits per pixel for JPEG 2000.

    Returns:
        bytes of the file: JPEG baseline or progressive, whichever is smaller; a .jp2, .webp, .avif, .jxl or .heic.

    Raises:
        ValueError: an unknown name, another array, or a quality out of range.
        MissingCodecError: Pillow cannot write the format here.
    """
    codec = _codec(name)
    picture = _picture(image, codec.gray)
    kind, on_step = ("a whole number", quality % 1 == 0) if codec.step == 1 else ("a number", True)
    if not (codec.low <= quality <= codec.high and on_step):
        raise ValueError(f"{name} has no quality {quality}: give {kind} from {codec.low} to {codec.high}")
    files = []
    with _room_for(picture):
        for options in codec.variants(quality):
            file = io.BytesIO()
            picture.save(file, codec.format, **options)
            files.append(file.getvalue())
    return min(files, key=len)


def decode(data):
    """bytes of a file of one of CODECS -> HxWx3 uint8.

    Raises:
        ValueError: another format, or one that Pillow does not read here.
        OSError: a damaged file.
    """
    names = available()
    try:
        with Image.open(io.BytesIO(data), formats=[CODECS[name].format for name in names]) as picture:
            return np.array(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"these {len(data)} bytes are no file of {', '.join(names)}") from error


def at_size(name, image, target_bytes):
    """Code a picture at the quality whose file comes nearest to a size.

    Bisects the quality, then tries the neighbours: sizes rise with quality except for dips of a few bytes, 1 to 3
    steps wide on photographs. (On nearly flat pictures, where all files are of about the same size, dips are
    wider and the result may miss the nearest size by their depth, some 20 bytes.) Where the encoder switches to
    another method, qualities above the switch are preferred: they give the better picture at an equal size.

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8, or HxW of a gray picture.
        target_bytes: of the whole file. If the codec cannot reach it, the smallest or largest file is returned:
            compare len(data) with the target.

    Returns:
        data, quality: encode(name, image, quality) == data. Of equally near files, the lower quality.

    Raises:
        As encode; ValueError also for a target below 1.
    """
    codec = _codec(name)
    if target_bytes < 1:
        raise ValueError(f"target_bytes={target_bytes}: give the size of a file, 1 byte or more")
    files = {}

    def quality(i):
        return round(codec.low + i * codec.step, 3)

    def size(i):
        if i not in files:
            files[i] = encode(name, image, quality(i))
        return len(files[i])

    first, last = 0, round((codec.high - codec.low) / codec.step)
    if codec.switch is not None:
        switch = round((codec.switch - codec.low) / codec.step)
        first, last = (switch, last) if size(switch) <= target_bytes else (first, switch)
    low, high = first, last
    while low < high:  # ends at the first step that reaches the target
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) >= target_bytes else (middle + 1, high)
    for i in range(max(first, low - NEIGHBOURS), min(last, low + NEIGHBOURS) + 1):
        size(i)
    nearest = min((i for i in files if first <= i <= last), key=lambda i: (abs(size(i) - target_bytes), i))
    return files[nearest], quality(nearest)


def rd_points(name, image, qualities=None):
    """The rate-distortion curve of a codec on one picture.

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8, or HxW of a gray picture.
        qualities: to code at; the codec's own ladder where None. Average over pictures at equal quality.

    Returns:
        DataFrame of codec, quality, bytes, bpp (of the file) and psnr (dB), one row per quality.

    Raises:
        As encode.
    """
    rows = []
    for quality in _codec(name).ladder if qualities is None else qualities:
        data = encode(name, image, quality)
        height, width = image.shape[:2]
        distance = psnr(as_rgb(image), decode(data))
        rows.append((name, quality, len(data), bits_per_pixel(len(data), width, height), distance))
    return pd.DataFrame(rows, columns=["codec", "quality", "bytes", "bpp", "psnr"])
