"""The comparison viewer: two versions of a picture in one place, and a test in which the names are hidden."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ganlib.course.widgets.base import png
from ganlib.evaluation import metrics
from ganlib.evaluation.comparisons import busiest_crop
from ganlib.evaluation.measure import lpips_or_nan

HERE = Path(__file__).parent
WHOLE = 700_000  # pixels up to which a picture is shown whole; of a larger one the square with the most detail
CROP = 768  # side of that square
FALLBACK = 400  # side of the crops in the static picture: two fit side by side
SAME = "no difference"
DPI = 80


@dataclass(frozen=True)
class Version:
    """One version of a picture.

    name: short, such as "JPEG", counted in the tally; pixels: H,W,3 uint8; facts: a line below, hidden in the test.
    """

    name: str
    pixels: np.ndarray
    facts: str = ""


def measured_version(name, original, decoded, n_bytes=None, note=""):
    """A Version whose facts are its size in bytes, PSNR and LPIPS against the original.

    Args:
        name: of the version.
        original, decoded: H,W,3 uint8 of one size.
        n_bytes: of the file; None where there is none.
        note: goes before the numbers.
    """
    facts = [note] if note else []
    facts += [] if n_bytes is None else [f"{n_bytes:,} bytes"]
    facts.append(f"PSNR {metrics.psnr(original, decoded):.2f} dB")
    distance = lpips_or_nan(original, decoded)
    facts += [] if np.isnan(distance) else [f"LPIPS {distance:.3f}"]
    return Version(name, decoded, ", ".join(facts))


def common_crop(versions, side=CROP, whole=WHOLE):
    """The same part of every version: all of it, or the square where the first one has the most detail."""
    height, width = versions[0].pixels.shape[:2]
    if any(version.pixels.shape != versions[0].pixels.shape for version in versions):
        sizes = ", ".join(f"{v.name} {v.pixels.shape[1]}x{v.pixels.shape[0]}" for v in versions)
        raise ValueError(f"versions of one picture have one size; these have {sizes}")
    if height * width <= whole:
        return [version.pixels for version in versions]
    x0, y0, x1, y1 = busiest_crop(versions[0].pixels, side)
    return [version.pixels[y0:y1, x0:x1] for version in versions]


def comparison_view(versions, left=0, right=1):
    """Two versions side by side, pixel for pixel, with their names and facts: the viewer's picture without a kernel.

    Args:
        versions: list of Version, all of one size.
        left, right: which of them.

    Returns:
        Figure.
    """
    pair = [versions[left], versions[right]]
    crops = common_crop(pair, FALLBACK, FALLBACK**2)
    height, width = crops[0].shape[:2]
    cell, caption = max(width, 390) + 10, 56  # pixels
    total = 2 * cell, height + caption
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    for i, (version, crop) in enumerate(zip(pair, crops)):
        ax = figure.add_axes([i * cell / total[0], caption / total[1], width / total[0], height / total[1]])
        ax.set_axis_off()
        ax.imshow(crop, interpolation="nearest", aspect="auto")
        style = dict(verticalalignment="top", parse_math=False)
        figure.text(i * cell / total[0], (caption - 6) / total[1], version.name, fontsize=11, weight="bold", **style)
        figure.text(i * cell / total[0], (caption - 28) / total[1], version.facts, fontsize=9.5, **style)
    return figure


class ComparisonViewer(anywidget.AnyWidget):
    """Compare by swiping, flickering or side by side, at 1:1 or 4x; in the blind test choose the better one.

        Blind test --> the pair is shuffled, names and facts are hidden --> A or B? --> both are shown, it counts

    Args:
        versions: list of Version, two or more, all of one size.
        left, right: which two are shown at first.
    """

    _esm, _css = HERE / "comparison.js", HERE / "comparison.css"
    pngs = traitlets.List(traitlets.Bytes()).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    facts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    size = traitlets.List(traitlets.Int()).tag(sync=True)  # width, height
    left, right = traitlets.Int(0).tag(sync=True), traitlets.Int(1).tag(sync=True)
    mode = traitlets.Enum(("swipe", "flicker", "beside"), "swipe").tag(sync=True)
    zoom = traitlets.Enum((1, 4), 1).tag(sync=True)
    hidden = traitlets.Bool(False).tag(sync=True)
    tally = traitlets.Dict().tag(sync=True)  # {name: votes}

    def __init__(self, versions, left=0, right=1):
        super().__init__(left=left, right=right)
        self.compare(versions)
        self.on_msg(self._hear)

    def compare(self, versions):
        """Show other versions; this ends a running test, and the tally stays."""
        if len(versions) < 2:
            raise ValueError("there must be two versions or more to compare")
        crops = common_crop(versions)
        with self.hold_sync():
            self.hidden = False
            self.names, self.facts = [v.name for v in versions], [v.facts for v in versions]
            self.size = [crops[0].shape[1], crops[0].shape[0]]
            self.left, self.right = min(self.left, len(versions) - 1), min(self.right, len(versions) - 1)
            self.pngs = [png(crop) for crop in crops]

    def blind(self):
        """Hide the names and shuffle the pair; or end the test without a vote."""
        if self.hidden:
            self.hidden = False
            return
        pair = [self.left, self.right]
        if secrets.randbelow(2):  # no seed, so that nobody can know the order
            pair.reverse()
        with self.hold_sync():
            self.left, self.right = pair
            self.hidden = True

    def vote(self, side):
        """Count "left", "right" or "same", and show the names. Outside a test it does nothing."""
        if self.hidden:
            winner = SAME if side == "same" else self.names[self.left if side == "left" else self.right]
            self.tally = self.tally | {winner: self.tally.get(winner, 0) + 1}
            self.hidden = False

    def _hear(self, widget, message, buffers):
        if message.get("kind") == "blind":
            self.blind()
        elif message.get("kind") == "vote" and message.get("side") in ("left", "right", "same"):
            self.vote(message["side"])
