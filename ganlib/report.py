"""The report's tables and charts, regenerated from measurements."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from ganlib import anchors, datasets, evaluation, plots
from ganlib.metrics import bits_per_pixel, psnr

REPORT_BPP = 0.28  # where the tables look: about the report's own 35 kB for a megapixel
RATES = (0.20, 0.28, 0.50)
CROP = 256  # side in pixels of a before/after crop
# The embedded run must end within three minutes, so its curves have fewer points.
SHORT_LADDER = (0, 20, 40, 60, 85)
SHORT_ANCHORS = {
    "JPEG": (10, 20, 40, 60, 80),
    "JPEG 2000": (0.15, 0.3, 0.5, 0.8, 1.2),
    "WebP": (0, 20, 40, 60, 80),
    "AVIF": (25, 35, 45, 55, 65),
}


def png_bytes(pixels):
    """Size of the picture as an optimized PNG: what "before" means where the file at hand is no PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return len(file.getvalue())


def size_table(codec, pictures, before, progress=True):
    """The report's table two: size before, size after, ratio; and the PSNR without which a ratio says nothing.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        before: {name: bytes of the PNG}.

    Returns:
        DataFrame of image, width, height, png_bytes, gic_bytes, ratio, bpp, psnr, and the PSNR of JPEG, WebP and
        AVIF at about the same number of bytes; and {name: bytes of our file}.
    """
    rows, files = [], {}
    for name, pixels in tqdm(pictures.items(), desc="sizes", unit="image", disable=not progress):
        height, width = pixels.shape[:2]
        data = files[name] = codec.compress(pixels, target_bpp=REPORT_BPP)
        row = {
            "image": name,
            "width": width,
            "height": height,
            "png_bytes": before[name],
            "gic_bytes": len(data),
            "ratio": round(before[name] / len(data), 1),
            "bpp": round(bits_per_pixel(len(data), width, height), 4),
            "psnr": round(psnr(pixels, np.asarray(codec.decompress(data))), 2),
        }
        for anchor in ("JPEG", "WebP", "AVIF"):
            if anchor in anchors.available():
                coded, _ = anchors.at_size(anchor, pixels, len(data))
                row[f"{anchor} bytes"] = len(coded)
                row[f"{anchor} psnr"] = round(psnr(pixels, anchors.decode(coded)), 2)
        rows.append(row)
    return pd.DataFrame(rows), files


def busiest_crop(pixels, side=CROP):
    """(x0, y0, x1, y1) of the square with the most detail, on a grid of half its side: where codecs differ."""
    height, width = pixels.shape[:2]
    side = min(side, height, width)
    gray = pixels.astype(np.float32).mean(axis=2)
    detail = np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(gray, axis=1))[:-1]
    corners = [
        (x, y)
        for y in range(0, height - side + 1, side // 2 or 1)
        for x in range(0, width - side + 1, side // 2 or 1)
    ]
    x, y = max(corners, key=lambda c: detail[c[1] : c[1] + side, c[0] : c[0] + side].sum())
    return x, y, x + side, y + side


def picture_of(pixels, data, codec, before):
    """Before/after figure of one image: original, ours, and JPEG at the same bytes, cropped."""
    jpeg, _ = anchors.at_size("JPEG", pixels, len(data))
    return plots.before_after(
        pixels,
        [np.asarray(codec.decompress(data)), anchors.decode(jpeg)],
        [evaluation.OURS, "JPEG at the same bytes"],
        [len(data), len(jpeg)],
        original_bytes=before,
        crop=busiest_crop(pixels),
    )


def write_report(codec, out, folder=None, crops=4, progress=True):
    """Measure, and write tables (CSV) and charts (PNG) into `out`.

        sizes.csv      size before, after, ratio, PSNR, each image at 0.28 bpp
        points.csv     every file measured: codec, image, quality, bytes, bpp, PSNR
        curves.csv     means over the images; curves.png draws them
        summary.csv    PSNR at 0.20, 0.28, 0.50 bpp and BD-rate against ours, each codec
        before_after_*.png

    Args:
        codec: Codec.
        out: folder.
        folder: of images; the embedded photographs where None. 24 files named kodim*: Kodak, with the published
            curves in the chart.
        crops: number of before/after pictures.

    Returns:
        {name: Path} of what was written.

    Raises:
        NoImagesError, ImageError: there is nothing to measure, or an image cannot be coded as it is.
    """
    out = Path(out)
    if folder is None:
        pictures = datasets.embedded()
        before = {name: png_bytes(pixels) for name, pixels in pictures.items()}
        title, ladder, ladders = "embedded photographs", SHORT_LADDER, SHORT_ANCHORS
    else:
        files = datasets.image_files(folder)
        pictures = evaluation.load_all(files)
        before = {
            name: path.stat().st_size if path.suffix.lower() == ".png" else png_bytes(pictures[name])
            for name, path in zip(pictures, files)
        }
        title, ladder, ladders = Path(folder).name, evaluation.LADDER, None
    is_kodak = folder is not None and len(pictures) == 24 and all(name.startswith("kodim") for name in pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {}

    def keep(name, thing):
        written[name] = out / name
        if isinstance(thing, pd.DataFrame):
            thing.to_csv(out / name, index=False, float_format="%.4f")
        else:
            plots.save(thing, out / name)

    sizes, coded = size_table(codec, pictures, before, progress)
    keep("sizes.csv", sizes)
    ours = evaluation.evaluate(codec, pictures, ladder, with_ms_ssim=False, progress=progress)
    theirs = evaluation.evaluate_anchors(pictures, ladders, progress)
    points = pd.concat([ours[theirs.columns], theirs], ignore_index=True)
    keep("points.csv", points)
    curves = evaluation.mean_curves(points)
    keep("curves.csv", curves)

    published = anchors.published("kodak", anchors.PUBLISHED) if is_kodak else None
    heading = f"Mean over {len(pictures)} images ({'Kodak' if is_kodak else title}), bytes of whole files"
    keep("curves.png", plots.rate_distortion(curves, published, heading))

    everything = curves
    if is_kodak:
        named = published.assign(codec=published["codec"].map(anchors.PUBLISHED))
        everything = pd.concat([curves, named[["codec", "bpp", "psnr"]]], ignore_index=True)
    rows = {name: evaluation.psnr_at(curve, RATES) for name, curve in everything.groupby("codec", sort=False)}
    summary = pd.DataFrame(
        [
            {"codec": name, **{f"psnr at {r:.2f} bpp": v for r, v in zip(RATES, values)}}
            for name, values in rows.items()
        ]
    )
    rates = evaluation.bd_rates(everything).rename(columns={"anchor": "codec", "bd_rate_percent": "our BD-rate, %"})
    keep("summary.csv", summary.merge(rates, how="left", on="codec"))

    for name in list(pictures)[:: max(1, len(pictures) // crops)][:crops]:
        keep(f"before_after_{name}.png", picture_of(pictures[name], coded[name], codec, before[name]))
    return written
