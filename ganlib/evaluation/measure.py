"""What a codec does to a folder of images, in real bytes and rounded pixels."""

import time

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ganlib.codec import image_io
from ganlib.evaluation import baselines, metrics
from ganlib.evaluation.metrics import MS_SSIM_SIDE, PERCEPTUAL_SIDE, bd_rate, bits_per_pixel, ms_ssim, psnr
from ganlib.model.perceptual_networks import has_vgg16

# Quality levels of our own curve: dense where the report looks, 0.15 to 1 bpp.
LADDER = (0, 10, 20, 30, 40, 50, 60, 70, 80, 100)
OURS = "ganlib light"
RATES = (0.20, 0.28, 0.50)  # bits per pixel at which PSNR is quoted
MEANS = ("bytes", "bpp", "psnr", "ms_ssim", "lpips", "dists", "frechet")  # columns that are averaged over images


def load_all(files):
    """Paths -> {name: H,W,3 uint8}. ImageError where one cannot be coded as it is."""
    loaded = {}
    for path in files:
        pixels = image_io.as_rgb(image_io.load(path).pixels)
        name = path.stem if path.stem not in loaded else path.name
        loaded[name] = pixels
    return loaded


def lpips_or_nan(pixels, decoded):
    """LPIPS, or nan where the picture is too small for it."""
    return metrics.lpips(pixels, decoded) if min(pixels.shape[:2]) >= PERCEPTUAL_SIDE else np.nan


class Eye:
    """LPIPS and DISTS of each picture, and the Frechet distance of all that one way of coding gave back.

    DISTS and the Frechet distance are nan where VGG16 is not on this machine, the Frechet distance also where the
    pictures have too few patches for it.
    """

    def __init__(self, pictures):
        self.pictures, self.seen, self.originals = pictures, {}, {}

    def look(self, way, name, decoded):
        """One decoded picture -> {"lpips", "dists"}; `way` is any key that tells apart ways of coding."""
        pixels = self.pictures[name]
        if min(pixels.shape[:2]) < PERCEPTUAL_SIDE:
            return {"lpips": np.nan, "dists": np.nan}
        if not has_vgg16():
            return {"lpips": lpips_or_nan(pixels, decoded), "dists": np.nan}
        if name not in self.originals:
            self.originals[name] = metrics.patch_features(pixels)
        self.seen.setdefault(way, {})[name] = metrics.patch_features(decoded)
        return {"lpips": metrics.lpips(pixels, decoded), "dists": metrics.dists(pixels, decoded)}

    def frechet(self, way):
        """Frechet distance over all pictures that were looked at for this way of coding."""
        coded = self.seen.get(way, {})
        if sum(map(len, coded.values())) < metrics.PATCHES_MIN:
            return np.nan
        originals = np.concatenate([self.originals[name] for name in coded])
        return metrics.frechet_distance(originals, np.concatenate(list(coded.values())))


def size_and_psnr(pixels, n_bytes, decoded):
    """What a file costs and gives back: {"bytes", "bpp", "psnr"}."""
    height, width = pixels.shape[:2]
    return {"bytes": n_bytes, "bpp": bits_per_pixel(n_bytes, width, height), "psnr": psnr(pixels, decoded)}


def evaluate(
    codec, pictures, qualities=LADDER, realisms=(0.0,), label=OURS, with_ms_ssim=True, perceptual=False, progress=True
):
    """Compress and decompress every image at every quality; measure the files and what comes back.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        qualities, realisms: every pair is measured; the file is written once for all realisms.
        perceptual: also look as people do, which takes seconds a picture.

    Returns:
        DataFrame, one row an image, quality and realism: codec, image, quality, realism, bytes, bpp, psnr (dB),
        ms_ssim (nan below 161 pixels), encode_seconds, decode_seconds; with `perceptual` also lpips, dists and
        frechet, the last being of all images together and the same in each of their rows (see Eye).
    """
    rows = []
    eye = Eye(pictures)
    jobs = [(name, quality) for name in pictures for quality in qualities]
    for name, quality in tqdm(jobs, desc=label, unit="file", disable=not progress):
        pixels = pictures[name]
        large_enough = min(pixels.shape[:2]) >= MS_SSIM_SIDE
        began = time.perf_counter()
        data = codec.compress(pixels, quality=quality)
        encoded = time.perf_counter() - began
        for realism in realisms:
            began = time.perf_counter()
            decoded = np.asarray(codec.decompress(data, realism=realism))
            took = time.perf_counter() - began
            row = {
                "codec": label,
                "image": name,
                "quality": quality,
                "realism": realism,
                **size_and_psnr(pixels, len(data), decoded),
                "ms_ssim": ms_ssim(pixels, decoded) if with_ms_ssim and large_enough else np.nan,
                "encode_seconds": round(encoded, 3),
                "decode_seconds": round(took, 3),
            }
            rows.append(row | (eye.look((quality, realism), name, decoded) if perceptual else {}))
    table = pd.DataFrame(rows)
    if perceptual:
        table["frechet"] = [eye.frechet(way) for way in zip(table["quality"], table["realism"])]
    return table


def name_of(realism):
    """What tables and captions call our codec at a realism."""
    return f"{OURS}, realism {realism:g}"


def at_realisms(codec, data, realisms):
    """One file of ours, decoded at each realism: {codec: (bytes, H,W,3 uint8)}."""
    return {name_of(r): (len(data), np.asarray(codec.decompress(data, r))) for r in realisms}


def anchors_at_size(pixels, n_bytes, names=tuple(baselines.CODECS)):
    """The anchors of these names that this Pillow has, on about as many bytes: {codec: (bytes, H,W,3 uint8)}."""
    files = {name: baselines.at_size(name, pixels, n_bytes)[0] for name in names if name in baselines.available()}
    return {name: (len(data), baselines.decode(data)) for name, data in files.items()}


def equal_bytes(codec, pictures, bpp, realisms=(0.0, 0.5, 1.0), stage_one=None, keep=(), progress=True):
    """Our codec, at each realism, and the anchors on the same number of bytes: what an eye sees of each.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        bpp: rate of every file of ours; the anchors' files come as near to its size as they can.
        stage_one: Codec before it met the discriminator, to decode the same files; None leaves it out.
        keep: names of pictures to give back decoded.

    Returns:
        DataFrame, one row a picture and codec: image, codec, bytes, bpp, psnr, lpips, dists, frechet (see
        `evaluate`); and {name: {codec: (bytes, H,W,3 uint8)}} of the pictures in `keep`.
    """
    rows, kept = [], {}
    eye = Eye(pictures)
    for name, pixels in tqdm(pictures.items(), desc=f"{bpp:g} bpp", unit="image", disable=not progress):
        data = codec.compress(pixels, target_bpp=bpp)
        decoded = at_realisms(codec, data, realisms)
        if stage_one is not None:
            decoded[f"{OURS}, stage one"] = len(data), np.asarray(stage_one.decompress(data))
        decoded |= anchors_at_size(pixels, len(data))
        for label, (n_bytes, picture) in decoded.items():
            row = {"image": name, "codec": label, **size_and_psnr(pixels, n_bytes, picture)}
            rows.append(row | eye.look(label, name, picture))
        if name in keep:
            kept[name] = decoded
    table = pd.DataFrame(rows)
    table["frechet"] = [eye.frechet(label) for label in table["codec"]]
    return table, kept


def evaluate_anchors(pictures, qualities=None, progress=True):
    """JPEG, JPEG 2000, WebP and AVIF on the same images: codec, image, quality, bytes, bpp, psnr.

    Args:
        pictures: {name: H,W,3 uint8}.
        qualities: {codec: qualities}; each codec's own ladder where left out.
    """
    jobs = [(codec, name) for codec in baselines.available() for name in pictures]
    tables = []
    for codec, name in tqdm(jobs, desc="anchors", unit="curve", disable=not progress):
        points = baselines.rd_points(codec, pictures[name], (qualities or {}).get(codec))
        tables.append(points.assign(image=name))
    return pd.concat(tables, ignore_index=True)


def mean_curves(table, by=("codec", "quality")):
    """Rows of single images -> means over the images, of every measure in the table."""
    columns = [column for column in MEANS if column in table]
    return table.groupby(list(by), sort=False)[columns].mean().reset_index()


def psnr_at(curve, bpp):
    """PSNR of a mean curve at given rates, linear in log(bpp); nan outside the curve."""
    curve = curve.sort_values("bpp")
    return np.interp(np.log(bpp), np.log(curve["bpp"]), curve["psnr"], left=np.nan, right=np.nan)


def bd_rates(curves, label=OURS):
    """BD-rate of our mean curve against each other one, in percent; nan where they do not overlap enough."""
    ours = curves[curves["codec"] == label]
    rows = []
    for anchor, curve in curves.groupby("codec", sort=False):
        if anchor != label:
            try:
                rate = bd_rate(curve["bpp"], curve["psnr"], ours["bpp"], ours["psnr"])
            except ValueError:
                rate = np.nan
            rows.append({"anchor": anchor, "bd_rate_percent": rate})
    return pd.DataFrame(rows)
