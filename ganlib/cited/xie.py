"""Xie 2021: an encoder that runs backwards, but for small layers, the squeeze to fewer numbers, and the rounding.

    x --enhance--[unshuffle 2x2, 1x1 convolution, coupling] x 4--> v: 768 numbers for 16x16 pixels
    v --mean of 6 channels each--attention--> y: 128 numbers --> [entropy model] --> y_hat
    y_hat --attention'--each number 6 times--> v_hat --[the same layers, backwards]--enhance'--> x_hat

    coupling, of channels cut into a quarter v1 and the rest v2:        and backwards:
      u1 = v1 * exp(s(G2(v2))) + H2(v2)                                   v2 = (u2 - H1(u1)) / exp(s(G1(u1)))
      u2 = v2 * exp(s(G1(u1))) + H1(u1)                                   v1 = (u1 - H2(v2)) / exp(s(G2(v2)))

G and H may be any networks, since neither direction inverts them; s keeps scales between 1/e and e. The mean of six
channels loses nothing where they are equal: the network learns to make them equal where it matters.

Source: Y. Xie, K. L. Cheng, Q. Chen, "Enhanced Invertible Encoding for Learned Image Compression", ACM Multimedia
2021, arXiv:2108.03690.
Left out: two of three coupling layers per level, their 5x5 kernels; some layers of enhancement and attention; mixing
all 768 channels at once, half of the budget (here four groups). Couplings are 4 to 6 wide. The entropy model is ours.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ganlib.cited.layers import Gate, SeesLatents, SeesPixels
from ganlib.cited.presets import XieConfig
from ganlib.model.compression_model import CompressionModel
from ganlib.model.layers import SLOPE, conv


def inner(c_in, width, c_out):
    """G or H: conv 3x3, 1x1, 3x3. Its result is zero at first, so that a coupling starts as the identity."""
    act = nn.LeakyReLU(SLOPE)
    return nn.Sequential(conv(c_in, width), act, conv(width, width, 1), act, conv(width, c_out, scale=0.0))


def scale(g):
    """Any number -> 1/e to e, 1 for 0."""
    return torch.exp(2 * torch.sigmoid(g) - 1)


class Coupling(nn.Module):
    """A quarter of the channels and the rest scale and shift each other: v -> u and back, both B,C,H,W."""

    def __init__(self, channels, width):
        super().__init__()
        self.sizes = a, b = channels // 4, channels - channels // 4
        self.g1, self.h1, self.g2, self.h2 = (inner(i, width, o) for i, o in ((a, b), (a, b), (b, a), (b, a)))

    def forward(self, v):
        v1, v2 = v.split(self.sizes, dim=1)
        u1 = v1 * scale(self.g2(v2)) + self.h2(v2)
        return torch.cat([u1, v2 * scale(self.g1(u1)) + self.h1(u1)], dim=1)

    def inverse(self, u):
        u1, u2 = u.split(self.sizes, dim=1)
        v2 = (u2 - self.h1(u1)) / scale(self.g1(u1))
        return torch.cat([(u1 - self.h2(v2)) / scale(self.g2(v2)), v2], dim=1)


class InvertibleConv(nn.Module):
    """A square 1x1 convolution, in groups, which starts as a random rotation: v -> u and back, both B,C,H,W."""

    def __init__(self, channels):
        super().__init__()
        size = min(channels, 192)  # of a group
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels // size, size, size)).Q)

    def forward(self, v, matrices=None):
        matrices = self.weight if matrices is None else matrices  # groups,n,n
        return F.conv2d(v, matrices.flatten(0, 1)[..., None, None], groups=len(matrices))

    def inverse(self, u):
        # one by one: torch 2.11 inverts batches wrongly once torch.set_num_threads() has been lowered and raised
        return self(u, torch.stack([torch.linalg.inv(matrix) for matrix in self.weight.double()]).float())


class Flow(nn.Module):
    """The invertible part: x: B,3,H,W, multiples of 16 -> v: B,768,H/16,W/16, and back."""

    def __init__(self, config):
        super().__init__()
        self.levels, self.channels = nn.ModuleList(), 3
        for width, depth in zip(config.encoder_widths, config.encoder_blocks):
            self.channels *= 4
            couplings = [Coupling(self.channels, width) for _ in range(depth)]
            self.levels.append(nn.ModuleList([InvertibleConv(self.channels), *couplings]))

    def forward(self, x):
        for mix, *couplings in self.levels:
            x = mix(F.pixel_unshuffle(x, 2))
            for layer in couplings:
                x = layer(x)
        return x

    def inverse(self, v):
        for level in reversed(self.levels):
            for layer in reversed(level):
                v = layer.inverse(v)
            v = F.pixel_shuffle(v, 2)
        return v


class Enhancement(nn.Module):
    """Feature enhancement at full resolution: x plus three convolutions, each of which sees all before it."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second, self.last = conv(3, width), conv(3 + width, width), conv(3 + 2 * width, 3, scale=0.1)

    def forward(self, x):
        seen = torch.cat([x, F.leaky_relu(self.first(x), SLOPE)], dim=1)
        return x + self.last(torch.cat([seen, F.leaky_relu(self.second(seen), SLOPE)], dim=1))


class XieAnalysis(SeesPixels, nn.Module, pixels=139):
    """B,3,H,W in [0, 1] -> y: B,C,H/16,W/16."""

    def __init__(self, config):
        super().__init__()
        self.enhance, self.flow = Enhancement(config.enhancement_width), Flow(config)
        self.attention = Gate(config.latent_channels)

    def forward(self, x):
        groups = self.flow(self.enhance(x - 0.5)).unflatten(1, (-1, self.attention.channels))  # B,6,C,h,w
        return self.attention(groups.mean(dim=1))


class XieSynthesis(SeesLatents, nn.Module, latents=9):
    """y_hat: B,C,h,w -> x_hat: B,3,16h,16w. The flow belongs to g_a: .to(device) of this part does not move it."""

    def __init__(self, config):
        super().__init__()
        self.enhance, self.attention = Enhancement(config.enhancement_width), Gate(config.latent_channels)
        self.flow = []  # the encoder's; in a list, so that its weights are not counted and saved twice

    def forward(self, y_hat, quality=None, realism=None):
        flow = self.flow[0]
        v_hat = self.attention(y_hat).repeat(1, flow.channels // y_hat.shape[1], 1, 1)
        return self.enhance(flow.inverse(v_hat)) + 0.5


class Xie(CompressionModel):
    """The whole model, with our gain, entropy model and rounding."""

    Config, Analysis, Synthesis = XieConfig, XieAnalysis, XieSynthesis

    def __init__(self, config):
        super().__init__(config)
        self.g_s.flow.append(self.g_a.flow)
