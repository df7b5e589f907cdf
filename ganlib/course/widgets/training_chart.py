"""The curves of training runs, laid over each other, and the watched crop pixel for pixel."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ganlib.codec.geometry import ceil_div
from ganlib.evaluation.metrics import psnr
from ganlib.evaluation.plots import GRID, MEASURED_COLOURS

WIDTH = 820  # pixels of the figure, as wide as a notebook allows in a window of 1280
ROW, PICTURES_GAP, CAPTION, LEGEND_LINE = 210, 10, 26, 20  # pixels
DPI = 80
ROLLING = 5  # rows of the log in a running mean
# Columns of the log that share an axis, and its title. The second line of a pair is dashed.
AXES = (
    (("psnr",), "PSNR of the training crops (dB)"),
    (("lpips",), "LPIPS of the training crops"),
    (("bpp",), "estimated rate (bits per pixel)"),
    (("d_loss", "adversarial"), "loss of D; dashed: of the generator, -log D"),
    (("d_real", "d_fake"), "D(x); dashed: D(x_hat)"),
)


def run_colours(names):
    """{run: its colour}, the same for curve and legend."""
    return {name: MEASURED_COLOURS[i % len(MEASURED_COLOURS)] for i, name in enumerate(names)}


def training_view(logs, original=None, before=None, now=None, labels=None, marks=None):
    """The curves of one run or more in one figure, and below them the watched crop.

        PSNR | LPIPS
        losses of the adversaries | D(x), D(x_hat)
        original | before training | now            pixel for pixel

    Args:
        logs: {run: DataFrame of its log.csv}, or one DataFrame; may be empty.
        original, before, now: H,W,3 uint8; None where there is none yet.
        labels: {run: its text in the legend}; its name where left out.
        marks: {run: steps at which it was continued}, each a dotted line.

    Returns:
        Figure, 820 pixels wide.
    """
    logs = logs if isinstance(logs, dict) else {"": logs}
    labels = {name: name for name in logs} | (labels or {})
    found = {column for log in logs.values() for column in log.columns}
    axes = [(columns, title) for columns, title in AXES if found & set(columns)] or [AXES[0], AXES[1]]
    pictures = [picture for picture in (original, before, now) if picture is not None]
    legend = LEGEND_LINE * len(logs) if any(labels.values()) else 0
    rows = ceil_div(len(axes), 2)
    tall = max((len(picture) + CAPTION + PICTURES_GAP for picture in pictures), default=0)
    height = legend + ROW * rows + tall
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    colours = run_colours(logs)
    for i, (columns, title) in enumerate(axes):
        row, column = divmod(i, 2)
        bottom = height - legend - (row + 1) * ROW + 40
        ax = figure.add_axes([(55 + 410 * column) / WIDTH, bottom / height, 335 / WIDTH, (ROW - 70) / height])
        for name, log in logs.items():
            _draw(ax, log, columns, colours[name], (marks or {}).get(name, ()))
        if columns == ("d_real", "d_fake"):
            ax.axhline(0.5, color="#777777", linewidth=0.8)  # a discriminator that guesses
        ax.set_title(title, fontsize=10, loc="left")
        ax.set_xlabel("step", fontsize=9)
        ax.grid(True, color=GRID, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=9)
    if legend:
        lines = [Line2D([], [], color=colours[name], linewidth=2.5) for name in logs]
        style = dict(loc="upper left", fontsize=9, frameon=False, bbox_to_anchor=(0, 1), borderaxespad=0.2)
        figure.legend(lines, [labels[name] for name in logs], **style)
    _lay(figure, height, tall, original, before, now)
    return figure


def _draw(ax, log, columns, colour, marks):
    for column, style in zip(columns, ("-", "--")):
        if column in log.columns and len(log):
            smooth = log[column].rolling(ROLLING, min_periods=1).mean()
            ax.plot(log["step"], smooth, color=colour, linestyle=style)
    for step in marks:
        ax.axvline(step, color=colour, linestyle=":", linewidth=1.2)


def captions(original, before, now):
    """The pictures that are not None, each with a line of text: list of (text, H,W,3 uint8)."""
    found = [("original", original), ("before training", before), ("now", now)]
    return [
        (name if picture is original else f"{name}, {psnr(original, picture):.1f} dB", picture)
        for name, picture in found
        if picture is not None
    ]


def _lay(figure, height, tall, original, before, now):
    """The pictures in a row at the bottom, one pixel of the figure for each of their pixels."""
    left = PICTURES_GAP
    for text, picture in captions(original, before, now) if original is not None else ():
        h, w = np.shape(picture)[:2]
        if left + w > WIDTH:
            break
        box = [left / WIDTH, (tall - CAPTION - h) / height, w / WIDTH, h / height]
        ax = figure.add_axes(box)
        ax.set_axis_off()
        ax.imshow(picture, interpolation="nearest", aspect="auto")
        figure.text(left / WIDTH, (tall - CAPTION + 6) / height, text, fontsize=10)
        left += w + PICTURES_GAP
