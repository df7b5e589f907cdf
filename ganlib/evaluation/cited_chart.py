"""The chart of the cited models: miniatures that were measured here, beside the curves that their papers published.

  measured here                published
  miniatures, one budget       full size, each trained its own way
(solid, on these images)     (dashed, Kodak, read from the papers)     one colour for each idea in both
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ganlib.evaluation import plots

# Codec in curves.csv -> name in the legend, colour, marker, system in data/reference/published_rd.csv
SYSTEMS = {
    "mini": ("ganlib mini", "#000000", "o", None),
    "toderici": ("Toderici 2017", "#CC6677", "s", "Toderici 2017 (RNN)"),
    "islam": ("Islam 2021", "#332288", "D", "Islam 2021 (RNN+GDN)"),
    "song": ("Song 2021", "#117733", "^", "Song 2021 (Qmap/SFT)"),
    "xie": ("Xie 2021", "#0072B2", "v", "Xie 2021 (InvCompress)"),
    "zou": ("Zou 2022", "#D55E00", "P", "WACNN (Zou 2022)"),
    "JPEG": ("JPEG", "#8C8C8C", "x", "JPEG"),
}
MEASURED = dict(linestyle="-", linewidth=2.2, markersize=6)
PUBLISHED = dict(linestyle=plots.DASHES, linewidth=1.4, markersize=5, alpha=0.9)
ROOM = 0.5  # dB above and below the curves


def _draw(ax, curves, style):
    """{codec: DataFrame of bpp, psnr} -> least and greatest visible PSNR."""
    seen = []
    for codec, curve in curves.items():
        curve = curve.sort_values("bpp")
        _, colour, marker, _ = SYSTEMS[codec]
        ax.plot(curve["bpp"], curve["psnr"], color=colour, marker=marker, **style)
        seen.append((curve["bpp"].to_numpy(), curve["psnr"].to_numpy()))
    ax.set_xlabel("rate (bits per pixel)", fontsize=10)
    plots.bare(ax)
    return plots.visible_range(seen)


def measured_and_published(measured, published, images):
    """Two panels with common axes.

    Args:
        measured: DataFrame of codec (keys of SYSTEMS; others are left out), bpp, psnr, means over the images.
        published: the same columns, of published("kodak").
        images: which pictures the first panel was measured on: "24 images, Kodak".

    Returns:
        Figure, 10 x 5.2 inches.
    """
    here = {codec: measured[measured["codec"] == codec] for codec in SYSTEMS}
    here = {codec: curve for codec, curve in here.items() if len(curve)}
    there = {codec: published[published["codec"] == system] for codec, (*_, system) in SYSTEMS.items() if system}
    figure = Figure(figsize=(10, 5.2), dpi=plots.DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    ranges = [_draw(left, here, MEASURED), _draw(right, there, PUBLISHED)]
    low, high = min(least for least, _ in ranges), max(greatest for _, greatest in ranges)
    left.set(xlim=(0, plots.BPP_MAX), ylim=(low - ROOM, high + ROOM))
    left.set_ylabel(plots.AXIS_LABELS["psnr"], fontsize=10)
    left.set_title(
        f"Measured here: miniatures on one budget\n{images}, bytes of files",
        fontsize=10,
        loc="left",
        parse_math=False,
    )
    right.set_title("Published: full size, each trained in its own way\n24 images, Kodak", fontsize=10, loc="left")
    right.tick_params(labelleft=True)
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=2, label=label)
        for label, colour, marker, _ in SYSTEMS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return plots.settled(figure)
