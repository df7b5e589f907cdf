"""Drawing helpers of several notebooks: an empty chart, and a network's output as pixels."""

from matplotlib.figure import Figure

from ganlib.codec.pixel_tensors import to_pixels
from ganlib.evaluation.plots import bare

DPI = 90


def chart(xlabel, ylabel):
    """An empty chart with its axes named.

    Returns:
        (Figure, Axes).
    """
    figure = Figure(figsize=(6.5, 3), dpi=DPI, layout="constrained")
    ax = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    bare(ax)
    return figure, ax


def as_pixels(x_hat):
    """1,3,H,W -> H,W,3 uint8: [0, 1] becomes 0 to 255, rounded; what lies outside becomes the nearer end."""
    return to_pixels(x_hat.detach()[0].permute(1, 2, 0))
