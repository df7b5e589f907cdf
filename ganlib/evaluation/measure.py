"""Measure a codec on a set of pictures, by the bytes of whole files and by rounded pixels.

pictures --compress--> files --decompress--> pictures      evaluate: one row per image, quality and realism
                         |--the same number of bytes--> baselines      equal_bytes: one row per image and codec
rows --mean over the images--> curves --> PSNR at a rate, BD-rate
"""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ganlib import datasets
from ganlib.codec import image_io
from ganlib.codec.image_io import as_rgb
from ganlib.codec.rate_control import TargetSizeError
from ganlib.evaluation import baselines, metrics
from ganlib.evaluation.metrics import MS_SSIM_SIDE, PATCH, PERCEPTUAL_SIDE, bd_rate, bits_per_pixel, ms_ssim, psnr
from ganlib.folders import printable

log = logging.getLogger(__name__)

# Quality levels of our own curve: dense in the report's range, from 0.1 bpp on.
LADDER = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
RATES = (0.20, 0.28, 0.50)  # bits per pixel at which PSNR is quoted
# Columns that are averaged over images: a new measure is added here
MEANS = ("bytes", "bpp", "psnr", "ms_ssim", "lpips", "dists", "frechet", "detail")


def pictures_of(folder=None):
    """The pictures of a folder, or the embedded photographs where it is None: {name: pixels}, as load_all()."""
    return datasets.embedded() if folder is None else load_all(datasets.image_files(folder))


def colour_pictures_of(folder=None):
    """pictures_of() with gray pictures as three equal channels: {name: H,W,3 uint8}."""
    return {name: as_rgb(pixels) for name, pixels in pictures_of(folder).items()}


def load_all(files):
    """Read every picture, each under its own name.

    Args:
        files: Paths.

    Returns:
        {name: H,W,3 uint8, or H,W where the picture is gray and so is its .gic file}. A name is the path below the
        folder that all files share: "kodim01", or "left/street" and "right/street"; with the suffixes if two
        names would be alike without them. Bytes that are not UTF-8 become escapes, such as \\xff.

    Raises:
        ImageError: one of them cannot be coded as it is.
    """
    if not files:
        return {}
    paths = [Path(file).absolute() for file in files]
    shared = os.path.commonpath([path.parent for path in paths])
    paths = [path.relative_to(shared) for path in paths]
    names = [path.with_suffix("") for path in paths]
    if len(set(names)) < len(names):
        names = paths
    return {printable(name.as_posix()): image_io.load(file).pixels for name, file in zip(names, files)}


def name_of(codec, realism=None):
    """Name of one of our codecs in tables and captions: "ganlib light", or "ganlib light, realism 1"."""
    return f"ganlib {codec.name}" + ("" if realism is None else f", realism {realism:g}")


def lpips_or_nan(pixels, decoded):
    """LPIPS, or nan where the picture is too small for it."""
    large = min(pixels.shape[:2]) >= PERCEPTUAL_SIDE
    return metrics.lpips(as_rgb(pixels), as_rgb(decoded)) if large else np.nan


def ms_ssim_or_nan(pixels, decoded):
    """MS-SSIM, or nan where the picture is too small for it."""
    large = min(pixels.shape[:2]) >= MS_SSIM_SIDE
    return ms_ssim(as_rgb(pixels), as_rgb(decoded)) if large else np.nan


class PerceptualDistances:
    """LPIPS and DISTS of single pictures, and the Frechet distance between all originals and all reconstructions.

    nan where a picture is too small, and for the Frechet distance where all pictures have too few patches.

    Args:
        pictures: {name: H,W,3 or H,W uint8}, the originals.
    """

    def __init__(self, pictures):
        self.pictures = {name: as_rgb(pixels) for name, pixels in pictures.items()}
        sides = [pixels.shape[:2] for pixels in pictures.values()]
        patches = sum((height // PATCH) * (width // PATCH) for height, width in sides)
        self.enough_patches = patches >= metrics.PATCHES_MIN
        self.originals = {}  # {name: patches,512}
        self.decoded = {}  # {setting: {name: patches,512}}

    def of(self, setting, name, decoded):
        """One reconstruction -> {"lpips", "dists"}; `setting` is a key for the way of coding."""
        pixels, decoded = self.pictures[name], as_rgb(decoded)
        if min(pixels.shape[:2]) < PERCEPTUAL_SIDE:
            return {"lpips": np.nan, "dists": np.nan}
        if self.enough_patches:
            if name not in self.originals:
                self.originals[name] = metrics.patch_features(pixels)
            self.decoded.setdefault(setting, {})[name] = metrics.patch_features(decoded)
        return {"lpips": metrics.lpips(pixels, decoded), "dists": metrics.dists(pixels, decoded)}

    def frechet(self, settings):
        """A list of the Frechet distance for each setting: of all pictures that were given to `of` with it."""
        distances = {setting: self._frechet(self.decoded.get(setting, {})) for setting in set(settings)}
        return [distances[setting] for setting in settings]

    def _frechet(self, decoded):
        if sum(map(len, decoded.values())) < metrics.PATCHES_MIN:
            return np.nan
        originals = np.concatenate([self.originals[name] for name in decoded])
        return metrics.frechet_distance(originals, np.concatenate(list(decoded.values())))


def size_and_psnr(pixels, n_bytes, decoded):
    """Size and PSNR of a file: {"bytes", "bpp", "psnr"}. A gray picture is compared as three channels."""
    height, width = pixels.shape[:2]
    distance = psnr(as_rgb(pixels), as_rgb(decoded))
    return {"bytes": n_bytes, "bpp": bits_per_pixel(n_bytes, width, height), "psnr": distance}


def evaluate(codec, pictures, qualities=LADDER, realisms=(0.0,), with_ms_ssim=True, perceptual=False, progress=True):
    """Compress and decompress every image at every quality; measure the files and the decoded pictures.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 or H,W uint8}; a gray one makes a gray file, and is measured as three equal channels.
        qualities, realisms: every pair is measured; the file is written once for all realisms.
        with_ms_ssim: measure MS-SSIM as well.
        perceptual: measure LPIPS, DISTS and the Frechet distance as well, which takes seconds per picture.

    Returns:
        DataFrame, one row per image, quality and realism: codec, image, quality, realism, bytes, bpp, psnr (dB),
        ms_ssim (nan below 161 pixels), encode_seconds, decode_seconds; with `perceptual` also lpips, dists and
        frechet, which is of all images together and the same in each of their rows.
    """
    rows = []
    distances = PerceptualDistances(pictures)
    jobs = [(name, quality) for name in pictures for quality in qualities]
    for name, quality in tqdm(jobs, desc=name_of(codec), unit="file", disable=not progress):
        pixels = pictures[name]
        began = time.perf_counter()
        data = codec.compress(pixels, quality=quality)
        encode_seconds = time.perf_counter() - began
        for realism in realisms:
            began = time.perf_counter()
            decoded = np.asarray(codec.decompress(data, realism=realism))
            decode_seconds = time.perf_counter() - began
            row = {"codec": name_of(codec), "image": name, "quality": quality, "realism": realism}
            row |= size_and_psnr(pixels, len(data), decoded)
            row["ms_ssim"] = ms_ssim_or_nan(pixels, decoded) if with_ms_ssim else np.nan
            row |= {"encode_seconds": round(encode_seconds, 3), "decode_seconds": round(decode_seconds, 3)}
            rows.append(row | (distances.of((quality, realism), name, decoded) if perceptual else {}))
    table = pd.DataFrame(rows)
    if perceptual:
        table["frechet"] = distances.frechet(list(zip(table["quality"], table["realism"])))
    return table


def evaluate_baselines(pictures, ladders=None, progress=True):
    """The baselines that are available on the same images: codec, quality, bytes, bpp, psnr, image.

    Args:
        pictures: {name: H,W,3 or H,W uint8}; gray ones are coded as Baseline.gray says, measured as three channels.
        ladders: {codec: qualities}; each codec's own ladder where left out.
    """
    jobs = [(codec, name) for codec in baselines.available() for name in pictures]
    tables = []
    for codec, name in tqdm(jobs, desc="baselines", unit="curve", disable=not progress):
        points = baselines.rd_points(codec, pictures[name], (ladders or {}).get(codec))
        tables.append(points.assign(image=name))
    return pd.concat(tables, ignore_index=True)


def some(names, number):
    """At most `number` of them, evenly spread."""
    names = list(names)
    return names[:: max(1, len(names) // number)][:number]


def at_realisms(codec, data, realisms):
    """One file of ours, decoded at each realism: {label: (bytes, H,W,3 uint8)}."""
    return {name_of(codec, r): (len(data), as_rgb(np.asarray(codec.decompress(data, r)))) for r in realisms}


def baselines_at_size(pixels, n_bytes, names=tuple(baselines.CODECS)):
    """The baselines of these names that are available, at about as many bytes: {name: (bytes, H,W,3 uint8)}."""
    files = {name: baselines.at_size(name, pixels, n_bytes)[0] for name in baselines.available() if name in names}
    return {name: (len(data), baselines.decode(data)) for name, data in files.items()}


def equal_bytes(codec, pictures, bpp, realisms=(0.0, 0.5, 1.0), keep=(), progress=True):
    """Our codec at each realism, and the baselines, at the same number of bytes for each picture.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 or H,W uint8}, as of `evaluate`.
        bpp: rate of every file of ours; the baselines' files come as near to its size as they can.
        keep: names of pictures to give back decoded.

    Returns:
        DataFrame, one row per picture and codec: image, codec, bytes, bpp, psnr, lpips, dists, frechet (see
        `evaluate`); and {name: {codec: (bytes, H,W,3 uint8)}} of the pictures in `keep`. A picture that takes more
        than `bpp` even at quality 0 is left out, and the log says so.

    Raises:
        ValueError: every picture takes more than `bpp`.
    """
    rows, kept = [], {}
    distances = PerceptualDistances(pictures)
    for name, pixels in tqdm(pictures.items(), desc=f"{bpp:g} bpp", unit="image", disable=not progress):
        try:
            data = codec.compress(pixels, target_bpp=bpp)
        except TargetSizeError:
            log.warning("%s takes more than %g bpp even at quality 0: left out", name, bpp)
            continue
        decoded = at_realisms(codec, data, realisms) | baselines_at_size(pixels, len(data))
        for label, (n_bytes, picture) in decoded.items():
            row = {"image": name, "codec": label, **size_and_psnr(pixels, n_bytes, picture)}
            rows.append(row | distances.of(label, name, picture))
        if name in keep:
            kept[name] = decoded
    if not rows:
        raise ValueError(f"no picture can be coded at {bpp:g} bpp: give larger ones, whose header is a smaller part")
    table = pd.DataFrame(rows)
    table["frechet"] = distances.frechet(list(table["codec"]))
    return table, kept


def mean_curves(table, by=("codec", "quality"), standard_errors=False):
    """Rows of single images -> means over the images, of every measure in the table.

    If some images are too small for a measure, its mean is over the others, and the log says how many these are.

    With `standard_errors`, each measure of single images gets another column, such as psnr_sem: the standard error
    of the mean, which is the deviation between images divided by the root of their number; nan for a single image.
    """
    groups = table.groupby(list(by), sort=False)[[column for column in MEANS if column in table]]
    means, sizes = groups.mean(), groups.size()
    for column, counts in groups.count().items():
        for count, size in sorted(set(zip(counts, sizes))):
            if 0 < count < size:
                log.info("%s: mean of %d of %d", column, count, size)
    if standard_errors:
        errors = groups.sem().drop(columns="frechet", errors="ignore")  # which is of all images together
        means = means.join(errors.add_suffix("_sem"))
    return means.reset_index()


def psnr_at(curve, bpp):
    """PSNR of a mean curve at given rates, linear in log(bpp); nan outside the curve."""
    curve = curve.sort_values("bpp")
    return np.interp(np.log(bpp), np.log(curve["bpp"]), curve["psnr"], left=np.nan, right=np.nan)


def bd_rate_or_nan(anchor, curve):
    """BD-rate in percent of a curve against an anchor, DataFrames of bpp and psnr; nan where bd_rate() raises."""
    try:
        return bd_rate(anchor["bpp"], anchor["psnr"], curve["bpp"], curve["psnr"])
    except ValueError as error:
        log.info("no BD-rate: %s", error)
        return np.nan


def bd_rates(curves, label):
    """BD-rate of one mean curve against each other one, in percent.

    Args:
        curves: DataFrame of codec, bpp, psnr.
        label: the codec that is compared with all others.

    Returns:
        DataFrame of codec, bd_rate_percent: below 0 where `label` needs fewer bits than that codec; nan where the
        two do not overlap enough.
    """
    curves = curves.drop_duplicates(["codec", "bpp", "psnr"])  # a recurrent codec has one file for several qualities
    subject = curves[curves["codec"] == label]
    rows = []
    for codec, curve in curves.groupby("codec", sort=False):
        if codec != label:
            rows.append({"codec": codec, "bd_rate_percent": bd_rate_or_nan(curve, subject)})
    return pd.DataFrame(rows)
