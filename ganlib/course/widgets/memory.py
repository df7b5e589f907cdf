"""The low-VRAM panel: a budget and the pictures that fit into it; a tile, its halo, and the seam they leave."""

import ipywidgets as ui

from ganlib.codec.receptive_field import halos
from ganlib.config import STRIDE
from ganlib.course.memory_meter import MB
from ganlib.course.tiling import seam_figure, sides_chart, tiled_view
from ganlib.course.widgets.base import Busy, Latest, Picture, reporting, row

LABEL = {"description_width": "90px"}


def sides_of(peaks, megabytes):
    """{technique: Peak}, budget in 10^6 bytes -> {technique: side of the largest picture}."""
    return {name: peak.largest_side(megabytes * MB) for name, peak in peaks.items()}


def tile_sentence(view):
    """The numbers of a TiledView as a line of HTML."""
    saved = f"{view.window_mb:.1f} MB for a window instead of {view.whole_mb:.1f} for the whole"
    return f"<b>{saved}</b>, {view.work:.2f} times the work; largest error {view.error.max():.1f} levels of 255."


class MemoryPanel(ui.VBox):
    """A slider for the budget, and two for the tile and its halo.

    Args:
        peaks: {technique: Peak}, in the order in which they build on each other.
        model: CompressionModel in evaluation mode; pixels: H,W,3 uint8 to cut into tiles, sides multiples of 16.
        budget: first value of its slider, in 10^6 bytes; tile, halo: in pixels.
    """

    def __init__(self, peaks, model, pixels, budget=437, tile=64, halo=0):
        self.peaks, self.model, self.pixels = peaks, model, pixels
        look = dict(continuous_update=False, style=LABEL, layout={"width": "380px"})
        ends = dict(min=1, max=5, step=0.02)  # powers of ten
        self.budget = ui.FloatLogSlider(budget, **ends, description="budget, MB", readout_format=",.0f", **look)
        sides = [side for side in (32, 64, 128, 256, 512) if side <= max(pixels.shape)]
        self.tile = ui.SelectionSlider(options=sides, value=tile, description="tile, pixels", **look)
        whole = STRIDE * halos(model)[1]
        self.halo = ui.IntSlider(halo, 0, whole, STRIDE, description="halo, pixels", **look)
        self.fault, self.sentence, self.busy = ui.HTML(), ui.HTML(), Busy()
        self.chart, self.seam = Picture(), Picture()
        super().__init__([
            self.budget, self.chart, row(self.tile, self.halo, self.busy), self.sentence, self.fault, self.seam,
        ], layout=ui.Layout(max_width="100%"))  # fmt: skip
        self.fitting = Latest(reporting(self.fault, self._fit))
        self.cutting = Latest(reporting(self.fault, self._cut), busy=self.busy)
        self.budget.observe(self._ask_fit, names="value")
        for control in (self.tile, self.halo):
            control.observe(self._ask_cut, names="value")
        self._ask_fit()
        self._ask_cut()

    def _ask_fit(self, change=None):
        self.fitting.request(megabytes=self.budget.value)

    def _ask_cut(self, change=None):
        self.cutting.request(tile=self.tile.value, halo=self.halo.value)

    def _fit(self, megabytes):
        sides = sides_of(self.peaks, megabytes)
        largest = ", ".join(f"{name} {side}x{side}" for name, side in sides.items())
        self.chart.draw(sides_chart(sides), f"largest picture in {megabytes:,.0f} MB: {largest}")

    def _cut(self, tile, halo):
        view = tiled_view(self.model, self.pixels, tile, halo)
        alt = f"a picture in tiles of {tile} pixels with a halo of {halo}, and where it differs from the whole one"
        self.seam.draw(seam_figure(view), alt)
        self.sentence.value = tile_sentence(view)
