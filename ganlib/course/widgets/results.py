"""The results explorer: curves of files that were measured here, and the picture behind each point."""

from dataclasses import dataclass

import ipywidgets as ui
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ganlib.course.widgets.base import Busy, Latest, Picture, reporting, row
from ganlib.course.widgets.comparison import ComparisonViewer, Version, comparison_view, measured_version
from ganlib.evaluation import baselines, measure, plots
from ganlib.evaluation.comparisons import png_bytes
from ganlib.evaluation.report import SHORT_BASELINES, SHORT_LADDER

METRICS = {"psnr": "PSNR (dB)", "lpips": "LPIPS (lower is better)", "ms_ssim": "MS-SSIM"}  # and their axes
REALISMS = (0.0, 1.0)
CHART_DPI = 90  # of the panel's chart, 810 pixels wide
RING = dict(s=260, facecolors="none", edgecolors="#D00000", linewidths=2, zorder=6)


@dataclass(frozen=True)
class Measured:
    """Files of several codecs, and the measures of each.

    points: DataFrame, one row per codec, image and quality: codec, image, quality, bytes, bpp, psnr, lpips, ms_ssim.
    files: {(codec, image, quality): (bytes of the file, realism to decode it at, None for the baselines)}.
    """

    points: pd.DataFrame
    files: dict


def _look(pixels, decoded):
    return {"lpips": measure.lpips_or_nan(pixels, decoded), "ms_ssim": measure.ms_ssim_or_nan(pixels, decoded)}


def measure_files(codec, pictures, qualities=SHORT_LADDER, ladders=None, progress=True):
    """Code every picture with every codec and keep the files.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        qualities: of our files; each is decoded at every one of REALISMS.
        ladders: {baseline: qualities}; SHORT_BASELINES where None. Those that Pillow cannot write here are left out.

    Returns:
        Measured.
    """
    ladders = {name: ladder for name, ladder in (ladders or SHORT_BASELINES).items() if name in baselines.available()}
    rows, files = [], {}

    def add(name, image, quality, data, realism=None):
        files[name, image, quality] = data, realism
        decoded = decode(codec, data, realism)
        pixels = pictures[image]
        row = {"codec": name, "image": image, "quality": quality}
        rows.append(row | measure.size_and_psnr(pixels, len(data), decoded) | _look(pixels, decoded))

    for image, pixels in tqdm(pictures.items(), desc="files", unit="image", disable=not progress):
        for quality in qualities:
            data = codec.compress(pixels, quality=quality)
            for realism in REALISMS:
                add(measure.name_of(codec, realism), image, quality, data, realism)
        for name, ladder in ladders.items():
            for quality in ladder:
                add(name, image, quality, baselines.encode(name, pixels, quality))
    order = {name: i for i, name in enumerate([*(measure.name_of(codec, realism) for realism in REALISMS), *ladders])}
    points = pd.DataFrame(rows).sort_values("codec", key=lambda names: names.map(order), kind="stable")
    return Measured(points.reset_index(drop=True), files)


def decode(codec, data, realism):
    """A file of ours at a realism, or of a baseline where realism is None -> H,W,3 uint8."""
    return baselines.decode(data) if realism is None else np.asarray(codec.decompress(data, realism=realism))


def means(points, codecs, images):
    """Rows of `Measured.points` of these codecs and images -> means over the images, one row per codec and quality.

    Raises:
        ValueError: no codec or no image is chosen.
    """
    for chosen, what in ((codecs, "codec"), (images, "image")):
        if not len(chosen):
            raise ValueError(f"choose at least one {what}")
    rows = points[points["codec"].isin(codecs) & points["image"].isin(images)]
    return rows.groupby(["codec", "quality"], sort=False)[["bytes", "bpp", *METRICS]].mean().reset_index()


def results_chart(points, codecs, images, metric="psnr", ring=None):
    """The curves of some codecs, averaged over some images, and a ring around one of the points.

    Args:
        points: DataFrame of `Measured`.
        codecs, images: names, of those in the table.
        metric: a key of METRICS. LPIPS is a distance: its curves fall.
        ring: (codec, quality) of the point to mark; None for no ring; a point that is not drawn gets none.

    Returns:
        Figure.
    """
    curves = means(points, codecs, images)
    over = images[0] if len(images) == 1 else f"mean over {len(images)} images"
    figure = plots.rate_distortion(curves, title=f"{over}, bytes of whole files", metric=metric)
    figure.axes[0].set_ylabel(METRICS[metric])
    if ring is not None:
        at = curves[(curves["codec"] == ring[0]) & (curves["quality"] == ring[1])]
        figure.axes[0].scatter(at["bpp"], at[metric], **RING)
    figure.set_dpi(CHART_DPI)
    return figure


def point_versions(codec, measured, pictures, name, quality, image):
    """The pictures of one point: the original, and its file, decoded now.

    Args:
        codec: Codec that wrote our files.
        measured: Measured.
        pictures: {name: H,W,3 uint8}.
        name, quality, image: which file.

    Returns:
        Two Versions, to be compared in a ComparisonViewer.

    Raises:
        ValueError: no such file was measured.
    """
    if (name, image, quality) not in measured.files:
        raise ValueError(f"{image} was not coded by {name} at quality {quality}: choose a point of the table")
    data, realism = measured.files[name, image, quality]
    pixels, decoded = pictures[image], decode(codec, data, realism)
    original = Version("original", pixels, f"{png_bytes(pixels):,} bytes as PNG")
    return [original, measured_version(name, pixels, decoded, len(data), f"quality {quality:g}")]


def point_picture(codec, measured, pictures, name, quality, image):
    """The same as a Figure: the crop with the most detail, pixel for pixel. (Arguments as of point_versions.)"""
    return comparison_view(point_versions(codec, measured, pictures, name, quality, image))


class ResultsExplorer(ui.VBox):
    """Choose codecs, metric and images; choose a point of the chart, and see its picture.

    Args:
        codec: Codec that wrote our files.
        measured: Measured.
        pictures: {name: H,W,3 uint8}, those that were measured.
    """

    def __init__(self, codec, measured, pictures):
        self.codec, self.measured, self.pictures = codec, measured, pictures
        codecs, images = (list(measured.points[column].unique()) for column in ("codec", "image"))
        rows = dict(rows=max(3, len(codecs)))
        self.codecs = ui.SelectMultiple(options=codecs, value=codecs, description="codecs", **rows)
        self.images = ui.SelectMultiple(options=images, value=images, description="images", **rows)
        drawable = [metric for metric in METRICS if measured.points[metric].notna().any()]
        self.metric = ui.Dropdown(options=drawable, description="metric")
        self.point = ui.Select(description="point", rows=8, layout=ui.Layout(width="420px"))
        self.picture = ui.Dropdown(description="look at", options=images)
        self.status, self.busy, self.chart = ui.HTML(), Busy(), Picture()
        self.viewer = ComparisonViewer([Version("original", pictures[images[0]])] * 2)
        self.latest = Latest(reporting(self.status, self._show), busy=self.busy)
        hint = ui.HTML("Hold Ctrl or Shift and click to choose several. Points: rate and metric, means over images.")
        choices = row(self.codecs, self.images, ui.VBox([self.metric, self.picture, self.busy]))
        below = [hint, self.status, self.chart, self.point, self.viewer]
        super().__init__([choices, *below], layout=ui.Layout(max_width="100%"))
        self._offer()
        for control in (self.codecs, self.images, self.metric):
            control.observe(reporting(self.status, self._offer), names="value")
        for control in (self.codecs, self.images, self.metric, self.point, self.picture):
            control.observe(self._ask, names="value")
        self._ask()

    def _offer(self, change=None):
        """List the points that are drawn; the chosen point stays chosen if it is among them."""
        metric, before = self.metric.value, self.point.value
        rows = means(self.measured.points, self.codecs.value, self.images.value).to_dict("records")
        values = [(row["codec"], row["quality"]) for row in rows]
        labels = [f"{r['codec']}, quality {r['quality']:g}: {r['bpp']:.3f} bpp, {r[metric]:.3f}" for r in rows]
        self.point.options = list(zip(labels, values))
        self.point.value = before if before in values else values[0]

    def _ask(self, change=None):
        if self.point.value is None:  # its list is being replaced, and a value follows at once
            return
        self.latest.request(
            codecs=self.codecs.value,
            images=self.images.value,
            metric=self.metric.value,
            point=self.point.value,
            picture=self.picture.value,
        )

    def _show(self, codecs, images, metric, point, picture):
        chart = results_chart(self.measured.points, codecs, images, metric, point)
        marked = f"{point[0]} at quality {point[1]:g} marked"
        self.chart.draw(chart, f"{metric} over the rate of {', '.join(codecs)}; {marked}")
        self.viewer.compare(point_versions(self.codec, self.measured, self.pictures, *point, picture))
