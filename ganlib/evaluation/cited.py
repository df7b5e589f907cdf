"""The cited models compared: curves, a table and pictures, all measured on files that were decoded again.

{name: codec}, pictures --measure_all()--> points/*.csv --mean_curves(), table()--> charts, table.csv
                        --equal_bytes()--> pictures at the size of mini's file
"""

import logging
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ganlib.atomic_write import atomic_write
from ganlib.cited import NAMES
from ganlib.cited.complexity import kmacs_per_pixel
from ganlib.codec.codec import load_codec
from ganlib.codec.image_io import as_rgb
from ganlib.codec.rate_control import TargetSizeError
from ganlib.config import DATA, QUALITY_MAX
from ganlib.evaluation import baselines, plots
from ganlib.evaluation.cited_chart import measured_and_published
from ganlib.evaluation.comparisons import busiest_crop
from ganlib.evaluation.measure import bd_rate_or_nan, lpips_or_nan, mean_curves, ms_ssim_or_nan, size_and_psnr, some
from ganlib.evaluation.metrics import PERCEPTUAL_SIDE, lpips
from ganlib.evaluation.published import published
from ganlib.weights import WeightsError

log = logging.getLogger(__name__)

LABELS = {
    "mini": "ganlib mini", "toderici": "Toderici 2017 (mini)", "islam": "Islam 2021 (mini)",
    "song": "Song 2021 (mini)", "xie": "Xie 2021 (mini)", "zou": "Zou 2022 (mini)",
}  # fmt: skip
LADDER = (0, 15, 30, 45, 60, 75, 90, 100)  # qualities of the transform coders; the recurrent ones have eight passes
JPEG_LADDER = (5, 8, 12, 20, 30, 45, 60, 75)
REFERENCE, BASELINE = "mini", "JPEG"
SPEED_QUALITY = 50.0
SPEED_ROUNDS = 3  # of which the fastest counts: other work on the machine only slows a round
EQUAL_BPP = 0.3
METRICS = ("psnr", "ms_ssim", "lpips")
POINTS = DATA / "report" / "cited" / "points"  # what was measured on Kodak with the shipped weights


def qualities(codec):
    """Eight qualities for a curve: those of each pass of a recurrent codec, LADDER of the others."""
    passes = getattr(codec.model.config, "iterations", None)
    return LADDER if passes is None else [QUALITY_MAX * n / max(1, passes - 1) for n in range(passes)]


def row_of(codec, image, pixels, n_bytes, decoded, perceptual=True):
    """One file, measured: a dict. MS-SSIM and LPIPS are nan where they are not wanted or the picture is too small."""
    return {
        "codec": codec,
        "image": image,
        **size_and_psnr(pixels, n_bytes, decoded),
        "ms_ssim": ms_ssim_or_nan(pixels, decoded) if perceptual else np.nan,
        "lpips": lpips_or_nan(pixels, decoded) if perceptual else np.nan,
    }


def measure(name, codec, pictures, progress=True, quick=False):
    """Every picture at every quality of a codec: DataFrame of quality and the columns of row_of().

    Args:
        codec: a codec, or None for JPEG.
        pictures: {name: H,W,3 uint8}.
        quick: every second quality, and neither MS-SSIM nor LPIPS.
    """
    ladder = (JPEG_LADDER if codec is None else qualities(codec))[:: 2 if quick else 1]
    jobs = [(image, quality) for image in pictures for quality in ladder]
    rows = []
    for image, quality in tqdm(jobs, desc=name, unit="file", disable=not progress):
        pixels = pictures[image]
        data = baselines.encode(BASELINE, pixels, quality) if codec is None else codec.compress(pixels, quality)
        decoded = baselines.decode(data) if codec is None else np.asarray(codec.decompress(data))
        rows.append({"quality": quality} | row_of(name, image, pixels, len(data), decoded, perceptual=not quick))
    return pd.DataFrame(rows)


def _made_with(codec, pictures):
    """The inputs of a table of measurements: fingerprint of the weights, checksum of the pictures."""
    checksum = 0
    for pixels in pictures.values():
        checksum = zlib.crc32(np.ascontiguousarray(pixels), checksum)
    return {"weights": "" if codec is None else codec.fingerprint.hex(), "pictures": f"{checksum:08x}"}


def measured_before(name, codec, pictures, folder):
    """The table NAME.csv of a folder; None if it is missing, or made with other weights or pictures."""
    path, recorded = folder / f"{name}.csv", _made_with(codec, pictures)
    if not path.exists():
        return None
    table = pd.read_csv(path, dtype=dict.fromkeys(recorded, str)).fillna({"weights": ""})
    return table if (table.reindex(columns=list(recorded)) == pd.Series(recorded)).all(axis=None) else None


def measure_all(codecs, pictures, folder, progress=True):
    """measure() of every codec and of JPEG; tables of the same weights that are in `folder` already are reused.

    Args:
        codecs: {name: codec}.
        folder: Path, for a file NAME.csv of each.

    Returns:
        DataFrame, one row per codec, picture and quality.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for name, codec in {**codecs, BASELINE: None}.items():
        table = measured_before(name, codec, pictures, folder)
        if table is None:
            table = measure(name, codec, pictures, progress).assign(**_made_with(codec, pictures))
            with atomic_write(folder / f"{name}.csv") as part:
                table.to_csv(part, index=False, float_format="%.5f")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def quick_curves(codecs, pictures, progress=True):
    """Mean curves of every codec and of JPEG: from POINTS if it has these pictures, else from every second point.

    Without MS-SSIM and LPIPS, and so in a few minutes.
    """
    tables = []
    for name, codec in {**codecs, BASELINE: None}.items():
        table = measured_before(name, codec, pictures, POINTS)
        tables.append(measure(name, codec, pictures, progress, quick=True) if table is None else table)
    return mean_curves(pd.concat(tables, ignore_index=True))


def chart(curves, pictures, title):
    """The two panels: mean curves of the miniatures, measured on `pictures`, and those that were published.

    Args:
        curves: of mean_curves().
        pictures: {name: H,W,3 uint8}.
        title: which pictures these are.
    """
    count = f"{len(pictures)} image{'s' * (len(pictures) > 1)}"
    return measured_and_published(curves, published("kodak"), f"{count}, {title}")


def seconds(codecs, pixels):
    """Encoding and decoding time of one picture: {name: (seconds, seconds)}, the fastest of a few rounds."""
    times = {name: [] for name in codecs}
    for _ in range(SPEED_ROUNDS):
        for name, codec in codecs.items():
            began = time.perf_counter()
            data = codec.compress(pixels, SPEED_QUALITY)
            middle = time.perf_counter()
            codec.decompress(data)
            times[name].append((middle - began, time.perf_counter() - middle))
    return {name: tuple(np.min(rounds, axis=0)) for name, rounds in times.items()}


def table(codecs, curves, pixels):
    """Cost and performance of each model: one row per codec.

    Args:
        codecs: {name: codec}, with REFERENCE among them.
        curves: of mean_curves().
        pixels: H,W,3 uint8 that speed is measured on.

    Returns:
        DataFrame of codec, parameters, kMAC/pixel of a pass, passes, kMAC/pixel of all passes, encoding and decoding
        time relative to REFERENCE, BD-rate against JPEG and against REFERENCE.
    """
    took, rows = seconds(codecs, pixels), []
    curve = {name: curves[curves["codec"] == name] for name in {*codecs, BASELINE, REFERENCE}}
    for name, codec in codecs.items():
        passes = getattr(codec.model.config, "iterations", 1)
        kmacs = kmacs_per_pixel(codec.model)
        rows.append({
            "codec": name,
            "parameters": sum(weight.numel() for weight in codec.model.parameters()),
            "kMAC/pixel": kmacs,
            "passes": passes,
            "kMAC/pixel, all passes": kmacs * passes,
            f"encoding time / {REFERENCE}'s": took[name][0] / took[REFERENCE][0],
            f"decoding time / {REFERENCE}'s": took[name][1] / took[REFERENCE][1],
            f"BD-rate against {BASELINE}, %": bd_rate_or_nan(curve[BASELINE], curve[name]),
            f"BD-rate against {REFERENCE}, %": bd_rate_or_nan(curve[REFERENCE], curve[name]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def equal_bytes(codecs, pixels, bpp=EQUAL_BPP):
    """One picture coded by each codec and by JPEG with nearly the same number of bytes.

    REFERENCE comes as near to `bpp` as it can from below, the other models to REFERENCE's size, also from below. A
    recurrent codec has one size per pass and none between. A codec that cannot make so small a file is left out.

    Returns:
        {name: (bytes, H,W,3 uint8)}.
    """
    reference = codecs[REFERENCE].compress(pixels, target_bpp=bpp)
    target = len(reference)
    decoded = {}
    for name, codec in codecs.items():
        try:
            data = reference if name == REFERENCE else codec.compress(pixels, target_bytes=target)
        except TargetSizeError as error:
            log.info("%s: %s", name, error)
            continue
        decoded[name] = len(data), as_rgb(np.asarray(codec.decompress(data)))
    data = baselines.at_size(BASELINE, pixels, target)[0]
    return decoded | {BASELINE: (len(data), baselines.decode(data))}


def picture_of(pixels, decoded):
    """Figure: the most detailed part of the original beside the same part from each codec, 1:1."""
    pixels, names = as_rgb(pixels), list(decoded)
    shown = [decoded[name][1] for name in names]
    return plots.before_after(
        pixels,
        shown,
        [LABELS.get(name, name) for name in names],
        [decoded[name][0] for name in names],
        crop=busiest_crop(pixels),
        lpips=[lpips(pixels, picture) for picture in shown] if min(pixels.shape[:2]) >= PERCEPTUAL_SIDE else None,
    )


def write_comparison(codecs, pictures, out, title, shown=3, progress=True):
    """Measure everything and write it into `out`.

        points/NAME.csv   every file        curves.csv   means over the pictures
        table.csv         cost and performance of each model
        psnr.png, ms_ssim.png, lpips.png    equal_bytes_PICTURE.png
        cited.png        PSNR beside what the papers published

    Args:
        codecs: {name: codec} of NAMES.
        pictures: {name: H,W,3 uint8}.
        title: of the charts: which pictures these are.
        shown: how many pictures to show.

    Returns:
        {name: Path} of what was written.
    """
    out = Path(out)
    curves = mean_curves(measure_all(codecs, pictures, out / "points", progress))
    things = {"curves.csv": curves, "table.csv": table(codecs, curves, next(iter(pictures.values())))}
    named = curves.assign(codec=curves["codec"].map(lambda name: LABELS.get(name, name)))
    for metric in METRICS:
        if named[metric].notna().any():
            heading = f"Miniatures on one budget: means over {len(pictures)} images ({title}), bytes of files"
            things[f"{metric}.png"] = plots.rate_distortion(named, None, heading, metric)
    things["cited.png"] = chart(curves, pictures, title)
    for name in some(pictures, shown):
        things[f"equal_bytes_{name}.png"] = picture_of(pictures[name], equal_bytes(codecs, pictures[name]))
    for name, thing in things.items():
        if isinstance(thing, pd.DataFrame):
            with atomic_write(out / name) as part:
                thing.to_csv(part, index=False, float_format="%.4f")
        else:
            plots.save(thing, out / name)
    return {name: out / name for name in things}


def load_miniatures():
    """{name: codec} of the shipped weights; those that are not there are left out, and logged."""
    codecs = {}
    for name in NAMES:
        try:
            codecs[name] = load_codec(name, precision="no")
        except WeightsError as error:
            log.warning("left out %s: %s", name, error)
    return codecs
