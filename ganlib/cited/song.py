"""Song 2021: one model for every rate, controlled by a map of the quality of each region.

    map m: 0 to 1 for each 64x64 pixels, 8 bits; its lambda is low * (high / low)^m
     |--(cat x)--conv /2--> c1 --conv /2--> c2 --conv /2--> c3 --conv /2--> c4                     condition features
     |                      |               |               |               |
     |   x--[conv /2, GDN, SFT]--[conv /2, GDN, SFT]--[conv /2, GDN, SFT]--conv /2--[SFT block]--* exp(a + b m)--> y
     |
     |--(cat y_hat)--conv--> c4 --up--> c3 --up--> c2 --up--> c1
     |                       |          |          |          |
     y_hat * exp(a' + b' m)--[SFT block]--[up, GDN', SFT]--[up, GDN', SFT]--[up, GDN', SFT]--up--> x_hat
    SFT (spatial feature transform):  features * (1 + scale(c)) + shift(c), different at each position

Training draws a map for each crop and weights the error of a region by its lambda, so more bits go where the map is
high. A constant map is one quality. The best step is proportional to the root of 1 / lambda: hence the exponential.

Source: M. Song, J. Choi, B. Han, "Variable-Rate Deep Image Compression through Spatially-Adaptive Feature Transform",
ICCV 2021, arXiv:2108.09551.
Left out: a value for each pixel, and the decoder's guess of the map from z_hat; here the map is coarse and stored in
the file (map_coding.py). The context model from latent to latent: in our integer networks, h_s and the contexts, the
map is one more input channel. 3x3 kernels inside SFT, a second SFT block, task-aware maps; widths are 1/8.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ganlib.cited.islam import GDN
from ganlib.cited.layers import SeesLatents, SeesPixels, channel_pairs, down, up
from ganlib.cited.map_coding import MapEntropyModel, as_map, repeat
from ganlib.cited.presets import SongConfig
from ganlib.config import HYPER_STRIDE, QUALITY_MAX, STRIDE
from ganlib.model.compression_model import GAIN_PER_ROOT_LAMBDA, CompressionModel
from ganlib.model.layers import SLOPE


class SFT(nn.Module):
    """Scale and shift features as the condition at each position asks: B,C,h,w and B,P,h,w -> B,C,h,w."""

    def __init__(self, channels, condition):
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(condition, 16, 1), nn.LeakyReLU(SLOPE))
        self.scale, self.shift = nn.Conv2d(16, channels, 1), nn.Conv2d(16, channels, 1)

    def forward(self, x, condition):
        hidden = self.shared(condition)
        return x * (1 + self.scale(hidden)) + self.shift(hidden)


class SFTBlock(nn.Module):
    """x + conv(act(SFT(conv(act(SFT(x))))))."""

    def __init__(self, channels, condition):
        super().__init__()
        self.sft1, self.sft2 = SFT(channels, condition), SFT(channels, condition)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x, condition):
        h = self.conv1(F.leaky_relu(self.sft1(x, condition), SLOPE))
        return x + self.conv2(F.leaky_relu(self.sft2(h, condition), SLOPE))


def log_scale(config, sign):
    """From the map to the logarithm of each channel's scale; it starts at the value from GAIN_PER_ROOT_LAMBDA."""
    layer = nn.Conv2d(1, config.latent_channels, 1)
    nn.init.constant_(layer.weight, sign * math.log(config.lambda_high / config.lambda_low) / 2)
    nn.init.constant_(layer.bias, sign * math.log(GAIN_PER_ROOT_LAMBDA * config.lambda_low**0.5))
    return layer


class SongAnalysis(SeesPixels, nn.Module, pixels=62):
    """B,4,H,W: RGB and the map, in [0, 1] -> B,C+1,H/16,W/16: y in quantization steps, and the map."""

    def __init__(self, config):
        super().__init__()
        widths, p = config.encoder_widths, config.condition_width
        self.down = nn.ModuleList(down(*pair) for pair in channel_pairs(widths, 3, config.latent_channels))
        self.condition = nn.ModuleList(nn.Conv2d(c, p, 3, stride=2, padding=1) for c in (4, p, p, p))
        self.norm, self.sft = (nn.ModuleList(layers) for layers in zip(*((GDN(n), SFT(n, p)) for n in widths)))
        self.block, self.log_scale = SFTBlock(config.latent_channels, p), log_scale(config, 1)

    def forward(self, x):
        h, c, quality_map = x[:, :3] - 0.5, x - 0.5, x[:, 3:, ::STRIDE, ::STRIDE]
        for i, layer in enumerate(self.down):
            h, c = layer(h), F.leaky_relu(self.condition[i](c), SLOPE)
            h = self.sft[i](self.norm[i](h), c) if i < len(self.norm) else self.block(h, c)
        return torch.cat([h * self.log_scale(quality_map).exp(), quality_map], dim=1)


class SongSynthesis(SeesLatents, nn.Module, latents=5):
    """B,C+1,h,w: y_hat in quantization steps, and the map -> x_hat: B,3,16h,16w."""

    def __init__(self, config):
        super().__init__()
        widths, p = config.generator_widths[::-1], config.condition_width
        self.enter = nn.Conv2d(config.latent_channels + 1, p, 3, padding=1)
        self.block, self.log_scale = SFTBlock(config.latent_channels, p), log_scale(config, -1)
        self.up = nn.ModuleList(up(*pair) for pair in channel_pairs(widths, config.latent_channels, 3))
        self.condition = nn.ModuleList(up(p, p) for _ in widths)
        self.norm, self.sft = (nn.ModuleList(x) for x in zip(*((GDN(n, inverse=True), SFT(n, p)) for n in widths)))

    def forward(self, y_hat, quality=None, realism=None):
        quality_map = y_hat[:, -1:]
        h = y_hat[:, :-1] * self.log_scale(quality_map).exp()
        c = F.leaky_relu(self.enter(torch.cat([h, quality_map], dim=1)), SLOPE)
        h = self.block(h, c)
        for i, norm in enumerate(self.norm):
            h, c = self.up[i](h), F.leaky_relu(self.condition[i](c), SLOPE)
            h = self.sft[i](norm(h), c)
        return self.up[-1](h) + 0.5


class SFTHyperAnalysis(nn.Module):
    """h_a with an SFT after its first convolution. B,C+1,h,w, the map last -> B,hyper,h/4,w/4."""

    def __init__(self, h_a):
        super().__init__()
        self.first, self.rest = h_a[0], h_a[1:]
        self.sft = SFT(self.first.out_channels, 1)

    def forward(self, x):
        return self.rest(self.sft(self.first(x), x[:, -1:]))


class Song(CompressionModel):
    """The whole model. A latent position carries y and the map: C+1 numbers."""

    Config, Analysis, Entropy, Synthesis = SongConfig, SongAnalysis, MapEntropyModel, SongSynthesis

    def __init__(self, config):
        super().__init__(config)
        self.entropy.h_a, self.channels = SFTHyperAnalysis(self.entropy.h_a), self.channels + 1
        del self.log_gain, self.log_inverse_gain  # the map's scales are part of g_a and g_s

    def gain(self, quality):
        """1 for each of B qualities; inverse_gain alike."""
        return quality.new_ones(len(quality), 1, 1, 1)

    inverse_gain = gain

    def forward(self, x, quality, realism=None):
        """As CompressionModel; `quality` may be a map, B,1,H/64,W/64."""
        quality = as_map(quality, x)
        y = self.g_a(torch.cat([x, repeat(quality / QUALITY_MAX, HYPER_STRIDE, *x.shape[2:])], dim=1))
        y_hat, likelihoods = self.entropy(y[:, :-1].float(), quality)
        decoded = torch.cat([y_hat, y[:, -1:]], dim=1)
        return {"x_hat": self.g_s(decoded), "y_hat": y_hat, "likelihoods": likelihoods}
