"""What a codec does to a folder of images, in real bytes and rounded pixels."""

import time

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ganlib import anchors, images
from ganlib.metrics import MS_SSIM_SIDE, bd_rate, bits_per_pixel, ms_ssim, psnr

# Quality levels of our own curve: dense where the report looks, 0.15 to 1 bpp.
LADDER = (0, 10, 20, 30, 40, 50, 60, 70, 80, 100)
OURS = "ganlib light"


def load_all(files):
    """Paths -> {name: H,W,3 uint8}. ImageError where one cannot be coded as it is."""
    loaded = {}
    for path in files:
        pixels = images.load(path).pixels
        name = path.stem if path.stem not in loaded else path.name
        loaded[name] = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    return loaded


def evaluate(codec, pictures, qualities=LADDER, realisms=(0.0,), label=OURS, with_ms_ssim=True, progress=True):
    """Compress and decompress every image at every quality; measure the files and what comes back.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        qualities, realisms: every pair is measured; the file is written once for all realisms.

    Returns:
        DataFrame, one row an image, quality and realism: codec, image, quality, realism, bytes, bpp, psnr (dB),
        ms_ssim (nan below 161 pixels), encode_seconds, decode_seconds.
    """
    rows = []
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
            rows.append(
                {
                    "codec": label,
                    "image": name,
                    "quality": quality,
                    "realism": realism,
                    "bytes": len(data),
                    "bpp": bits_per_pixel(len(data), pixels.shape[1], pixels.shape[0]),
                    "psnr": psnr(pixels, decoded),
                    "ms_ssim": ms_ssim(pixels, decoded) if with_ms_ssim and large_enough else np.nan,
                    "encode_seconds": round(encoded, 3),
                    "decode_seconds": round(took, 3),
                }
            )
    return pd.DataFrame(rows)


def evaluate_anchors(pictures, qualities=None, progress=True):
    """JPEG, JPEG 2000, WebP and AVIF on the same images: codec, image, quality, bytes, bpp, psnr.

    Args:
        pictures: {name: H,W,3 uint8}.
        qualities: {codec: qualities}; each codec's own ladder where left out.
    """
    jobs = [(codec, name) for codec in anchors.available() for name in pictures]
    tables = []
    for codec, name in tqdm(jobs, desc="anchors", unit="curve", disable=not progress):
        points = anchors.rd_points(codec, pictures[name], (qualities or {}).get(codec))
        tables.append(points.assign(image=name))
    return pd.concat(tables, ignore_index=True)


def mean_curves(table):
    """Rows of single images -> means over the images at each quality of each codec: codec, quality, bpp, psnr."""
    columns = [column for column in ("bpp", "psnr", "ms_ssim") if column in table]
    return table.groupby(["codec", "quality"], sort=False)[columns].mean().reset_index()


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
