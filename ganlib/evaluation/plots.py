"""The report's charts. Each function returns a matplotlib Figure of its own; none uses pyplot or its global state.

In a notebook, run `%matplotlib inline` once, so that a Figure at the end of a cell is shown.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ganlib.atomic_write import atomic_write
from ganlib.codec.geometry import ceil_div
from ganlib.evaluation.metrics import psnr
from ganlib.evaluation.published import PUBLISHED

DPI = 150  # of charts: 9 inches are 1350 pixels, sharp where a README shows them 900 wide
BPP_MAX = 1.0  # right edge of a rate-distortion chart: above it every codec looks alike
OURS = "ganlib"  # the first word of our own codecs' names

AXIS_LABELS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM", "lpips": "LPIPS, lower is better"}

# Colours that stay apart with any kind of colour blindness: Okabe and Ito's for what was measured here (their yellow
# darkened, to be seen on white), Paul Tol's "muted" set for what others published. Markers differ as well.
OUR_COLOURS = ("#000000", "#D55E00", "#7A3B00", "#8C8C8C")
MEASURED_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#A39A00")
PUBLISHED_COLOURS = (
    "#CC6677", "#332288", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#DDCC77",
)  # fmt: skip
MARKERS = "osD^vP*Xhp<>d"
DASHES = (0, (4, 2))  # on and off, in line widths
GRID = "#DDDDDD"

PICTURE_DPI = 100  # of pictures: one image pixel is one figure pixel at any value; this sets the captions' size
ROW_PIXELS = 1800  # pictures that would reach beyond go into the next row
CAPTION_POINTS = 9
CAPTION_LINE, CAPTION_CHARACTER = 17, 7.2  # pixels, of CAPTION_POINTS at PICTURE_DPI, generously
GAP = 12  # pixels between pictures


def bare(ax):
    """A quiet frame: grid below the curves, no box."""
    ax.grid(True, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)


def settled(figure):
    """Lay out the figure once, now. With a new layout at each drawing, the first would differ from the next."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _curves(table, metric):
    """DataFrame -> {codec: (bpp, values)} sorted by bpp, in the table's order; points without a value left out."""
    if missing := {"codec", "bpp", metric} - set(table.columns):
        raise ValueError(f"the table has no column {', '.join(sorted(missing))}: it has {', '.join(table.columns)}")
    table = table[np.isfinite(table["bpp"]) & np.isfinite(table[metric])]
    curves = {}
    for codec in table["codec"].unique():
        points = table[table["codec"] == codec].sort_values("bpp", kind="stable")
        curves[codec] = points["bpp"].to_numpy(), points[metric].to_numpy()
    return curves


def visible_range(curves):
    """Least and greatest value of the curves between 0 and BPP_MAX, cut edge included."""
    values = []
    for bpp, value in curves:
        inside = bpp <= BPP_MAX
        values += list(value[inside])
        if inside.any() and not inside.all():
            values.append(np.interp(BPP_MAX, bpp, value))
    if not values:
        raise ValueError(f"no point lies below {BPP_MAX} bpp: measure at lower qualities")
    return min(values), max(values)


def rate_distortion(measured, published=None, title="Rate and distortion", metric="psnr"):
    """Quality over rate, one curve per codec.

    Our curves are drawn strongest, baselines measured on the same images as solid lines, published curves dashed,
    lighter and labelled as published. Within each kind the legend lists the best first.

    Args:
        measured: DataFrame of codec, bpp and the metric, one row for each codec and operating point, averaged
            over the images. Codecs whose names begin with "ganlib" are ours.
        published: the same columns, such as published("kodak", PUBLISHED).
        title: above the chart. Name the images that the curves are measured on.
        metric: column to draw upwards, "psnr" or "ms_ssim".

    Returns:
        Figure, 9 x 5.6 inches, from 0 to 1 bpp.

    Raises:
        ValueError: a column is missing, or there is nothing to draw.
    """
    curves = _curves(measured, metric)
    ours = {codec: curve for codec, curve in curves.items() if codec.startswith(OURS)}
    baselines = {codec: curve for codec, curve in curves.items() if codec not in ours}
    theirs = {} if published is None else _curves(published, metric)
    theirs = {PUBLISHED.get(codec, f"{codec} (published)"): curve for codec, curve in theirs.items()}
    kinds = (
        # curves, colours, style; the last is drawn on top
        (theirs, PUBLISHED_COLOURS, dict(linestyle=DASHES, linewidth=1.1, markersize=4.5, alpha=0.85, zorder=2)),
        (baselines, MEASURED_COLOURS, dict(linestyle="-", linewidth=1.7, markersize=5, zorder=3)),
        (ours, OUR_COLOURS, dict(linestyle="-", linewidth=3.2, markersize=8, zorder=4)),
    )
    low, high = visible_range([curve for group, _, _ in kinds for curve in group.values()])

    figure = Figure(figsize=(9, 5.6), dpi=DPI, layout="constrained")
    ax = figure.add_subplot()
    entries = []
    for group, colours, style in kinds:
        lines = []
        for i, (label, (bpp, value)) in enumerate(group.items()):
            # a white rim lifts a marker off the line; the small ones of the published curves would vanish in it
            marker = dict(marker=MARKERS[i % len(MARKERS)], markeredgecolor="white", markeredgewidth=0.6)
            marker["markeredgewidth"] *= group is not theirs
            lines += ax.plot(bpp, value, color=colours[i % len(colours)], label=label, **marker, **style)
        height = [np.interp(0.4 * BPP_MAX, *line.get_data()) for line in lines]
        entries.append([lines[i] for i in np.argsort(height, kind="stable")[::-1]])
    margin = 0.04 * (high - low) or 1.0
    ax.set(xlim=(0, BPP_MAX), ylim=(low - margin, high + margin))
    ax.set_xlabel("rate (bits per pixel)", fontsize=10)
    ax.set_ylabel(AXIS_LABELS.get(metric, metric), fontsize=10)
    ax.set_title(title, fontsize=11, loc="left", parse_math=False)  # names of folders and weights may hold a $
    bare(ax)

    theirs_drawn, baselines_drawn, ours_drawn = entries
    blank = Patch(visible=False, label="")
    handles = []
    for group in (ours_drawn, baselines_drawn, theirs_drawn):
        handles += [blank] * bool(handles and group) + group
    legend = figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False, handlelength=3)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return settled(figure)


# Panels of a training log: the columns that are drawn together, and their title.
STAGE_ONE_PANELS = (
    (("loss",), "loss"),
    (("bpp",), "estimated rate (bpp)"),
    (("psnr",), "PSNR (dB)"),
)
STAGE_TWO_PANELS = (
    (("psnr",), "PSNR (dB)"),
    (("lpips",), "LPIPS"),
    (("adversarial", "d_loss"), "adversarial losses"),
    (("d_real", "d_fake"), "D(x) and D(x_hat)"),
)
CURVE_NAMES = {
    "adversarial": "generator", "d_loss": "discriminator", "d_real": "photographs", "d_fake": "reconstructions",
}  # fmt: skip


def learning_curve(log):
    """Chart of a training run's log over its steps: a panel for each measure, or pair of measures.

    Each row of the log averages a few batches of random quality, so that the rows scatter: they are drawn
    faintly, and a running mean over a twentieth of the run on top.

    Args:
        log: DataFrame of training's log.csv: step, loss, bpp, psnr of stage one, and lpips where it was measured; or
            step, psnr, lpips, adversarial, d_loss, d_real, d_fake of stage two.

    Returns:
        Figure, 9 x 3.4 inches, three or four panels.

    Raises:
        ValueError: a column is missing, or the log is empty.
    """
    panels = STAGE_TWO_PANELS if "d_loss" in log.columns else STAGE_ONE_PANELS
    if panels is STAGE_ONE_PANELS and "lpips" in log.columns and log["lpips"].notna().any():
        panels += ((("lpips",), "LPIPS"),)
    if missing := {"step", *(column for columns, _ in panels for column in columns)} - set(log.columns):
        raise ValueError(f"the log has no column {', '.join(sorted(missing))}: give the log.csv of a training run")
    if log.empty:
        raise ValueError("the log has no rows yet: train for a few more steps")
    log = log.sort_values("step", kind="stable")
    window = max(1, len(log) // 20)
    figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
    for ax, (columns, label) in zip(figure.subplots(1, len(panels)), panels):
        for column, colour in zip(columns, MEASURED_COLOURS):
            ax.plot(log["step"], log[column], color=colour, linewidth=0.8, alpha=0.3)
            smooth = log[column].rolling(window, min_periods=1, center=True).mean()
            name = CURVE_NAMES.get(column, column)
            ax.plot(log["step"], smooth, color=colour, linewidth=1.8, label=name)
        # the first steps, far above or below the rest, would make the other curves flat
        low, high = np.nanquantile(log[list(columns)], (0.01, 0.99))
        margin = 0.08 * (high - low) or 1.0
        ax.set(xlim=(0, max(1, log["step"].max())), ylim=(low - margin, high + margin))
        ax.set_xlabel("step", fontsize=9)
        ax.set_title(label, fontsize=10, loc="left")
        ax.locator_params(axis="x", nbins=4)
        if len(columns) > 1:
            ax.legend(fontsize=8, frameon=False)
        bare(ax)
    note = "faint: rows of the log; strong: mean over 1/20 of the run"
    figure.supxlabel(note, fontsize=8, color="#555555")
    return settled(figure)


def before_after(original, decoded, labels, n_bytes, original_bytes=None, crop=None, lpips=None):
    """The original beside what each file decodes to, pixel for pixel.

        original | decoded 1 | decoded 2 | ...   each with: label, bytes (how much smaller), PSNR, LPIPS

    Bytes, PSNR and LPIPS are of the whole picture, also where only a crop is shown.

    Args:
        original: HxWx3 uint8.
        decoded: list of HxWx3 uint8.
        labels: one short line for each of `decoded`.
        n_bytes: size of the file behind each of `decoded`.
        original_bytes: size of the original's own file; its 3 H W raw bytes where None.
        crop: (x0, y0, x1, y1) in pixels, x1 and y1 excluded; the whole picture where None.
        lpips: LPIPS of each of `decoded`; left out of the captions where None or nan.

    Returns:
        Figure whose size is counted from the pixels: every pixel of a picture is one pixel of the figure.

    Raises:
        ValueError: lists of unequal length, a crop outside the picture, or pictures of unequal size.
    """
    distances = [None] * len(decoded) if lpips is None else lpips
    if not len(decoded) == len(labels) == len(n_bytes) == len(distances) or not len(decoded):
        raise ValueError(
            f"{len(decoded)} pictures, {len(labels)} labels, {len(n_bytes)} sizes, {len(distances)} distances: "
            "give one of each"
        )
    height, width = original.shape[:2]
    x0, y0, x1, y1 = crop or (0, 0, width, height)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"crop {crop} does not lie within {width}x{height} pixels: give (x0, y0, x1, y1)")
    raw = original_bytes is None
    from_bytes = original.nbytes if raw else original_bytes
    captions = [["original", f"{from_bytes:,} bytes{', raw' * raw}", ""]]
    for label, picture, size, distance in zip(labels, decoded, n_bytes, distances):
        measured = f"PSNR {psnr(original, picture):.2f} dB"
        measured += "" if distance is None or np.isnan(distance) else f", LPIPS {distance:.3f}"
        captions.append([label, f"{size:,} bytes, {from_bytes / size:.1f}x smaller", measured])

    longest = max(len(line) for caption in captions for line in caption)
    cell_width = max(x1 - x0, int(longest * CAPTION_CHARACTER)) + GAP
    caption_height = 3 * CAPTION_LINE + GAP
    cell_height = y1 - y0 + caption_height
    columns = max(1, min(len(captions), ROW_PIXELS // cell_width))
    rows = ceil_div(len(captions), columns)
    total_width, total_height = GAP + columns * cell_width, GAP + rows * cell_height
    figure = Figure(figsize=(total_width / PICTURE_DPI, total_height / PICTURE_DPI), dpi=PICTURE_DPI)
    for i, (caption, picture) in enumerate(zip(captions, [original, *decoded])):
        left = GAP + i % columns * cell_width
        top = total_height - GAP - i // columns * cell_height
        bottom = top - (y1 - y0)
        box = [left / total_width, bottom / total_height, (x1 - x0) / total_width, (y1 - y0) / total_height]
        ax = figure.add_axes(box)
        ax.set_axis_off()
        ax.imshow(picture[y0:y1, x0:x1], interpolation="nearest", aspect="auto")
        for line, text in enumerate(caption):
            y = (bottom - 4 - line * CAPTION_LINE) / total_height
            style = dict(fontsize=CAPTION_POINTS, weight="normal" if line else "bold", parse_math=False)
            figure.text(left / total_width, y, text, verticalalignment="top", **style)
    return figure


def save(figure, path):
    """Write a figure as PNG or SVG. Equal figures give equal files, and other programs never see half a file.

    Args:
        figure: Figure.
        path: ends in .png or .svg; its folder is made where there is none.

    Returns:
        path, as a Path.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    # left out of the file: matplotlib's version, and the date in an SVG
    metadata = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}
    if kind not in metadata:
        raise ValueError(f"{path.name} is neither .png nor .svg: choose one of them")
    # without a salt the ids in an SVG are random
    with atomic_write(path) as part, matplotlib.rc_context({"svg.hashsalt": OURS, "savefig.bbox": None}):
        figure.savefig(part, format=kind, dpi="figure", metadata=metadata[kind])
    return path
