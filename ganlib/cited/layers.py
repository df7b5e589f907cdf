"""Layers that several of the cited transforms use: strided convolutions, bottlenecks, a gate."""

import torch
from torch import nn

from ganlib.config import STRIDE
from ganlib.model.layers import SLOPE

KERNEL = 5  # of the strided convolutions, along one side
# Of the learning rate, for what comes before the sigmoid of a gate. Muon's steps are equally long however small the
# gradient is: at the full rate the layers there grew together until its argument was -7,000, and the gate was shut.
MASK_SHARE = 0.03


class SeesPixels:
    """Mixin of a g_a that turns 16x16 pixels into a latent and sees `pixels` more pixels on each side.

    Python passes the keywords of a class statement, `class A(SeesPixels, pixels=62)`, to __init_subclass__.
    """

    def __init_subclass__(cls, pixels, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.pixels = pixels

    def reach(self, stride):
        """See ganlib.codec.receptive_field.reach."""
        return self.pixels * stride, stride * STRIDE


class SeesLatents:
    """Mixin of a g_s that turns a latent into 16x16 pixels and sees `latents` more latents on each side."""

    def __init_subclass__(cls, latents, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.latents = latents

    def reach(self, stride):
        """See ganlib.codec.receptive_field.reach."""
        return self.latents * stride, stride / STRIDE


def down(c_in, c_out):
    """B,C,H,W -> B,C',H/2,W/2."""
    return nn.Conv2d(c_in, c_out, KERNEL, stride=2, padding=KERNEL // 2)


def up(c_in, c_out):
    """B,C,H,W -> B,C',2H,2W."""
    return nn.ConvTranspose2d(c_in, c_out, KERNEL, stride=2, padding=KERNEL // 2, output_padding=1)


def channel_pairs(widths, inner, outer):
    """Input and output channels of one layer after the other: inner -> widths[0] -> ... -> outer."""
    return list(zip((inner, *widths), (*widths, outer)))


class ResidualUnit(nn.Module):
    """x: B,C,H,W -> x + conv 1x1(act(conv 3x3(act(conv 1x1(x))))), with half the channels inside."""

    def __init__(self, channels):
        super().__init__()
        half, act = channels // 2, nn.LeakyReLU(SLOPE)
        inside = nn.Conv2d(half, half, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(channels, half, 1), act, inside, act, nn.Conv2d(half, channels, 1))

    def forward(self, x):
        return x + self.branch(x)


class Gate(nn.Module):
    """x + unit(x) * sigmoid(conv 1x1(unit(look(x)))): the features decide where to add, and how much.

    With look = identity this is the attention of Cheng et al. 2020 (arXiv:2001.01568), with one unit instead of
    three; in zou.py, look is attention within windows.
    """

    def __init__(self, channels, look=None):
        super().__init__()
        self.channels, self.trunk = channels, ResidualUnit(channels)
        self.mask = nn.Sequential(look or nn.Identity(), ResidualUnit(channels), nn.Conv2d(channels, channels, 1))
        self.mask.learning_share = MASK_SHARE

    def forward(self, x):
        return x + self.trunk(x) * torch.sigmoid(self.mask(x))
