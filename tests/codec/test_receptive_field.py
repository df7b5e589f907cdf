"""How far a network sees: autograd is the oracle, and what cannot be counted is refused."""

import pytest
import torch
from torch import nn

import ganlib
from ganlib.codec.receptive_field import halos, reach
from ganlib.config import PRESETS, STRIDE
from ganlib.model.compression_model import CompressionModel
from ganlib.model.layers import PatchConvTranspose2d, ResidualBlock
from ganlib.weights import Weights, coding_tables


@pytest.mark.parametrize("name", ["tiny", "light", "before"])
def test_reach_is_as_far_as_a_gradient_comes(name):
    """Where the gradient of one output is not zero, there it can see."""
    torch.manual_seed(0)
    model = CompressionModel(PRESETS[name])
    positions = 25  # latents on a line; the middle one is looked at
    middle, one = positions // 2, torch.zeros(1)
    x = torch.rand(1, 3, STRIDE, positions * STRIDE, requires_grad=True)
    model.g_a(x)[0, :, 0, middle].square().sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    further = max(middle * STRIDE - seen.min(), seen.max() - ((middle + 1) * STRIDE - 1)).item()
    pixels, stride = reach(model.g_a, 1)
    assert pixels - STRIDE < further <= pixels  # max-pooling hands the gradient to one of its inputs only
    assert stride == STRIDE

    y_hat = torch.rand(1, model.config.latent_channels, 1, positions, requires_grad=True)
    x_hat = model.g_s(y_hat, one, one)[..., middle * STRIDE : (middle + 1) * STRIDE]
    x_hat.square().sum().backward()
    seen = y_hat.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    assert max(middle - seen.min(), seen.max() - middle).item() == halos(model)[1]


def seen(layer, size=33):
    """How far from the middle of a line the gradient of its output comes."""
    x = torch.rand(1, 4, size, size, requires_grad=True)
    out = layer(x)
    middle = out.shape[3] // 2
    out[:, :, out.shape[2] // 2, middle].square().sum().backward()
    columns = x.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    return (columns.max() - columns.min()).item()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 5, padding=2, groups=2),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2)),
        nn.Sequential(nn.Identity(), nn.GELU(), nn.SiLU(), nn.LeakyReLU(0.1)),
        ResidualBlock(4),
    ],
)
def test_same_size_layers_are_counted(layer):
    pixels, stride = reach(layer, 1)
    assert stride == 1 and seen(layer) == 2 * pixels
    assert reach(layer, 16) == (16 * pixels, 16)


def test_layers_that_change_the_size_are_counted():
    assert reach(nn.PixelUnshuffle(2), 1) == (0, 2)
    assert reach(nn.MaxPool2d(2), 4) == (0, 8)
    assert reach(nn.Conv2d(3, 8, 16, stride=16), 1) == (0, 16)
    assert reach(nn.PixelShuffle(4), 4) == (0, 1)
    assert reach(PatchConvTranspose2d(8, 3, 16), 16) == (0, 1)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    assert reach([conv, nn.MaxPool2d(2), conv, nn.PixelUnshuffle(2), conv], 1) == (1 + 2 + 4, 4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm2d(4),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.AdaptiveAvgPool2d(1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1),
        nn.Linear(4, 4),
        nn.MultiheadAttention(4, 2),
        nn.Softmax2d(),
        type("Subclass", (nn.Conv2d,), {})(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=2),
        nn.Conv2d(4, 4, 4, padding=2),
        nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_refused_wherever_it_stands(layer):
    with pytest.raises(ValueError):
        reach(layer, 1)
    with pytest.raises(ValueError):
        reach(nn.Sequential(nn.LeakyReLU(), nn.Sequential(layer)), 1)


def test_a_layer_may_tell_by_itself():
    class Shifted(nn.Module):
        def reach(self, stride):
            return 3.0 * stride, stride

    assert reach(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Shifted()), 2) == (8, 2)


def test_no_codec_is_made_of_a_network_that_looks_too_far():
    model = CompressionModel(PRESETS["tiny"])
    weights = Weights("a", model, coding_tables(model), bytes(8))
    ganlib.Codec(weights)
    model.g_a.cnn.append(nn.InstanceNorm2d(32))
    with pytest.raises(ValueError, match="InstanceNorm2d may look further than its window"):
        ganlib.Codec(weights)
    model.g_a.cnn[-1] = nn.Identity()
    block = next(layer for layer in model.g_s.stages if isinstance(layer, ResidualBlock))
    for owner in (model.g_a, model.g_s, block):
        owner.norm = nn.InstanceNorm2d(32)  # used by a forward() that somebody has changed
        with pytest.raises(ValueError, match="has parts that are not counted: norm"):
            ganlib.Codec(weights)
        del owner.norm
    ganlib.Codec(weights)
    model.g_a.cnn[-1] = nn.MaxPool2d(2)
    with pytest.raises(ValueError, match="strides"):
        ganlib.Codec(weights)
