"""What fits into a memory budget, and what a tile and its halo cost: the numbers behind the low-VRAM panel."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ganlib.codec.geometry import Area
from ganlib.codec.pixel_tensors import to_pixels, to_tensor
from ganlib.config import STRIDE
from ganlib.course.memory_meter import MB, MemoryBudget, rehearsal
from ganlib.evaluation import plots

# The original report's table: size of the picture in kB and its side in pixels, before and after it removed layers.
REPORT_SIDES = {"before": (500, 400), "after": (1500, 1000)}
RAW = 3  # bytes of a pixel


@dataclass(frozen=True)
class Peak:
    """Memory of a technique: fixed + per_pixel * side^2 bytes for a picture of side x side."""

    fixed: float
    per_pixel: float

    def largest_side(self, budget):
        """The largest square in pixels, a multiple of 16, that fits into `budget` bytes; 0 if none does."""
        return int((max(0.0, budget - self.fixed) / self.per_pixel) ** 0.5) // STRIDE * STRIDE


def peak_of(run, sides):
    """Peak of a technique, from a rehearsal at two sides.

    Args:
        run: callable, side in pixels -> None: does the work for one picture.
        sides: two sides, as large as the pictures of interest.
    """
    peaks = []
    for side in sides:
        with rehearsal(), MemoryBudget() as budget:
            run(side)
        peaks.append(budget.peak)
    (small, large), (low, high) = sides, peaks
    per_pixel = (high - low) / (large**2 - small**2)
    return Peak(low - per_pixel * small**2, per_pixel)


def report_table(before, after):
    """The original report's table beside the measured one.

    Args:
        before, after: sides in pixels of the largest picture that fits, without and with fewer layers.

    Returns:
        DataFrame, two rows: side and kB as the report has them, and the measured side and kB of raw pixels.
    """
    rows = {
        name: {"report, side": side, "report, kB": kilobytes, "measured, side": ours, "raw, kB": RAW * ours**2 / 1000}
        for (name, (kilobytes, side)), ours in zip(REPORT_SIDES.items(), (before, after))
    }
    table = pd.DataFrame(rows).T.rename_axis("layers")
    table.loc["ratio of the sides"] = table.loc["after"] / table.loc["before"]
    table.loc["ratio of the sides", ["report, kB", "raw, kB"]] = np.nan
    return table


def sides_chart(sides):
    """Side of the largest picture that fits, as bars: the report's two above, those of `sides` below.

    Args:
        sides: {technique: pixels}.

    Returns:
        Figure, 820 pixels wide.
    """
    theirs = {f"report, {name}": side for name, (_, side) in REPORT_SIDES.items()}
    figure = Figure(figsize=(8.2, 0.8 + 0.32 * (len(theirs) + len(sides))), dpi=100, layout="constrained")
    ax = figure.add_subplot()
    both = theirs | sides
    colours = [plots.OUR_COLOURS[3]] * len(theirs) + [plots.MEASURED_COLOURS[0]] * len(sides)
    ax.barh(list(both), list(both.values()), color=colours, height=0.65)
    for y, side in enumerate(both.values()):
        ax.annotate(f"{side:,}x{side:,}", (side, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.16)
    ax.set_xlabel("side of the largest picture (pixels)", fontsize=9)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class TiledView:
    """A picture that g_s rebuilt tile by tile, and the same rebuilt whole.

    tile, halo: in pixels. whole, tiled: H,W,3 uint8. error: H,W, largest difference over the channels, in levels.
    window_mb: peak in 10^6 bytes for the largest window; whole_mb: for the whole. work: pixels computed for each
    pixel kept.
    """

    tile: int
    halo: int
    whole: np.ndarray
    tiled: np.ndarray
    error: np.ndarray
    window_mb: float
    whole_mb: float
    work: float


@torch.inference_mode()
def tiled_view(model, pixels, tile, halo, quality=50.0, realism=0.0):
    """Rebuild a picture whole and in tiles, each computed with a halo that is cut off.

    Args:
        model: CompressionModel; pixels: H,W,3 uint8, sides multiples of 16.
        tile: side without the halo; halo: width on each side, 0 for none. Multiples of 16 pixels.

    Returns:
        TiledView.
    """
    number, natural = torch.tensor([float(quality)]), torch.tensor([float(realism)])
    decoded = (model.g_a(to_tensor(pixels)) * model.gain(number)).round() * model.inverse_gain(number)
    with MemoryBudget() as budget:
        whole = model.g_s(decoded, number, natural)
    whole_mb, window_mb, computed = budget.peak / MB, 0.0, 0
    tiled, picture = torch.empty_like(whole), Area.of_picture(*pixels.shape[:2])
    for window in sum(picture.cut(tile // STRIDE), []):
        wide = window.widened(halo // STRIDE, picture)
        near = decoded[:, :, *wide.slices].clone()
        with MemoryBudget() as budget:
            x_hat = model.g_s(near, number, natural)
        window_mb, computed = max(window_mb, budget.peak / MB), computed + wide.size
        tiled[:, :, *window.scaled(STRIDE).slices] = x_hat[:, :, *window.seen_from(wide).scaled(STRIDE).slices]
    error = 255 * (tiled - whole).abs()[0].amax(dim=0).numpy()
    work = computed / picture.size
    pictures = (to_pixels(x_hat[0].permute(1, 2, 0)) for x_hat in (whole, tiled))
    return TiledView(tile, halo, *pictures, error, window_mb, whole_mb, work)


def seam_figure(view):
    """A TiledView: its picture, and the difference from the whole; black is 3 levels and more."""
    height, width = view.error.shape
    figure = Figure(figsize=(8.2, 8.2 / 2 * height / width + 0.4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(view.tiled, interpolation="nearest")
    left.set_title(f"tiles of {view.tile}, halo {view.halo} pixels", fontsize=10)
    shades = right.imshow(view.error, cmap="Greys", vmin=0, vmax=3, interpolation="nearest")
    right.set_title(f"difference from the whole: at most {view.error.max():.1f} levels", fontsize=10)
    figure.colorbar(shades, ax=right, shrink=0.8)
    for ax in (left, right):
        ax.set_axis_off()
    return figure


def as_technique(function, layout=torch.contiguous_format):
    """A function x -> x_hat as `peak_of` takes it: a function of the side of a picture."""
    return lambda side: function(torch.rand(1, 3, side, side).contiguous(memory_format=layout))
