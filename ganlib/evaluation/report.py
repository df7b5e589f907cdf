"""The results: the tables and charts of the original report, regenerated from measurements."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ganlib import datasets
from ganlib.atomic_write import atomic_write, check_writable
from ganlib.evaluation import cited, measure, plots
from ganlib.evaluation.comparisons import before_and_after, four_sizes, middle_crops, png_bytes
from ganlib.evaluation.measure import RATES, name_of
from ganlib.evaluation.published import PUBLISHED, published
from ganlib.folders import printable

REPORT_BPP = 0.28  # rate of the tables: about the report's own 35 kB for a megapixel
REALISMS = (0.0, 0.5, 1.0)
PARTS = ("sizes", "curves", "four-sizes", "cited")
CROPS, SHOWN = 12, 4  # pictures whose middle crops.png shows, and those that have figures of their own
# Curves of fewer points for the embedded photographs, so that `make report` takes a few minutes.
SHORT_LADDER = (0, 20, 40, 60, 85)
SHORT_BASELINES = {
    "JPEG": (10, 20, 40, 60, 80),
    "JPEG 2000": (0.15, 0.3, 0.5, 0.8, 1.2),
    "WebP": (0, 20, 40, 60, 80),
    "AVIF": (25, 35, 45, 55, 65),
    "JPEG XL": (5, 20, 40, 60, 80),
    "HEIC": (12, 20, 28, 36, 44),
}


@dataclass(frozen=True)
class Photographs:
    """The pictures to measure.

    pixels: {name: H,W,3 or H,W uint8}.
    png_bytes: {name: bytes of the PNG}, the file's own size where it is one.
    title: of the set, for the chart.
    """

    pixels: dict
    png_bytes: dict
    title: str

    @property
    def is_kodak(self):
        return len(self.pixels) == 24 and all(name.startswith("kodim") for name in self.pixels)

    @property
    def name(self):
        """For titles."""
        return "Kodak" if self.is_kodak else self.title


def photographs(folder=None):
    """The pictures of a folder, or the embedded photographs where it is None -> Photographs."""
    if folder is None:
        pixels = datasets.embedded()
        return Photographs(pixels, {name: png_bytes(p) for name, p in pixels.items()}, "embedded photographs")
    files = datasets.image_files(folder)
    pixels = measure.load_all(files)
    sizes = {
        name: file.stat().st_size if file.suffix.lower() == ".png" else png_bytes(pixels[name])
        for name, file in zip(pixels, files)
    }
    return Photographs(pixels, sizes, printable(Path(folder).name))


def size_table(measured, photos):
    """The report's table two for every picture: size before, size after and their ratio, with PSNR and LPIPS.

    Args:
        measured: DataFrame of `measure.equal_bytes`, our codec's row the first of each picture.
        photos: Photographs.

    Returns:
        DataFrame of image, width, height, png_bytes, gic_bytes, ratio, bpp, and for each codec, at about as many
        bytes, psnr and lpips.
    """
    rows = []
    for name, group in measured.groupby("image", sort=False):
        ours, png = group.iloc[0], photos.png_bytes[name]
        height, width = photos.pixels[name].shape[:2]
        row = {"image": name, "width": width, "height": height, "png_bytes": png, "gic_bytes": ours["bytes"]}
        row |= {"ratio": round(png / ours["bytes"], 1), "bpp": ours["bpp"]}
        for column in ("psnr", "lpips"):
            row |= {f"{column}, {codec}": value for codec, value in zip(group["codec"], group[column])}
        rows.append(row)
    return pd.DataFrame(rows)


def summary_table(curves, label):
    """One row per codec of mean curves: PSNR at 0.20, 0.28 and 0.50 bpp, and BD-rate of codec `label` against it."""
    rows = []
    for codec, curve in curves.groupby("codec", sort=False):
        values = zip(RATES, measure.psnr_at(curve, RATES))
        rows.append({"codec": codec, **{f"psnr at {rate:.2f} bpp": value for rate, value in values}})
    rates = measure.bd_rates(curves, label).rename(columns={"bd_rate_percent": "our BD-rate, %"})
    return pd.DataFrame(rows).merge(rates, how="left", on="codec")


def _sizes(codec, photos, progress):
    """Tables and pictures at equal bytes, as (file name, DataFrame or Figure)."""
    keep = measure.some(photos.pixels, CROPS)
    measured, kept = measure.equal_bytes(codec, photos.pixels, REPORT_BPP, REALISMS, keep, progress)
    yield "sizes.csv", size_table(measured, photos)
    yield "perception.csv", measure.mean_curves(measured, by=["codec"], standard_errors=True)
    ours = [name_of(codec, realism) for realism in REALISMS]
    yield "crops.png", middle_crops(photos.pixels, kept, [ours[0], ours[-1]])
    for name in measure.some(kept, SHOWN):
        lpips = measured[measured["image"] == name].set_index("codec")["lpips"]
        for kind, labels in (("before_after", [ours[-1], "JPEG", "AVIF"]), ("realism", ours)):
            figure = before_and_after(photos.pixels[name], kept[name], photos.png_bytes[name], lpips, labels)
            yield f"{kind}_{name}.png", figure


def _curves(codec, photos, short, progress):
    """Rate-distortion curves as points, means, chart and summary, as (file name, DataFrame or Figure)."""
    ladder, ladders = (SHORT_LADDER, SHORT_BASELINES) if short else (measure.LADDER, None)
    ours = measure.evaluate(codec, photos.pixels, ladder, with_ms_ssim=False, progress=progress)
    theirs = measure.evaluate_baselines(photos.pixels, ladders, progress)
    points = pd.concat([ours[theirs.columns], theirs], ignore_index=True)
    yield "points.csv", points
    curves = measure.mean_curves(points, standard_errors=True)
    yield "curves.csv", curves
    others = published("kodak", PUBLISHED) if photos.is_kodak else None
    compared = [curves]
    if others is not None:
        compared.append(others.assign(codec=others["codec"].map(PUBLISHED))[["codec", "bpp", "psnr"]])
    yield "summary.csv", summary_table(pd.concat(compared, ignore_index=True), name_of(codec))
    title = f"Mean over {len(photos.pixels)} images ({photos.name}), bytes of whole files"
    yield "curves.png", plots.rate_distortion(curves, others, title)


def _four_sizes(codec, photos, progress):
    """The four sizes of the original report, as (file name, DataFrame or Figure)."""
    table, figures = four_sizes(codec, photos.pixels, progress=progress)
    if len(table):
        yield "four_sizes.csv", table
    for kilobytes, figure in figures.items():
        yield f"four_sizes_{kilobytes}kB.png", figure


def _cited(photos, progress):
    """The five cited models in miniature beside what their papers published, as (file name, DataFrame or Figure)."""
    if codecs := cited.load_miniatures():
        curves = cited.quick_curves(codecs, photos.pixels, progress)
        yield "cited.csv", curves.dropna(axis="columns")
        yield "cited.png", cited.chart(curves, photos.pixels, photos.name)


def write_report(codec, out, folder=None, parts=PARTS, progress=True):
    """Measure, and write tables (CSV) and charts (PNG) into `out`.

        sizes:       sizes.csv       size before, after, ratio, PSNR and LPIPS, each image at 0.28 bpp
                     perception.csv  means over the images: PSNR, LPIPS, DISTS, Frechet distance at equal bytes
                     crops.png       the middle of twelve images: original, realism 0, realism 1
                     before_after_*.png  ours beside JPEG and AVIF; realism_*.png  the same file at realism 0, 0.5, 1
        curves:      points.csv      every file measured: codec, image, quality, bytes, bpp, PSNR
                     curves.csv      means over the images with standard errors; curves.png draws them
                     summary.csv     PSNR at 0.20, 0.28, 0.50 bpp, and our BD-rate against each codec
        four-sizes:  four_sizes.csv, four_sizes_*.png  the report's own sizes, before and after
        cited:       cited.csv       means of the five cited models in miniature, of `mini` and of JPEG
                     cited.png       two panels: those, and what the papers published

    Args:
        codec: Codec.
        out: folder.
        folder: of images; the embedded photographs where None. 24 files named kodim*: Kodak, with the published
            curves in the chart.
        parts: which of the four.

    Returns:
        {name: Path} of what was written.

    Raises:
        NoImagesError, ImageError: there is nothing to measure, or an image cannot be coded as it is.
        ValueError: an unknown part.
        OSError: `out` cannot be written to; raised before anything is measured.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    out, photos = Path(out), photographs(folder)
    check_writable(out / "any.csv")
    regenerated = {
        "sizes": _sizes(codec, photos, progress),
        "curves": _curves(codec, photos, folder is None, progress),
        "four-sizes": _four_sizes(codec, photos, progress),
        "cited": _cited(photos, progress),
    }
    written = {}
    for part in PARTS:
        for name, result in regenerated[part] if part in parts else ():
            written[name] = out / name
            if isinstance(result, pd.DataFrame):
                with atomic_write(out / name) as file:
                    result.to_csv(file, index=False, float_format="%.4f")
            else:
                plots.save(result, out / name)
    return written
