"""The codec explorer: a photograph, two sliders, and the picture decoded from real bytes."""

import html
from dataclasses import dataclass

import ipywidgets as ui
import numpy as np
from matplotlib.figure import Figure

from ganlib.course.widgets.base import Busy, Latest, complaint, data_url, reporting, row
from ganlib.course.widgets.comparison import ComparisonViewer, Version
from ganlib.course.widgets.upload import PictureUpload, free_name, picture_of
from ganlib.evaluation import baselines, metrics, plots
from ganlib.evaluation.comparisons import busiest_crop, png_bytes
from ganlib.evaluation.measure import lpips_or_nan

CROP = 256  # side in pixels of the crops in the static picture, 1:1; three fit side by side in a window of 1280


@dataclass(frozen=True)
class View:
    """One photograph, coded: the file, what was measured, and the pictures."""

    data: bytes  # of the .gic file
    png_bytes: int
    psnr: float  # dB
    lpips: float  # nan below 64 pixels a side
    jpeg_bytes: int
    jpeg_psnr: float
    jpeg_lpips: float
    versions: tuple[Version, ...]  # original, ganlib, JPEG
    figure: Figure

    @property
    def ratio(self):
        """How many times smaller than the PNG."""
        return self.png_bytes / len(self.data)


def codec_view(codec, pixels, quality=50.0, realism=1.0):
    """Compress, decompress, and compare with a JPEG of the same size.

        pixels --compress(quality)--> bytes --decompress(realism)--> picture, PSNR, LPIPS
               --JPEG of as many bytes----------------------------> picture, PSNR, LPIPS

    Args:
        codec: Codec.
        pixels: H,W,3 uint8.
        quality: 0 to 100.
        realism: 0 to 1.

    Returns:
        View; its figure shows the crop with the most detail, pixel for pixel.
    """
    data = codec.compress(pixels, quality=quality)
    decoded = np.asarray(codec.decompress(data, realism=realism))
    jpeg, _ = baselines.at_size("JPEG", pixels, len(data))
    beside = baselines.decode(jpeg)
    distances = [lpips_or_nan(pixels, picture) for picture in (decoded, beside)]
    before = png_bytes(pixels)
    settings = f"quality {quality:g}, realism {realism:g}"
    figure = plots.before_after(
        pixels,
        [decoded, beside],
        [f"ganlib, {settings}", "JPEG, nearest size"],
        [len(data), len(jpeg)],
        original_bytes=before,
        crop=busiest_crop(pixels, CROP),
        lpips=distances,
    )
    ours, theirs = metrics.psnr(pixels, decoded), metrics.psnr(pixels, beside)
    versions = (
        Version("original", pixels, f"{before:,} bytes as PNG"),
        Version("ganlib", decoded, f"{settings}: {len(data):,} bytes, {_quality(ours, distances[0])}"),
        Version("JPEG", beside, f"nearest size: {len(jpeg):,} bytes, {_quality(theirs, distances[1])}"),
    )
    return View(data, before, ours, distances[0], len(jpeg), theirs, distances[1], versions, figure)


def _quality(psnr, lpips):
    return f"PSNR {psnr:.2f} dB" + ("" if np.isnan(lpips) else f", LPIPS {lpips:.3f}")


def summary(view):
    """The numbers of a View as a line of HTML."""
    return (
        f"<b>{len(view.data):,} bytes</b> instead of {view.png_bytes:,} as PNG: <b>{view.ratio:.1f}x smaller</b>, "
        f"{_quality(view.psnr, view.lpips)}. JPEG: {view.jpeg_bytes:,} bytes, "
        f"{_quality(view.jpeg_psnr, view.jpeg_lpips)}."
    )


def download_link(data, name):
    """A link that contains the bytes, so that no server is needed."""
    file = html.escape(f"{name}.gic", quote=True)
    return f"<a download='{file}' href='{data_url(data, 'application/octet-stream')}'>download {file}</a>"


class CodecExplorer(ui.VBox):
    """Choose or upload a photograph, set quality and realism, compare the results, and download the file.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8} to choose from.
        quality, realism: first values of the sliders.
    """

    def __init__(self, codec, pictures, quality=50.0, realism=1.0):
        self.codec, self.pictures = codec, dict(pictures)
        slow = dict(continuous_update=False, style={"description_width": "80px"})
        self.picture = ui.Dropdown(options=list(self.pictures), description="photograph", style=slow["style"])
        self.upload = PictureUpload(self._take, self._refuse)
        self.quality = ui.FloatSlider(quality, min=0, max=100, step=1, description="quality", **slow)
        self.realism = ui.FloatSlider(realism, min=0, max=1, step=0.05, description="realism", **slow)
        self.numbers, self.link, self.status, self.said = (ui.HTML() for _ in range(4))
        self.busy = Busy()
        self.viewer = ComparisonViewer([Version("original", self.pictures[self.picture.value])] * 3, 1, 2)
        self.latest = Latest(reporting(self.status, self._show), busy=self.busy)
        rows = [row(self.picture, self.upload, self.link), row(self.quality, self.realism, self.busy)]
        below = [self.said, self.numbers, self.status, self.viewer]
        super().__init__([*rows, *below], layout=ui.Layout(max_width="100%"))
        for control in (self.picture, self.quality, self.realism):
            control.observe(self._ask, names="value")
        self._ask()

    def _ask(self, change=None):
        self.latest.request(name=self.picture.value, quality=self.quality.value, realism=self.realism.value)

    def _take(self, file, content):
        """Take an uploaded file: list its picture under an unused name, and choose it."""
        self.busy.on()
        try:
            pixels, done = picture_of(file, content)
        except Exception as error:  # the user must see every error
            self._refuse(error)
            return
        name = free_name(file.rsplit(".", 1)[0] or file, self.pictures)
        self.pictures[name] = pixels
        self.said.value = html.escape(done)
        self.picture.options = list(self.pictures)
        self.picture.value = name

    def _refuse(self, error):
        self.busy.off()
        self.said.value = complaint(error)

    def _show(self, name, quality, realism):
        view = codec_view(self.codec, self.pictures[name], quality, realism)
        self.viewer.compare(view.versions)
        self.numbers.value = summary(view)
        self.link.value = download_link(view.data, name)
