"""The codec explorer: a photograph, two sliders, and what comes back from real bytes."""

import base64
import html
import io
from dataclasses import dataclass

import ipywidgets as ui
import numpy as np
from matplotlib.figure import Figure

from ganlib.codec import image_io
from ganlib.course.widgets.base import Latest, png, reporting
from ganlib.evaluation import baselines, metrics, plots
from ganlib.evaluation.comparisons import busiest_crop, png_bytes
from ganlib.evaluation.measure import lpips_or_nan

CROP = 400  # side in pixels of what is shown, 1:1; three fit side by side on a laptop
UPLOAD_PIXELS = 4_000_000  # a larger photograph would make the sliders wait for seconds


@dataclass(frozen=True)
class View:
    """One photograph, coded: the file, what was measured, and the picture of it."""

    data: bytes  # of the .gic file
    png_bytes: int
    psnr: float  # dB
    lpips: float  # nan below 64 pixels a side
    jpeg_bytes: int
    jpeg_psnr: float
    jpeg_lpips: float
    figure: Figure

    @property
    def ratio(self):
        """How many times smaller than the PNG."""
        return self.png_bytes / len(self.data)


def codec_view(codec, pixels, quality=50.0, realism=1.0):
    """Compress, decompress, and set beside a JPEG of the same size.

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
    figure = plots.before_after(
        pixels,
        [decoded, beside],
        [f"ganlib, quality {quality:g}, realism {realism:g}", "JPEG, nearest size"],
        [len(data), len(jpeg)],
        original_bytes=before,
        crop=busiest_crop(pixels, CROP),
        lpips=distances,
    )
    ours, theirs = metrics.psnr(pixels, decoded), metrics.psnr(pixels, beside)
    return View(data, before, ours, distances[0], len(jpeg), theirs, distances[1], figure)


def summary(view):
    """The numbers of a View as a line of HTML."""
    return (
        f"<b>{len(view.data):,} bytes</b> instead of {view.png_bytes:,} as PNG: <b>{view.ratio:.1f}x smaller</b>, "
        f"PSNR <b>{view.psnr:.2f} dB</b>, LPIPS <b>{view.lpips:.3f}</b>. "
        f"JPEG: {view.jpeg_bytes:,} bytes, {view.jpeg_psnr:.2f} dB, {view.jpeg_lpips:.3f}."
    )


def download_link(data, name):
    """The bytes themselves as a link, so that no server need serve them."""
    inside = base64.b64encode(data).decode()
    file = html.escape(f"{name}.gic", quote=True)
    return f"<a download='{file}' href='data:application/octet-stream;base64,{inside}'>download {file}</a>"


def uploaded(upload):
    """The newest file of a FileUpload -> (name, H,W,3 uint8).

    Raises:
        ImageError: it is no picture that the codec takes, or too large to play with.
    """
    file = upload[0]
    content = io.BytesIO(file["content"])
    content.name = file["name"]
    pixels = image_io.load(content).pixels
    if pixels.shape[0] * pixels.shape[1] > UPLOAD_PIXELS:
        raise image_io.ImageError(
            f"{file['name']} has {pixels.shape[1]}x{pixels.shape[0]} pixels: scale it down to "
            f"{UPLOAD_PIXELS / 1e6:g} megapixels, or use codec.compress(), which takes it as it is"
        )
    name = file["name"].rsplit(".", 1)[0]
    return name, image_io.as_rgb(pixels)


class CodecExplorer(ui.VBox):
    """Choose or upload a photograph, drag quality and realism, see and download what comes of it.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8} to choose from.
        quality, realism: where the sliders stand at first.
    """

    def __init__(self, codec, pictures, quality=50.0, realism=1.0):
        self.codec, self.pictures = codec, dict(pictures)
        slow = dict(continuous_update=False, style={"description_width": "70px"})
        self.picture = ui.Dropdown(options=list(self.pictures), description="photograph", style=slow["style"])
        self.upload = ui.FileUpload(accept="image/*", description="your own")
        self.quality = ui.FloatSlider(quality, min=0, max=100, step=1, description="quality", **slow)
        self.realism = ui.FloatSlider(realism, min=0, max=1, step=0.05, description="realism", **slow)
        self.numbers, self.link, self.status = ui.HTML("coding ..."), ui.HTML(), ui.HTML()
        self.image = ui.Image(format="png")
        self.latest = Latest(reporting(self.status, self._show))
        rows = [
            ui.HBox([self.picture, self.upload, self.link]),
            ui.HBox([self.quality, self.realism]),
            self.numbers,
            self.status,
            self.image,
        ]
        super().__init__(rows)
        for control in (self.picture, self.quality, self.realism):
            control.observe(self._ask, names="value")
        self.upload.observe(reporting(self.status, self._take), names="value")
        self._ask()

    def _ask(self, change=None):
        self.latest.request(name=self.picture.value, quality=self.quality.value, realism=self.realism.value)

    def _take(self, change):
        if change["new"]:
            name, pixels = uploaded(change["new"])
            self.pictures[name] = pixels
            self.picture.options = list(self.pictures)
            self.picture.value = name

    def _show(self, name, quality, realism):
        view = codec_view(self.codec, self.pictures[name], quality, realism)
        self.image.value = png(view.figure)
        self.numbers.value = summary(view)
        self.link.value = download_link(view.data, name)
