"""The flowchart shows the code that runs: what is added or renamed there is added or renamed here."""

import xml.etree.ElementTree as ElementTree
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.config import preset
from ganlib.course.flowchart import CHARACTERS, flowchart
from ganlib.course.model_graph import boxes
from ganlib.model.compression_model import CompressionModel, macs_per_pixel
from ganlib.model.discriminator import Discriminator
from ganlib.model.generator import Generator

SIDE = 64
SVG = "http://www.w3.org/2000/svg"


@pytest.fixture
def networks():
    torch.manual_seed(0)
    config = preset("tiny")
    return CompressionModel(config), Discriminator(config.latent_channels)


def names(networks):
    return {box.name: box for box in boxes(*networks, side=SIDE)}


def texts(networks):
    return "\n".join(lines(flowchart(*networks, side=SIDE).svg))


def lines(svg):
    """What stands in an SVG, line by line."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{{{SVG}}}text")]


def test_every_child_is_there_with_its_size(networks):
    found, said = names(networks), texts(networks)
    for part in ("g_a", "entropy", "g_s"):
        for child, _ in getattr(networks[0], part).named_children():
            assert f"{part}.{child}" in found and f"{part}.{child}" in said
    for child, module in networks[1].named_children():
        box = found[f"Discriminator.{child}"]
        assert box.parameters == sum(p.numel() for p in module.parameters())
        assert f"{box.parameters:,} parameters" in said and box.shapes in said
    total = sum(p.numel() for network in networks for p in network.parameters())
    assert sum(box.parameters for box in found.values()) == total


def test_costs_are_those_of_the_model(networks):
    found = names(networks).values()
    for part, macs in macs_per_pixel(networks[0]).items():
        assert sum(box.macs for box in found if box.part == part) == pytest.approx(macs)


def test_shapes_are_those_of_the_pass(networks):
    found = names(networks)
    assert found["g_a.head"].shapes == f"32x{SIDE // 16}x{SIDE // 16} -> 32x{SIDE // 16}x{SIDE // 16}"
    assert found["x"].shapes == found["x_hat"].shapes == f"3x{SIDE}x{SIDE}"
    assert found["Discriminator.judge"].shapes.endswith(f"1x{SIDE // 8}x{SIDE // 8}")


def test_arrows_are_what_feeds_what(networks):
    found = names(networks)
    assert found["g_a.cnn"].sources == found["g_a.shortcut"].sources == ("x",)
    assert {"g_a.head", "g_a.shortcut", "quality"} < set(found["entropy.h_a"].sources)
    assert set(found["g_s.condition"].sources) == {"quality", "realism"}
    assert set(found["x_hat"].sources) == {"g_s.leave", "g_s.shortcut"}
    assert set(found["Discriminator.judge"].sources) == {"Discriminator.condition", "x_hat"}
    assert found["y_hat"].sources == ("entropy.contexts",)
    assert found["likelihoods[z]"].sources == ("entropy.prior",)


class Renamed(Generator):
    """The generator, whose last stage goes by another name and is followed by one more."""

    def __init__(self, config):
        super().__init__(config)
        self.brush = self._modules.pop("leave")
        self.varnish = nn.Sequential(OrderedDict(thin=nn.Conv2d(3, 3, 1), dry=nn.Hardtanh()))

    def leave(self, h):
        return self.varnish(self.brush(h))


def test_what_is_renamed_and_added_is_seen(networks):
    model, discriminator = networks
    assert "brush" not in texts(networks)
    model.g_s = Renamed(model.config)
    said, found = texts(networks), names(networks)
    assert "g_s.brush" in said and "g_s.varnish" in said and "Hardtanh" in said and "g_s.leave" not in said
    assert found["g_s.varnish"].sources == ("g_s.brush",) and "g_s.varnish" in found["x_hat"].sources


def test_what_no_pass_reaches_is_told(networks):
    networks[0].g_a.forgotten = nn.Conv2d(3, 5, 1)
    box = names(networks)["g_a.forgotten"]
    assert (box.shapes, box.parameters, box.macs, box.sources) == ("not reached", 20, 0, ())
    assert "not reached" in texts(networks)


def test_the_networks_stay_as_they_were(networks):
    networks[0].train(), networks[1].eval()
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    flowchart(*networks, side=SIDE)
    assert networks[0].training and networks[0].g_s.training and not networks[1].training
    for network, state in zip(networks, before):
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
        assert all(p.grad is None for p in network.parameters())
        assert not any(module._forward_hooks for module in network.modules())


def curve(points, steps=40):
    """Points along a path of Bezier segments."""
    t = np.linspace(0, 1, steps)[:, None]
    for a, b, c, d in (points[i : i + 4] for i in range(0, len(points) - 3, 3)):
        yield from (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d


def crossings(chart):
    """(arrow, box) wherever an arrow runs behind a box that is not its own."""
    return {
        (arrow, name)
        for arrow, points in chart.arrows.items()
        for x, y in curve(points)
        for name, (x0, y0, x1, y1) in chart.places.items()
        if name not in arrow and x0 < x < x1 and y0 < y < y1
    }


@pytest.mark.parametrize("name", ["tiny", "light", "before"])
def test_no_arrow_runs_behind_a_box_and_no_box_lies_on_another(name):
    config = preset(name)
    chart = flowchart(CompressionModel(config), Discriminator(config.latent_channels), side=SIDE)
    assert not crossings(chart)
    places = list(chart.places.values())
    for i, (ax, ay, bx, by) in enumerate(places):
        assert all(bx <= cx or dx <= ax or by <= cy or dy <= ay for cx, cy, dx, dy in places[:i])
    arrows = {(s, b.name) for b in boxes(CompressionModel(config), Discriminator(config.latent_channels), SIDE)
              for s in b.sources}  # fmt: skip
    assert set(chart.arrows) == arrows


def test_it_can_be_read_in_a_window_of_1280(networks, tmp_path):
    """Scaled to the 820 pixels that a notebook has beside its file list, no letter is smaller than 9 pixels."""
    chart = flowchart(*networks, side=SIDE)
    root = ElementTree.fromstring(chart.svg)
    width = float(root.get("width"))
    assert max(place[2] for place in chart.places.values()) <= width
    sizes = [float(text.get("font-size")) for text in root.iter(f"{{{SVG}}}text")]
    assert min(sizes) * min(1, 820 / width) >= 9
    assert all(len(line) <= CHARACTERS + 8 for line in lines(chart.svg))
    chart.save(tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").read_text() == chart.svg == flowchart(*networks, side=SIDE)._repr_svg_()
