"""Drawings of the five cited ideas, by name: drawing("xie").

A drawing is a list of boxes at given places and of arrows between them; only attention windows need a function.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

DPI = 80
# Kind of a box -> its edge and its face
KINDS = {
    "data": ("#555555", "#F2F2F2"),  # pictures, features, latents
    "net": ("#0072B2", "#E3F0F8"),  # what is learnt
    "file": ("#D55E00", "#FBE9DF"),  # what is rounded or written
    "idea": ("#009E73", "#DFF3EC"),  # what this model adds
}
INK, MEMORY = "#444444", "#CC79A7"  # of arrows; of those that carry a state
QUERY, SEEN, UNSEEN = "#D55E00", "#F6C9AC", "#FFFFFF"  # of positions of attention

OVERVIEW = dict(
    size=(10, 3.0),
    boxes={
        "x": (0.5, 2.2, "x", "data"),
        "g_a": (2.2, 2.2, "g_a", "net"),
        "y": (3.9, 2.2, "y, rounded", "data"),
        "file": (5.6, 2.2, "file", "file"),
        "g_s": (7.3, 2.2, "g_s", "net"),
        "x_hat": (9.2, 2.2, "x_hat", "data"),
        "toderici": (5.6, 0.5, "Toderici 2017\nbits, pass by pass", "idea"),
        "islam": (1.0, 1.25, "Islam 2021\ndivisive normalization", "idea"),
        "song": (3.9, 1.25, "Song 2021\na map of qualities", "idea"),
        "xie": (7.3, 1.25, "Xie 2021\ng_a's flow, backwards", "idea"),
        "zou": (2.4, 0.5, "Zou 2022\nattention in windows", "idea"),
    },
    arrows=[
        ("x", "g_a"), ("g_a", "y"), ("y", "file"), ("file", "g_s"), ("g_s", "x_hat"),
        ("toderici", "file", "idea"), ("islam", "g_a", "idea"), ("song", "g_a", "idea"), ("song", "g_s", "idea"),
        ("xie", "g_s", "idea"), ("zou", "g_a", "idea"),
    ],
)  # fmt: skip

TODERICI = dict(
    size=(10, 4.0),
    boxes={
        f"{part}{t}": (1.6 + 3.2 * t, y, text.format(t=t + 1, before=t), kind)
        for t in range(3)
        for part, y, text, kind in (
            ("r", 3.6, "what is left: x - x_hat_{before}", "data"),
            ("e", 2.75, "encoder (GRU)", "net"),
            ("b", 1.95, "bits of pass {t}", "file"),
            ("d", 1.15, "decoder (GRU)", "net"),
            ("h", 0.35, "x_hat_{t} = x_hat_{before} + result", "data"),
        )
    },
    arrows=[
        *((f"{a}{t}", f"{b}{t}") for t in range(3) for a, b in ("re", "eb", "bd", "dh")),
        *((f"{part}{t}", f"{part}{t + 1}", "memory") for t in range(2) for part in "ed"),
        *((f"h{t}", f"r{t + 1}") for t in range(2)),
    ],
)

ISLAM = dict(
    size=(10, 2.2),
    boxes={
        "r": (0.7, 1.7, "what is left", "data"),
        "conv": (2.4, 1.7, "convolution", "net"),
        "x": (4.3, 1.7, "x: answers of\nall filters", "data"),
        "over": (7.6, 1.7, "x_i / pool_i", "idea"),
        "out": (9.3, 1.7, "to the GRUs", "net"),
        "square": (4.3, 0.4, "squares x_j²", "idea"),
        "pool": (6.6, 0.4, "pool_i = √(beta_i + Σ_j gamma_ij x_j²)", "idea"),
    },
    arrows=[
        ("r", "conv"), ("conv", "x"), ("x", "over"), ("over", "out"), ("x", "square"), ("square", "pool"),
        ("pool", "over"),
    ],
)  # fmt: skip

SONG = dict(
    size=(10, 2.6),
    boxes={
        "map": (1.0, 2.1, "map: 0 to 1\nfor each 64x64 pixels", "idea"),
        **{f"c{i}": (1.4 + 2.1 * i, 2.1, f"condition at 1/{2**i}", "idea") for i in (1, 2, 3)},
        "x": (0.7, 0.5, "x", "data"),
        **{f"net{i}": (0.5 + 2.1 * i, 0.5, "conv /2,\nGDN", "net") for i in (1, 2, 3)},
        **{f"sft{i}": (1.55 + 2.1 * i, 0.5, "SFT", "idea") for i in (1, 2, 3)},
        "y": (9.2, 0.5, "... y", "data"),
    },
    arrows=[
        ("map", "c1"), ("c1", "c2"), ("c2", "c3"), ("x", "net1"), ("net1", "sft1"), ("sft1", "net2"),
        ("net2", "sft2"), ("sft2", "net3"), ("net3", "sft3"), ("sft3", "y"),
        *((f"c{i}", f"sft{i}", "idea") for i in (1, 2, 3)),
    ],
)  # fmt: skip

XIE = dict(
    size=(10, 2.4),
    boxes={
        "x": (0.6, 1.9, "x", "data"),
        "there": (2.6, 1.9, "shuffle, 1x1, coupling\nfour times", "idea"),
        "v": (5.2, 1.9, "v: 768 numbers\nas many as x has", "data"),
        "mean": (7.6, 1.9, "mean of\n6 channels", "net"),
        "y": (9.1, 1.9, "y: 128", "data"),
        "round": (9.1, 0.5, "round, file", "file"),
        "repeat": (7.6, 0.5, "each\n6 times", "net"),
        "v_hat": (5.2, 0.5, "v_hat: 768 numbers,\nv itself if nothing is lost", "data"),
        "back": (2.6, 0.5, "the same layers,\nbackwards", "idea"),
        "x_hat": (0.6, 0.5, "x_hat", "data"),
    },
    arrows=[
        ("x", "there"), ("there", "v"), ("v", "mean"), ("mean", "y"), ("y", "round"), ("round", "repeat"),
        ("repeat", "v_hat"), ("v_hat", "back"), ("back", "x_hat"), ("v", "v_hat", "idea"),
    ],
)  # fmt: skip


def _diagram(size, boxes, arrows):
    """Boxes {key: (x, y, text, kind)}, places in inches; arrows (from, to) or (from, to, kind)."""
    figure = Figure(figsize=size, dpi=DPI)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(0, size[1]))
    ax.set_axis_off()
    patches = {}
    for key, (x, y, text, kind) in boxes.items():
        edge, face = KINDS[kind]
        style = dict(boxstyle="round,pad=0.35", edgecolor=edge, facecolor=face, linewidth=1.4)
        patches[key] = ax.text(x, y, text, ha="center", va="center", fontsize=9.5, bbox=style, parse_math=False)
    figure.draw_without_rendering()  # the boxes get their sizes, at which arrows end
    for a, b, *kind in arrows:
        style = dict(arrowstyle="-|>", color=INK, linewidth=1.3, shrinkA=1, shrinkB=1)
        if kind == ["memory"]:
            style |= dict(color=MEMORY, linestyle="--")
        elif kind == ["idea"]:
            style |= dict(color=KINDS["idea"][0])
        style |= dict(patchA=patches[a].get_bbox_patch(), patchB=patches[b].get_bbox_patch())
        ax.annotate("", boxes[b][:2], boxes[a][:2], arrowprops=style)
    return figure


def _windows():
    """What one position sees in a convolution, in a window and in a shifted window."""
    side, window, query = 12, 4, (5, 6)  # positions of the picture and of a window along one side; row and column
    figure = Figure(figsize=(9, 3.3), dpi=DPI, layout="constrained")
    rows, columns = np.indices((side, side))
    near = (np.abs(rows - query[0]) <= 2) & (np.abs(columns - query[1]) <= 2)
    panels = [("5x5 convolution: all close neighbours", near, None)]
    for shift, title in ((0, "4x4 windows: only its own window"), (window // 2, "shifted windows: other neighbours")):
        mine = [(n + shift) // window for n in query]
        seen = ((rows + shift) // window == mine[0]) & ((columns + shift) // window == mine[1])
        panels.append((title, seen, shift))
    for ax, (title, seen, shift) in zip(figure.subplots(1, 3), panels):
        for row, column in np.ndindex(side, side):
            colour = QUERY if (row, column) == query else SEEN if seen[row, column] else UNSEEN
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="#CCCCCC", linewidth=0.6))
        for edge in () if shift is None else range(-shift, side + window, window):
            for line in (ax.axhline, ax.axvline):
                line(edge, color=KINDS["net"][0], linewidth=2)
        ax.set(xlim=(-0.1, side + 0.1), ylim=(side + 0.1, -0.1), aspect="equal")
        ax.set_title(title, fontsize=9.5)
        ax.set_axis_off()
    return figure


DIAGRAMS = {"overview": OVERVIEW, "toderici": TODERICI, "islam": ISLAM, "song": SONG, "xie": XIE}


def drawing(name):
    """Figure of one idea: "toderici", "islam", "song", "xie" or "zou"; "overview" for their places in the codec."""
    return _windows() if name == "zou" else _diagram(**DIAGRAMS[name])
