"""The flowchart shows the code that runs: what is added or renamed there is added or renamed here."""

from collections import OrderedDict

import pytest
import torch
from matplotlib.text import Text
from torch import nn

from ganlib.config import preset
from ganlib.model.discriminator import Discriminator
from ganlib.course.flowchart import boxes, flowchart
from ganlib.model.generator import Generator
from ganlib.model.compression_model import CompressionModel, macs_per_pixel

SIDE = 64


@pytest.fixture
def networks():
    torch.manual_seed(0)
    config = preset("tiny")
    return CompressionModel(config), Discriminator(config.latent_channels)


def names(networks):
    return {box.name: box for box in boxes(*networks, side=SIDE)}


def texts(networks):
    return "\n".join(text.get_text() for text in flowchart(*networks, side=SIDE).findobj(Text))


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
