"""The model as a flowchart in SVG, drawn from the code that runs (see model_graph).

    boxes in rows, each below its sources --igraph: order in a row--> --linear program: places--> boxes and arrows

An arrow that passes a row has its own place in that row, so that none runs behind a box (Sugiyama et al. 1981;
places as in Gansner et al. 1993: short arrows, and long ones straight).
"""

import html
from collections import defaultdict
from dataclasses import dataclass, field

import igraph
import numpy as np
from scipy.optimize import linprog

from ganlib.atomic_write import atomic_write
from ganlib.course.model_graph import SIDE, boxes
from ganlib.evaluation.plots import MEASURED_COLOURS

# Pixels. A notebook in a window of 1280 has room for about 1000: four boxes and their arrows.
BOX, PILL, LANE = 232, 120, 8  # widths: of a box, of a tensor at least, of an arrow that passes
ACROSS, DOWN = 16, 46  # gaps between neighbours, and between rows
LINE, PILL_HEIGHT, PORT = 16, 30, 14  # height of a line of text; of a tensor; distance of arrows that end at one box
CHARACTERS = 32  # of a box's line before it wraps
LETTER, MARGIN = 8.4, 24  # of a tensor's name, in bold
STRAIGHT = 8  # how much more a bend in a long arrow costs than a slanted short one
FONT = "DejaVu Sans, Verdana, Helvetica, sans-serif"


@dataclass(frozen=True)
class Flowchart:
    """The drawing, and the places of its parts.

    svg: the file's text; places: {name: (x0, y0, x1, y1)}; arrows: {(source, target): n,2 points of a Bezier curve,
    three more for each segment}.
    """

    svg: str = field(repr=False)  # a notebook would save it twice
    places: dict = field(repr=False)
    arrows: dict = field(repr=False)

    def _repr_svg_(self):
        return self.svg

    def save(self, path):
        """Write the .svg file."""
        with atomic_write(path) as part:
            part.write_text(self.svg, encoding="utf-8")


def rows_of(found):
    """{name: row}: each box below its sources; a box that only inputs feed is just above its targets."""
    row = {}
    by_name = {box.name: box for box in found}

    def below(name):
        if name not in row:
            row[name] = 1 + max((below(source) for source in by_name[name].sources), default=-1)
        return row[name]

    for name in by_name:
        below(name)
    feeds = {name: [box.name for box in found if name in box.sources] for name in by_name}
    for name in sorted(row, key=row.get, reverse=True):
        inputs_only = all(not by_name[source].sources for source in by_name[name].sources)
        if feeds[name] and inputs_only:
            row[name] = min(row[other] for other in feeds[name]) - 1
    return row


def wrapped(text):
    """A list of layers on lines of CHARACTERS at most."""
    words, lines = text.split(", "), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > CHARACTERS:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{word}"
    return [*(f"{line}," for line in lines[:-1]), lines[-1]]


def lines_of(box):
    """Text of a box, a list of lines; the first is its name."""
    if not box.layers:
        return [f"{box.name}  {box.shapes}"]
    cost = f"{box.parameters:,} parameters, {box.macs / 1000:.2f} kMAC/pixel"
    return [box.name, *wrapped(box.layers), box.shapes, *wrapped(cost)]


def _ordered(found, row):
    """Rows of names from left to right. An arrow that passes rows is a chain: (source, target, row) in each of them.

    Returns:
        {row: list of names and chain links}, and the links of arrows: list of (upper, lower).
    """
    links, members = [], [box.name for box in found]
    for box in found:
        for source in box.sources:
            chain = [(source, box.name, r) for r in range(row[source] + 1, row[box.name])]
            members += chain
            links += zip([source, *chain], [*chain, box.name])
    number = {member: i for i, member in enumerate(members)}
    layers = [row[m] if isinstance(m, str) else m[2] for m in members]
    graph = igraph.Graph([(number[a], number[b]) for a, b in links], directed=True)
    graph.add_vertices(len(members) - graph.vcount())  # boxes without arrows that come after the last with one
    places = graph.layout_sugiyama(layers=layers, maxiter=1000)
    order = defaultdict(list)
    for i in sorted(range(len(members)), key=lambda i: places[i][0]):
        order[layers[i]].append(members[i])
    return order, links


def _across(order, links, width):
    """Centre of each member in x: links as short as possible, neighbours ACROSS apart. A linear program."""
    members = [member for members in order.values() for member in members]
    number, n = {member: i for i, member in enumerate(members)}, len(members)
    rows, limits = [], []

    def at_most(terms, limit):
        line = np.zeros(n + len(links))
        for i, factor in terms:
            line[i] += factor
        rows.append(line)
        limits.append(limit)

    cost = np.zeros(n + len(links))
    for k, (a, b) in enumerate(links):  # cost * |x_a - x_b|, the distance as a variable of its own
        cost[n + k] = STRAIGHT if not isinstance(a, str) and not isinstance(b, str) else 1
        for sign in (1, -1):
            at_most([(number[a], sign), (number[b], -sign), (n + k, -1)], 0)
    for beside in order.values():
        for a, b in zip(beside, beside[1:]):
            at_most([(number[a], 1), (number[b], -1)], -(width(a) + width(b)) / 2 - ACROSS)
    solved = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=[(0, None)] * (n + len(links)))
    left = min(solved.x[number[m]] - width(m) / 2 for m in members)
    return {member: solved.x[number[member]] - left + ACROSS / 2 for member in members}


def flowchart(model, discriminator, side=SIDE):
    """Draw a model: a box for each child of each part, an arrow where one feeds another.

    Arrows that follow from others are left out (a -> c where a -> b -> c is drawn).

    Args:
        As `model_graph.boxes`.

    Returns:
        Flowchart; a notebook shows it. Parts differ in colour, and in the names in the boxes.
    """
    found = {box.name: box for box in boxes(model, discriminator, side)}
    row = rows_of(list(found.values()))
    order, links = _ordered(list(found.values()), row)

    def width(member):
        if not isinstance(member, str):
            return LANE
        return BOX if found[member].layers else max(PILL, LETTER * len(lines_of(found[member])[0]) + MARGIN)

    def height(member):
        box = found[member]
        return LINE * len(lines_of(box)) + 12 if box.layers else PILL_HEIGHT

    x = _across(order, links, width)
    tops, y = {}, 10
    for level in range(1 + max(row.values())):
        tall = max(height(m) for m in order[level] if isinstance(m, str))
        tops[level] = y, y + tall
        y += tall + DOWN
    places = {}
    for name in found:
        middle, half = sum(tops[row[name]]) / 2, height(name) / 2
        places[name] = (x[name] - width(name) / 2, middle - half, x[name] + width(name) / 2, middle + half)
    arrows = _arrows(found, row, x, places, tops)
    size = max(place[2] for place in places.values()) + ACROSS / 2, y - DOWN + 10
    return Flowchart(_svg(found, places, arrows, size), places, arrows)


def _arrows(found, row, x, places, tops):
    """{(source, target): points}: vertical through each row that an arrow passes, curved in the gaps between."""
    arrows = {}
    for box in found.values():
        # arrows that end at one box arrive side by side, in the order in which they come
        last = {s: x[s] if row[box.name] - row[s] == 1 else x[s, box.name, row[box.name] - 1] for s in box.sources}
        ends = sorted(box.sources, key=last.get)
        for i, source in enumerate(ends):
            at = np.array([(places[source][0] + places[source][2]) / 2, places[source][3]])
            points = [at]
            stops = []
            for r in range(row[source] + 1, row[box.name]):
                stops += [(x[source, box.name, r], tops[r][0]), (x[source, box.name, r], tops[r][1])]
            stops.append((x[box.name] + PORT * (i - (len(ends) - 1) / 2), places[box.name][1]))
            for stop in map(np.array, stops):
                bend = np.array([0, (stop[1] - at[1]) / 2])
                points += [at + bend, stop - bend, stop]
                at = stop
            arrows[source, box.name] = np.array(points)
    return arrows


def _svg(found, places, arrows, size):
    parts = list(dict.fromkeys(box.part for box in found.values() if box.part))
    colours = dict(zip(parts, MEASURED_COLOURS))
    width, height = map(round, size)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width: 100%; height: auto" font-family="{FONT}" role="img">',
        f"<title>Flowchart of {', '.join(parts)}</title>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for (source, target), points in arrows.items():
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points[1:])
        text = html.escape(f"{source} to {target}")
        out.append(
            f'<path d="M{points[0][0]:.1f},{points[0][1]:.1f} C{path}" fill="none" stroke="#444" stroke-width="1.3" '
            f'marker-end="url(#tip)"><title>{text}</title></path>'
        )
    for name, (x0, y0, x1, y1) in places.items():
        box = found[name]
        colour, corner = colours.get(box.part, "#777777"), 6 if box.layers else 14
        out.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" rx="{corner}" '
            f'fill="white" stroke="{colour}" stroke-width="2"/>'
        )
        for i, line in enumerate(lines_of(box)):
            style = f'font-size="13.5" font-weight="bold" fill="{colour if box.layers else "#111"}"'
            style = style if i == 0 else 'font-size="12" fill="#111"'
            y = (y0 + y1) / 2 + LINE * (i - (len(lines_of(box)) - 1) / 2) + 4.5
            at = f'x="{(x0 + x1) / 2:.1f}" y="{y:.1f}" text-anchor="middle"'
            out.append(f"<text {at} {style}>{html.escape(line)}</text>")
    return "\n".join([*out, "</svg>"])
