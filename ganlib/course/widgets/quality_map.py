"""Paint the quality map of Song 2021: see where the bytes of a file go, and how the picture changes."""

from dataclasses import dataclass

import ipywidgets as ui
import numpy as np
import torch
from matplotlib.figure import Figure

from ganlib.codec import container
from ganlib.codec.entropy_coder import HYPER_FACTOR
from ganlib.codec.geometry import ceil_div
from ganlib.codec.rate_control import TargetSizeError
from ganlib.config import HYPER_STRIDE, QUALITY_MAX, STRIDE
from ganlib.course.widgets.base import Busy, Latest, Picture, reporting, row
from ganlib.course.widgets.features import AMOUNT, as_tensor
from ganlib.training.losses import psnr_from_mse

DPI = 80
BRUSHES = {"more bytes (+40)": 40.0, "unchanged (0)": 0.0, "fewer bytes (-40)": -40.0}
COLOURS = {40.0: "#F6C9AC", 0.0: "#F2F2F2", -40.0: "#BFD9EA"}  # of a region, by the number painted on it
CELL = "34px"  # side of a region's button


@dataclass(frozen=True)
class MapView:
    """A photograph coded twice in about the same number of bytes: with an even map, and with a painted one.

    painted: h,w, the number added to the quality for each 64x64 pixels.
    files: bytes of both. bits: estimated, of each 16x16 pixels, for both. decoded: both pictures, H,W,3 uint8.
    psnr: {"painted up", "the rest": (dB with the even map, dB with the painted one)}, without empty parts.
    """

    painted: np.ndarray
    files: tuple
    bits: tuple
    decoded: tuple
    psnr: dict
    figure: Figure


def regions(pixels):
    """Rows and columns of the map: one number for each 64x64 pixels."""
    return tuple(ceil_div(n, HYPER_STRIDE) for n in pixels.shape[:2])


@torch.inference_mode()
def latent_bits(codec, pixels, data):
    """Estimated bits of each 16x16 pixels of a file of Song's codec: h,w."""
    index = container.Index(data)
    y_hat = codec.latents(index, index.header.area)[0]  # its last channel is the map, 0 to 1
    quality = QUALITY_MAX * torch.as_tensor(y_hat[::HYPER_FACTOR, ::HYPER_FACTOR, -1])[None, None].float()
    likelihoods = codec.model(as_tensor(pixels), quality)["likelihoods"]["y"][0]
    height, width = (ceil_div(n, STRIDE) for n in pixels.shape[:2])
    return -torch.log2(likelihoods).sum(dim=0)[:height, :width].numpy()


def map_view(codec, pixels, painted, quality=50.0):
    """Code a photograph with an even map, then with a painted one in no more bytes.

        even map, quality --> file of N bytes
        painted map --quality that gives N bytes--> file       more bits where painted up, fewer elsewhere

    Args:
        codec: MapCodec, of load_codec("song").
        pixels: H,W,3 uint8.
        painted: numbers from -100 to 100 for each 64x64 pixels, as regions() counts them.
        quality: of the even map.

    Returns:
        MapView.

    Raises:
        ValueError: a map of another shape.
    """
    painted = np.asarray(painted, np.float32)
    if painted.shape != regions(pixels):
        raise ValueError(f"the map has shape {painted.shape}; this picture has regions {regions(pixels)}")
    even = codec.compress(pixels, quality)
    try:
        moved = codec.compress(pixels, quality_map=painted, target_bytes=len(even)) if painted.any() else even
    except TargetSizeError:  # painted up everywhere at a low quality: no quality gives so small a file
        moved = codec.compress(pixels, quality, quality_map=painted)
    files = even, moved
    decoded = tuple(np.asarray(codec.decompress(data)) for data in files)
    up = (painted > 0).repeat(HYPER_STRIDE, 0).repeat(HYPER_STRIDE, 1)[: pixels.shape[0], : pixels.shape[1]]
    errors = [((picture.astype(float) - pixels) ** 2).mean(axis=2) for picture in decoded]
    psnr = {
        name: tuple(psnr_from_mse(torch.tensor(error[part].mean()), peak=255).item() for error in errors)
        for name, part in (("painted up", up), ("the rest", ~up))
        if part.any()
    }
    bits = tuple(latent_bits(codec, pixels, data) for data in files)
    return MapView(painted, files, bits, decoded, psnr, _figure(pixels, painted, files, bits, decoded))


def _figure(pixels, painted, files, bits, decoded):
    """Map over the photograph, bits before and after on one scale, picture after."""
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(11, 1.1 + 2.6 * height / width), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 4)
    axes[0].imshow(pixels.mean(axis=2), cmap="gray")
    top = max(float(np.abs(painted).max()), 1.0)
    place = dict(extent=(0, painted.shape[1] * HYPER_STRIDE, painted.shape[0] * HYPER_STRIDE, 0))
    axes[0].imshow(painted, cmap="PuOr_r", vmin=-top, vmax=top, alpha=0.45, **place)
    axes[0].set_title("what is painted: orange up, violet down", fontsize=9)
    most = max(float(part.max()) for part in bits)
    for ax, part, data, name in zip(axes[1:3], bits, files, ("even map", "painted map")):
        edges = (0, part.shape[1] * STRIDE, part.shape[0] * STRIDE, 0)
        ax.imshow(part, cmap=AMOUNT, vmin=0, vmax=most, extent=edges, interpolation="nearest")
        ax.set_title(f"bits, {name}: {len(data):,} bytes", fontsize=9)
    axes[3].imshow(decoded[1])
    axes[3].set_title("the picture of the painted map", fontsize=9)
    for ax in axes:
        ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    return figure


def summary(view):
    """The numbers of a MapView as a line of HTML."""
    even, moved = map(len, view.files)
    parts = [f"<b>{moved:,} bytes</b>, with an even map {even:,}."]
    parts += [f"{name}: {a:.2f} dB &rarr; <b>{b:.2f} dB</b>." for name, (a, b) in view.psnr.items()]
    return " ".join(parts)


class QualityPainter(ui.VBox):
    """Choose a brush, click on regions, and see where the bytes go.

    Args:
        codec: MapCodec.
        pixels: H,W,3 uint8.
        painted: the map at first, as for map_view(); None for an even one.
        quality: of the even map.
    """

    def __init__(self, codec, pixels, painted=None, quality=50.0):
        self.codec, self.pixels = codec, pixels
        rows, columns = regions(pixels)
        self.painted = np.zeros((rows, columns), np.float32) if painted is None else np.array(painted, np.float32)
        self.brush = ui.Dropdown(options=BRUSHES, description="brush")
        slow = dict(continuous_update=False, style={"description_width": "80px"})
        self.quality = ui.FloatSlider(quality, min=0, max=100, step=1, description="quality", **slow)
        self.clear = ui.Button(description="Clear", tooltip="an even map")
        places = list(np.ndindex(rows, columns))
        self.cells = {at: ui.Button(layout=ui.Layout(width=CELL, height=CELL, margin="0")) for at in places}
        grid = ui.GridBox(
            list(self.cells.values()), layout=ui.Layout(grid_template_columns=f"repeat({columns}, {CELL})")
        )
        self.numbers, self.status, self.image, self.busy = ui.HTML(), ui.HTML(), Picture(), Busy()
        self.latest = Latest(reporting(self.status, self._show), busy=self.busy)
        hint = ui.HTML("A button is a region of 64x64 pixels. The file stays as large as with an even map.")
        above = row(self.brush, self.quality, self.clear, self.busy)
        super().__init__([hint, above, grid, self.numbers, self.status, self.image])
        for at, cell in self.cells.items():
            cell.on_click(lambda _, at=at: self.paint(at, self.brush.value))
            self._colour(at)
        self.clear.on_click(self._clear)
        self.quality.observe(self._ask, names="value")
        self._ask()

    def paint(self, at, value):
        """Put a number on the region (row, column)."""
        self.painted[at] = value
        self._colour(at)
        self._ask()

    def _colour(self, at):
        value, cell = float(self.painted[at]), self.cells[at]
        cell.style.button_color = COLOURS[np.sign(value) * 40.0]
        cell.tooltip = f"row {at[0] + 1}, column {at[1] + 1}: {value:+.0f}"
        cell.description = f"{value:+.0f}" if value else ""

    def _clear(self, button):
        self.painted[:] = 0
        for at in self.cells:
            self._colour(at)
        self._ask()

    def _ask(self, change=None):
        self.latest.request(painted=self.painted.copy(), quality=self.quality.value)

    def _show(self, painted, quality):
        view = map_view(self.codec, self.pixels, painted, quality)
        self.image.draw(view.figure, "the map over the photograph, bits of each place before and after, the picture")
        self.numbers.value = summary(view)
