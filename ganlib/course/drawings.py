"""The drawings of the notebooks, as SVG: python -m ganlib.course.drawings writes them to notebooks/drawings/.

Each is a function without arguments in DRAWINGS; boxes compute, plain words are data.
"""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "drawings"
INK, FAINT, PAPER = "#1f2937", "#9ca3af", "#ffffff"
HERE, COOL, WARM, GREEN = "#fde68a", "#bfdbfe", "#fecaca", "#bbf7d0"  # fills; all of them carry black text


class Drawing:
    """Shapes on a canvas of width x height pixels.

    Args:
        description: alternative text of the whole drawing.
    """

    def __init__(self, width, height, description):
        self.width, self.height, self.description, self.parts = width, height, description, []

    def box(self, x, y, width, height, text="", fill=PAPER, stroke=INK, size=14):
        """A rectangle with lines of text in its middle."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{stroke}"/>'
        )
        lines = text.split("\n") if text else []
        for i, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + (i - (len(lines) - 1) / 2) * (size + 3) + size / 3, line, size)

    def cell(self, x, y, side, fill=PAPER, text="", size=12):
        """A square of a grid."""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{fill}" stroke="{FAINT}"/>')
        if text:
            self.text(x + side / 2, y + side / 2 + size / 3, text, size)

    def text(self, x, y, text, size=13, anchor="middle", color=INK, weight="normal"):
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{color}" '
            f'font-weight="{weight}">{escape(text)}</text>'
        )

    def arrow(self, x0, y0, x1, y1, text="", dashed=False):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{INK}" stroke-width="1.6"{dash} '
            f'marker-end="url(#tip)"/>'
        )
        if text:
            self.text((x0 + x1) / 2, (y0 + y1) / 2 - 6, text, 12)

    def line(self, points, color=INK, width=2):
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>')

    def svg(self):
        """The drawing as the text of an SVG file."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" font-family="DejaVu Sans, Verdana, sans-serif">\n'
            f"<title>{escape(self.description)}</title>\n"
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" fill="{PAPER}"/>\n{body}\n</svg>\n'
        )


# Stations of the pipeline: {name: (words, x, y)}. The two rows are the sender's and the receiver's.
STATIONS = {
    "data": ("photographs", 10, 20),
    "features": ("g_a\nfeatures", 160, 20),
    "rounding": ("quantization", 310, 20),
    "bits": ("entropy model,\nrange coder", 460, 20),
    "file": ("file\n.gic", 610, 75),
    "decode": ("range\ndecoder", 460, 130),
    "generator": ("g_s\ngenerator", 310, 130),
    "picture": ("picture", 160, 130),
    "judge": ("discriminator\n(training only)", 10, 130),
}
WIDTH, HEIGHT = 130, 50


def pipeline(here, words):
    """The place of a notebook in the pipeline of the codec.

    Args:
        here: names of the notebook's stations; words: the same as alternative text.
    """
    drawing = Drawing(760, 215, f"The pipeline of the codec; this notebook is about {words}.")
    middle = HEIGHT / 2
    for left, right in (("data", "features"), ("features", "rounding"), ("rounding", "bits")):
        drawing.arrow(STATIONS[left][1] + WIDTH, 20 + middle, STATIONS[right][1], 20 + middle)
    for right, left in (("decode", "generator"), ("generator", "picture"), ("picture", "judge")):
        drawing.arrow(STATIONS[right][1], 130 + middle, STATIONS[left][1] + WIDTH, 130 + middle)
    drawing.arrow(460 + WIDTH, 20 + middle, 640, 75)
    drawing.arrow(640, 75 + HEIGHT, 460 + WIDTH, 130 + middle)
    drawing.arrow(75, 20 + HEIGHT, 75, 130, dashed=True)
    for name, (text, x, y) in STATIONS.items():
        drawing.box(x, y, WIDTH, HEIGHT, text, HERE if name in here else PAPER)
    drawing.text(380, 205, "yellow: this notebook", 12)
    return drawing


def convolution_and_pooling():
    """A 3x3 window slides; max-pooling keeps the largest of four."""
    drawing = Drawing(760, 230, "A convolution weighs a 3x3 window and adds up; max-pooling keeps the largest.")
    values = [[1, 0, 2, 1, 0, 3], [0, 4, 1, 0, 2, 1], [2, 1, 0, 3, 1, 0], [1, 0, 2, 1, 5, 1]]
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            drawing.cell(15 + 30 * j, 50 + 30 * i, 30, COOL if i < 3 and j < 3 else PAPER, str(value))
    drawing.text(105, 35, "a channel, a 3x3 window")
    kernel = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    for i, row in enumerate(kernel):
        for j, value in enumerate(row):
            drawing.cell(240 + 30 * j, 65 + 30 * i, 30, HERE, str(value))
    drawing.text(285, 35, "kernel (weights)")
    drawing.text(217, 115, "*", 22)
    total = sum(values[i][j] * kernel[i][j] for i in range(3) for j in range(3))
    drawing.arrow(345, 110, 400, 110, "sum")
    drawing.cell(405, 95, 34, GREEN, str(total), 13)
    drawing.text(422, 150, "one number of the", 12)
    drawing.text(422, 166, "output; then the", 12)
    drawing.text(422, 182, "window moves on", 12)
    pooled = [[3, 9, 2, 0], [1, 4, 7, 5]]
    for i, row in enumerate(pooled):
        for j, value in enumerate(row):
            drawing.cell(510 + 30 * j, 65 + 30 * i, 30, COOL if j < 2 else WARM, str(value))
    drawing.text(570, 35, "2x2 max-pooling")
    drawing.arrow(635, 95, 670, 95, "max")
    for j, (value, fill) in enumerate(((9, COOL), (7, WARM))):
        drawing.cell(675 + 34 * j, 78, 34, fill, str(value), 13)
    drawing.text(640, 160, "half the height, half the width", 12)
    return drawing


def quantization_and_noise():
    """Rounding is a staircase without slope; noise as wide as a step replaces it in training."""
    drawing = Drawing(760, 240, "Rounding as a staircase, and noise between minus and plus one half in its place.")
    for x0, title in ((60, "in the file: round(y)"), (430, "in training: y + noise")):
        drawing.arrow(x0, 122, x0 + 265, 122)
        drawing.arrow(x0 + 130, 225, x0 + 130, 40)
        drawing.text(x0 + 130, 25, title, 14, weight="bold")
        drawing.text(x0 + 274, 127, "y", 13)
    stairs = []
    for step in range(-2, 3):
        y = 122 - 30 * step
        stairs += [(190 + 48 * (step - 0.5), y), (190 + 48 * (step + 0.5), y)]
    drawing.line(stairs, "#1d4ed8", 3)
    band = [(440, 212), (680, 62), (680, 32), (440, 182)]
    drawing.parts.append(f'<polygon points="{" ".join(f"{x},{y}" for x, y in band)}" fill="{COOL}" stroke="none"/>')
    drawing.line([(440, 197), (680, 47)], "#1d4ed8", 2)
    drawing.text(205, 190, "slope 0 everywhere:", 12, "start")
    drawing.text(205, 206, "nothing to learn from", 12, "start")
    drawing.text(575, 190, "slope 1: gradients pass;", 12, "start")
    drawing.text(575, 206, "the band is one step wide", 12, "start")
    return drawing


def range_coder():
    """Each symbol takes its share of the interval; the file is one number inside the last one."""
    drawing = Drawing(760, 250, "A range coder narrows an interval symbol by symbol; likely symbols narrow it least.")
    shares = (("0", 0.6, COOL), ("1", 0.3, HERE), ("-1", 0.1, WARM))
    low, high = 0.0, 1.0
    for row, chosen in enumerate(("0", "1", "0")):
        y, at = 30 + 70 * row, 60.0
        for name, share, fill in shares:
            width = 560 * share
            drawing.box(at, y, width, 32, name, fill, INK if name != chosen else "#b91c1c", 14)
            if name == chosen:
                left, right = at, at + width
                low, high = low + (high - low) * (at - 60) / 560, low + (high - low) * (at + width - 60) / 560
            at += width
        drawing.text(640, y + 14, f"symbol: {chosen}", 13, "start")
        drawing.text(640, y + 32, f"{low:.3f} to {high:.3f}", 12, "start")
        if row < 2:
            drawing.line([(left, y + 32), (60, y + 70)], FAINT, 1)
            drawing.line([(right, y + 32), (620, y + 70)], FAINT, 1)
    drawing.text(
        60,
        240,
        f"Any number from {low:.3f} to {high:.3f} names all three: about -log2({high - low:.3f}) bits.",
        13,
        "start",
    )
    return drawing


def hyperprior_and_checkerboard():
    """z gives the rough size of y; half of y is then a context for the other half."""
    drawing = Drawing(760, 250, "The hyper-latents predict scales; anchors of a checkerboard are coded first.")
    drawing.box(20, 40, 110, 50, "y\nlatents", COOL)
    drawing.arrow(130, 65, 190, 65, "h_a")
    drawing.box(190, 40, 120, 50, "z, a quarter\nof the side", HERE)
    drawing.arrow(310, 65, 370, 65, "h_s")
    drawing.box(370, 40, 130, 50, "mean and scale\nfor each y", GREEN)
    drawing.text(250, 115, "coded first: a few bits", 12)
    drawing.text(435, 115, "how large y will be", 12)
    for step, x in ((0, 30), (1, 280), (2, 530)):
        for i in range(4):
            for j in range(6):
                anchor = (i + j) % 2 == 0
                fill = COOL if anchor and step >= 1 else GREEN if not anchor and step == 2 else PAPER
                drawing.cell(x + 26 * j, 135 + 24 * i, 24, fill)
        drawing.text(x + 78, 247, ("nothing known", "1. anchors", "2. the rest, from 4 neighbours")[step], 12)
    drawing.arrow(200, 183, 265, 183)
    drawing.arrow(450, 183, 515, 183)
    return drawing


def generator_and_discriminator():
    """Who learns when: first the discriminator, then the generator."""
    drawing = Drawing(760, 270, "One step trains D with the generator frozen, the next one trains it with D frozen.")
    for y, learner, text in ((30, "D", "1. D learns, g_s is frozen"), (150, "G", "2. g_s learns, D is frozen")):
        drawing.text(15, y + 4, text, 14, "start", weight="bold")
        drawing.box(20, y + 25, 120, 50, "g_a and\nentropy model", "#e5e7eb")
        drawing.arrow(140, y + 50, 190, y + 50, "y_hat")
        drawing.box(190, y + 25, 110, 50, "g_s", HERE if learner == "G" else "#e5e7eb")
        drawing.arrow(300, y + 50, 380, y + 50, "x_hat")
        drawing.box(380, y + 15, 130, 70, "D\ndiscriminator", HERE if learner == "D" else "#e5e7eb")
        if learner == "D":
            drawing.arrow(445, y - 15, 445, y + 15)
            drawing.text(455, y - 4, "x, a photograph", 12, "start")
            drawing.text(530, y + 45, "D(x) up, D(x_hat) down", 14, "start")
            drawing.text(530, y + 65, "gradient stops at x_hat", 12, "start")
        else:
            drawing.text(530, y + 45, "D(x_hat) up, and near x", 14, "start")
            drawing.text(530, y + 65, "gradient goes through D", 12, "start")
            drawing.arrow(520, y + 95, 245, y + 95, dashed=True)
    drawing.text(
        20,
        264,
        "yellow learns, gray is frozen (g_a and the entropy model always: files stay what they were)",
        12,
        "start",
    )
    return drawing


def window_and_halo():
    """A tile is computed from a window with a margin, and only its middle is kept."""
    drawing = Drawing(760, 250, "A picture in tiles; the window of one tile has a halo around it, which is cut off.")
    for i in range(3):
        for j in range(4):
            drawing.cell(30 + 70 * j, 25 + 70 * i, 70)
    drawing.parts.append(
        f'<rect x="80" y="75" width="110" height="110" fill="{COOL}" fill-opacity="0.7" stroke="{INK}"/>'
    )
    drawing.parts.append(f'<rect x="100" y="95" width="70" height="70" fill="{HERE}" stroke="{INK}"/>')
    drawing.arrow(330, 120, 400, 120, "network")
    drawing.box(410, 65, 110, 110, "", COOL)
    drawing.box(430, 85, 70, 70, "kept", HERE)
    drawing.arrow(530, 120, 600, 120, "cut")
    drawing.box(610, 85, 70, 70, "tile", HERE)
    drawing.text(585, 205, "halo: as wide as the network looks.", 13)
    drawing.text(585, 223, "Then no seam can be seen.", 13)
    return drawing


# notebook -> what it is about, by station and in words
PLACES = {
    "00": (tuple(STATIONS), "all of it"),
    "01": (("data",), "photographs"),
    "02": (("features", "rounding"), "features and quantization"),
    "03": (("bits", "file", "decode"), "the entropy model, the range coder and the file"),
    "04": (("generator", "picture", "judge"), "generator and discriminator"),
    "05": (("features", "generator"), "the memory that both networks need"),
    "06": (("file", "picture"), "bytes and pictures, measured"),
    "07": (("features", "rounding", "bits", "decode", "generator"), "other networks in the same places"),
}
DRAWINGS = {f"pipeline_{number}": lambda place=place: pipeline(*place) for number, place in PLACES.items()}
DRAWINGS |= {
    function.__name__: function
    for function in (
        convolution_and_pooling,
        quantization_and_noise,
        range_coder,
        hyperprior_and_checkerboard,
        generator_and_discriminator,
        window_and_halo,
    )  # fmt: skip
}


def main():
    """Write every drawing."""
    FOLDER.mkdir(exist_ok=True)
    for name, function in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(function().svg())


if __name__ == "__main__":
    main()
