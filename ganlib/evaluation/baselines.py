"""The codecs to stand beside: JPEG, JPEG 2000, WebP and AVIF, coded here, and curves that others published.

image --encode(quality)--> bytes --decode--> image        rd_points: a curve
image --at_size(target)--> bytes, quality                 the same size as our file, to compare by eye
"""

import io
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageFile, UnidentifiedImageError, features

from ganlib.config import DATA
from ganlib.evaluation.metrics import bits_per_pixel, psnr

PUBLISHED_FILE = DATA / "reference" / "published_rd.csv"

# Systems on the report's chart -> their label there: the five models that the report cites (Zou in two
# forms), the generative codec to measure against, and the conventional ones that papers compare with.
PUBLISHED = {
    "Toderici 2017 (RNN)": "Toderici 2017 (published)",
    "Islam 2021 (RNN+GDN)": "Islam 2021 (published)",
    "Song 2021 (Qmap/SFT)": "Song 2021 (published)",
    "Xie 2021 (InvCompress)": "Xie 2021 (published)",
    "WACNN (Zou 2022)": "Zou 2022, WACNN (published)",
    "STF (Zou 2022)": "Zou 2022, STF (published)",
    "HiFiC": "HiFiC (published)",
    "VTM": "VVC, VTM (published)",
    "BPG 4:4:4": "BPG 4:4:4 (published)",
}

NEIGHBOURS = 3  # steps of quality searched on either side of a target size; see at_size


class MissingCodecError(RuntimeError):
    """This Pillow was built without the codec."""


@dataclass(frozen=True)
class Anchor:
    """One codec of Pillow and its settings."""

    format: str  # Pillow's name of the file format
    feature: str  # Pillow's name of the library behind it
    low: float  # least quality
    high: float  # greatest quality
    step: float  # between two qualities
    unit: str  # of quality
    ladder: tuple[float, ...]  # qualities of a curve that covers about 0.1 to 1.5 bpp on photographs
    variants: Callable[[float], list[dict]]  # quality -> options of Image.save, of which the smallest file wins


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
    # One thread: with more, libaom writes another file, so that the bytes would depend on the machine. It tunes
    # for the eye, as every AVIF does by default; tuned for PSNR it would stand 0.3 dB higher (kodim07, 0.29 bpp).
    return [{"quality": int(quality), "speed": 4, "subsampling": "4:2:0", "max_threads": 1, "autotiling": False}]


CODECS = {
    "JPEG": Anchor("JPEG", "jpg", 1, 100, 1, "0..100", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90), _jpeg),
    "JPEG 2000": Anchor(
        "JPEG2000", "jpg_2000", 0.001, 24, 0.001, "bpp asked for",
        (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5), _jpeg2000,
    ),
    "WebP": Anchor("WEBP", "webp", 0, 100, 1, "0..100", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90), _webp),
    "AVIF": Anchor("AVIF", "avif", 0, 100, 1, "0..100", (15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 70), _avif),
}  # fmt: skip


def available():
    """Names of the codecs that this Pillow can write, in the order of CODECS."""
    return [name for name, codec in CODECS.items() if features.check(codec.feature)]


def _codec(name):
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}: choose one of {', '.join(CODECS)}")
    if name not in available():
        raise MissingCodecError(
            f"this Pillow cannot write {name}: install Pillow's own wheel (pip install --force-reinstall pillow), "
            f"or leave {name} out; it has {', '.join(available())}"
        )
    return CODECS[name]


def _picture(image):
    if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise ValueError(f"anchors code HxWx3 uint8 arrays, not {found}: use np.asarray(picture.convert('RGB'))")
    return Image.fromarray(np.ascontiguousarray(image))


@contextmanager
def _room_for(picture):
    """Pillow's buffer as large as the raw picture: with optimize=True libjpeg writes the whole file at once, and
    Pillow's guess of a byte or two a pixel ends in "broken data stream" on noisy pictures."""
    before = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(before, 3 * picture.width * picture.height + 2**16)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = before


def encode(name, image, quality):
    """Code a picture. Equal inputs give equal bytes, on any number of cores.

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8.
        quality: within the codec's range: whole numbers up to 100, or bits per pixel for JPEG 2000.

    Returns:
        bytes of the file: JPEG baseline or progressive, whichever is smaller; a .jp2, .webp or .avif.

    Raises:
        ValueError: an unknown name, another array, or a quality out of range.
        MissingCodecError: this Pillow cannot write the format.
    """
    codec, picture = _codec(name), _picture(image)
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
    """bytes of any of the four formats -> HxWx3 uint8.

    Raises:
        ValueError: another format, or none that this Pillow reads.
        OSError: a damaged file.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[codec.format for codec in CODECS.values()]) as picture:
            return np.array(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{len(data)} bytes that are no {', '.join(CODECS)} which this Pillow reads") from error


def at_size(name, image, target_bytes):
    """Code a picture at the quality whose file comes nearest to a size.

    Bisects the quality, then looks at the neighbours: sizes rise with quality but for dips of a few bytes, 1 to 3
    steps wide on photographs. (On nearly flat pictures, where all files are of about the same size, dips are
    wider and the answer may be off the nearest by their depth, some 20 bytes.)

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8.
        target_bytes: of the whole file. Where it is out of the codec's reach, the smallest or largest file is
            the nearest: compare len(data) with the target.

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

    last = round((codec.high - codec.low) / codec.step)
    low, high = 0, last
    while low < high:  # ends at the first step that reaches the target
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) >= target_bytes else (middle + 1, high)
    for i in range(max(0, low - NEIGHBOURS), min(last, low + NEIGHBOURS) + 1):
        size(i)
    nearest = min(files, key=lambda i: (abs(size(i) - target_bytes), i))
    return files[nearest], quality(nearest)


def rd_points(name, image, qualities=None):
    """The rate-distortion curve of a codec on one picture.

    Args:
        name: a key of CODECS.
        image: HxWx3 uint8.
        qualities: to code at; the codec's own ladder where None. Average over pictures at equal quality.

    Returns:
        DataFrame of codec, quality, bytes, bpp (of the file) and psnr (dB), one row a quality.

    Raises:
        As encode.
    """
    rows = []
    for quality in _codec(name).ladder if qualities is None else qualities:
        data = encode(name, image, quality)
        height, width = image.shape[:2]
        rows.append((name, quality, len(data), bits_per_pixel(len(data), width, height), psnr(image, decode(data))))
    return pd.DataFrame(rows, columns=["codec", "quality", "bytes", "bpp", "psnr"])


def published(dataset="kodak", systems=None):
    """Curves that others measured on a data set, each point with its source.

    Args:
        dataset: "kodak", "clic2020" or "div2k".
        systems: names to keep, such as PUBLISHED; all where None.

    Returns:
        DataFrame of codec, dataset, bpp, psnr (dB, a mean over the images), ms_ssim, lpips, fid (nan where
        not published), reference, source and notes, in order of codec as filed and of rising bpp.

    Raises:
        FileNotFoundError: ganlib does not run from a clone, which is where the table lies.
        ValueError: nothing is published here for the data set, or for one of the systems.
    """
    if not PUBLISHED_FILE.exists():
        raise FileNotFoundError(f"{PUBLISHED_FILE} is missing: run from a clone of the repository, which holds it")
    table = pd.read_csv(PUBLISHED_FILE).rename(columns={"system": "codec", "psnr_db": "psnr"})
    if dataset not in set(table["dataset"]):
        raise ValueError(f"nothing published on {dataset!r}: choose one of {', '.join(table['dataset'].unique())}")
    table = table[table["dataset"] == dataset]
    if systems is not None:
        if unknown := [system for system in systems if system not in set(table["codec"])]:
            raise ValueError(f"nothing published on {dataset} by {', '.join(unknown)}: see published({dataset!r})")
        table = table[table["codec"].isin(systems)]
    order = table["codec"].map({codec: i for i, codec in enumerate(table["codec"].unique())})
    table = table.assign(order=order).sort_values(["order", "bpp"], kind="stable").drop(columns="order")
    columns = ["codec", "dataset", "bpp", "psnr", "ms_ssim", "lpips", "fid", "reference", "source", "notes"]
    return table[columns].reset_index(drop=True)
