"""The report's tables and charts, regenerated from measurements."""

from pathlib import Path

import pandas as pd

from ganlib import datasets
from ganlib.evaluation import baselines, measure, plots
from ganlib.evaluation.comparisons import before_and_after, four_sizes, png_bytes
from ganlib.evaluation.measure import RATES, name_of

REPORT_BPP = 0.28  # where the tables look: about the report's own 35 kB for a megapixel
REALISMS = (0.0, 0.5, 1.0)
PARTS = ("sizes", "curves", "four-sizes")
# The embedded run must end within three minutes, so its curves have fewer points.
SHORT_LADDER = (0, 20, 40, 60, 85)
SHORT_ANCHORS = {
    "JPEG": (10, 20, 40, 60, 80),
    "JPEG 2000": (0.15, 0.3, 0.5, 0.8, 1.2),
    "WebP": (0, 20, 40, 60, 80),
    "AVIF": (25, 35, 45, 55, 65),
}


def size_table(measured, pictures, before):
    """The report's table two for every picture: size before, size after, ratio; and what an eye sees of it.

    Args:
        measured: DataFrame of `measure.equal_bytes`.
        pictures: {name: H,W,3 uint8}.
        before: {name: bytes of the PNG}.

    Returns:
        DataFrame of image, width, height, png_bytes, gic_bytes, ratio, bpp, and for each codec, on about as many
        bytes, psnr and lpips.
    """
    rows = []
    for name, group in measured.groupby("image", sort=False):
        ours = group.iloc[0]
        height, width = pictures[name].shape[:2]
        row = {"image": name, "width": width, "height": height, "png_bytes": before[name], "gic_bytes": ours["bytes"]}
        row |= {"ratio": round(before[name] / ours["bytes"], 1), "bpp": ours["bpp"]}
        for column in ("psnr", "lpips"):
            row |= {f"{column}, {codec}": value for codec, value in zip(group["codec"], group[column])}
        rows.append(row)
    return pd.DataFrame(rows)


def summary_table(curves):
    """PSNR at 0.20, 0.28 and 0.50 bpp, and our BD-rate against each, from mean curves: one row a codec."""
    rows = {name: measure.psnr_at(curve, RATES) for name, curve in curves.groupby("codec", sort=False)}
    table = pd.DataFrame(
        [
            {"codec": name, **{f"psnr at {r:.2f} bpp": v for r, v in zip(RATES, values)}}
            for name, values in rows.items()
        ]
    )
    rates = measure.bd_rates(curves).rename(columns={"anchor": "codec", "bd_rate_percent": "our BD-rate, %"})
    return table.merge(rates, how="left", on="codec")


def write_report(codec, out, folder=None, crops=4, parts=PARTS, stage_one=None, progress=True):
    """Measure, and write tables (CSV) and charts (PNG) into `out`.

        sizes:       sizes.csv       size before, after, ratio, PSNR and LPIPS, each image at 0.28 bpp
                     perception.csv  means over the images: PSNR, LPIPS, DISTS, Frechet distance on equal bytes
                     before_after_*.png  ours beside JPEG and AVIF; realism_*.png  the same file at realism 0, 0.5, 1
        curves:      points.csv      every file measured: codec, image, quality, bytes, bpp, PSNR
                     curves.csv      means over the images; curves.png draws them
                     summary.csv     PSNR at 0.20, 0.28, 0.50 bpp and BD-rate against ours, each codec
        four-sizes:  four_sizes.csv, four_sizes_*.png  the report's own sizes, before and after

    Args:
        codec: Codec.
        out: folder.
        folder: of images; the embedded photographs where None. 24 files named kodim*: Kodak, with the published
            curves in the chart.
        crops: number of pictures that are shown before and after.
        parts: which of the three.
        stage_one: Codec with the weights before the discriminator, for a row of its own in perception.csv.

    Returns:
        {name: Path} of what was written.

    Raises:
        NoImagesError, ImageError: there is nothing to measure, or an image cannot be coded as it is.
        ValueError: an unknown part.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    out = Path(out)
    if folder is None:
        pictures = datasets.embedded()
        before = {name: png_bytes(pixels) for name, pixels in pictures.items()}
        title, ladder, ladders = "embedded photographs", SHORT_LADDER, SHORT_ANCHORS
    else:
        files = datasets.image_files(folder)
        pictures = measure.load_all(files)
        before = {
            name: path.stat().st_size if path.suffix.lower() == ".png" else png_bytes(pictures[name])
            for name, path in zip(pictures, files)
        }
        title, ladder, ladders = Path(folder).name, measure.LADDER, None
    is_kodak = folder is not None and len(pictures) == 24 and all(name.startswith("kodim") for name in pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = {}

    def keep(name, thing):
        written[name] = out / name
        if isinstance(thing, pd.DataFrame):
            thing.to_csv(out / name, index=False, float_format="%.4f")
        else:
            plots.save(thing, out / name)

    if "sizes" in parts:
        shown = list(pictures)[:: max(1, len(pictures) // crops)][:crops]
        measured, kept = measure.equal_bytes(codec, pictures, REPORT_BPP, REALISMS, stage_one, shown, progress)
        keep("sizes.csv", size_table(measured, pictures, before))
        keep("perception.csv", measure.mean_curves(measured, by=["codec"]))
        ours = [name_of(realism) for realism in REALISMS]
        for name in shown:
            lpips = measured[measured["image"] == name].set_index("codec")["lpips"]
            for kind, labels in (("before_after", [ours[-1], "JPEG", "AVIF"]), ("realism", ours)):
                figure = before_and_after(pictures[name], kept[name], before[name], lpips, labels)
                keep(f"{kind}_{name}.png", figure)

    if "curves" in parts:
        ours = measure.evaluate(codec, pictures, ladder, with_ms_ssim=False, progress=progress)
        theirs = measure.evaluate_anchors(pictures, ladders, progress)
        points = pd.concat([ours[theirs.columns], theirs], ignore_index=True)
        keep("points.csv", points)
        curves = measure.mean_curves(points)
        keep("curves.csv", curves)
        published = baselines.published("kodak", baselines.PUBLISHED) if is_kodak else None
        heading = f"Mean over {len(pictures)} images ({'Kodak' if is_kodak else title}), bytes of whole files"
        keep("curves.png", plots.rate_distortion(curves, published, heading))
        if is_kodak:
            named = published.assign(codec=published["codec"].map(baselines.PUBLISHED))
            curves = pd.concat([curves, named[["codec", "bpp", "psnr"]]], ignore_index=True)
        keep("summary.csv", summary_table(curves))

    if "four-sizes" in parts:
        table, figures = four_sizes(codec, pictures, progress=progress)
        if len(table):
            keep("four_sizes.csv", table)
        for kilobytes, figure in figures.items():
            keep(f"four_sizes_{kilobytes}kB.png", figure)
    return written
