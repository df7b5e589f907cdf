"""Zou 2022: attention within windows, in a convolutional transform (WACNN) and as a transformer (STF).

    WACNN   x --[conv /2, GDN]--[conv /2, GDN]--W8--[conv /2, GDN]--conv /2--W4--> y           Wn: window attention
            y_hat --W4--[up, GDN']--[up, GDN']--W8--[up, GDN']--up--> x_hat                    module, n x n positions

    STF     x --unshuffle 2x2--[block, shifted block]--merge--[..]--merge--[..]--merge--[block, shifted block]--> y
            y_hat --[block, shifted block]--split--[..]--split--[..]--split--[..]--shuffle 2x2--> x_hat

    attention, for each window and head:  softmax(q k^T / sqrt(d) + bias of the distance) v

Attention over the whole picture costs the square of its size, and most of its weight lies close by. Within windows
it is cheap. A window sees nothing of the next one, so every second block of the transformer shifts windows by half
their side. Windows start at the picture's corner; positions beyond its edge are masked out.

Source: R. Zou, C. Song, Z. Zhang, "The Devil Is in the Details: Window-based Attention for Image Compression",
CVPR 2022, arXiv:2203.08450. Windows: Liu et al., "Swin Transformer", arXiv:2103.14030.
Left out: residual units, one instead of three; heads of 16 and 12 channels instead of 24, 40 and 16; blocks, two
per stage instead of up to six in STF. The entropy model is ours. Widths are an eighth and less.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ganlib.cited.islam import GDN
from ganlib.cited.layers import Gate, SeesLatents, SeesPixels, channel_pairs, down, up
from ganlib.cited.presets import ZouConfig
from ganlib.model.compression_model import CompressionModel

WINDOW, WINDOW_COARSE = 8, 4  # positions along one side, at 1/4 and at 1/16; the transformer's windows are all of 4


class WindowAttention(nn.Module):
    """Self-attention among the positions of a window, B,C,h,w -> B,C,h,w.

    Args:
        channels: C, divisible by heads.
        shift: positions by which the windows begin before the corner.
    """

    learning_share = 1.0  # also within a gate's mask, which otherwise learns more slowly (layers.py)

    def __init__(self, channels, heads, window, shift=0):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.leave = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        self.bias = nn.Parameter(0.02 * torch.randn(heads, (2 * window - 1) ** 2))  # one number for each distance
        at = torch.arange(window**2, device="cpu")  # the n positions of a window; a constant, not a weight
        down, right = ((n[:, None] - n) + window - 1 for n in (at // window, at % window))  # n,n each
        self.distance = down * (2 * window - 1) + right

    def windows(self, x):
        """B,C,h,w -> B,rows,columns,n,C, with zeros beyond the edges."""
        bottom, right = (-(n + self.shift) % self.window for n in x.shape[2:])
        x = F.pad(x, (self.shift, right, self.shift, bottom))
        x = x.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window))  # B,C,rows,window,columns,window
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)

    def weights(self, q, k, inside):
        """Weight of each position of a window for each other: B,rows,columns,heads,n,n; the last n sum to 1."""
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + self.bias[:, self.distance]
        return scores.masked_fill(~inside[:, :, :, None, None, :], -torch.inf).softmax(dim=-1)

    def forward(self, x):
        height, width = x.shape[2:]
        inside = self.windows(x.new_ones(1, 1, height, width))[..., 0] > 0  # 1,rows,columns,n
        q, k, v = self.windows(self.qkv(x)).unflatten(-1, (3, self.heads, -1)).movedim((-3, -2), (0, -3))
        x = (self.weights(q, k, inside) @ v).transpose(-2, -3).flatten(-2)  # B,rows,columns,n,C
        x = x.unflatten(3, (self.window, -1)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return self.leave(x[:, :, self.shift : self.shift + height, self.shift : self.shift + width])


class Residual(nn.Sequential):
    """x: B,C,H,W -> x + the layers' result, of the same shape."""

    def forward(self, x):
        return x + super().forward(x)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of B,C,h,w."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def blocks(channels, heads, count):
    """Blocks of the transformer, every second one with shifted windows: attention, then an MLP at each position."""
    for i in range(count):
        shift = i % 2 * WINDOW_COARSE // 2
        yield Residual(ChannelNorm(channels), WindowAttention(channels, heads, WINDOW_COARSE, shift))
        grow, shrink = nn.Conv2d(channels, 4 * channels, 1), nn.Conv2d(4 * channels, channels, 1)
        yield Residual(ChannelNorm(channels), grow, nn.GELU(), shrink)


def transformer(config):
    """STF: the layers of g_a, and those of g_s. 2x2 positions are merged into one, or one is split."""
    there, back, before = [], [], 3
    for i, width in enumerate(config.encoder_widths):
        norm = [ChannelNorm(4 * before)] if i else []  # of pixels, it would remove the brightness
        there += [nn.PixelUnshuffle(2), *norm, nn.Conv2d(4 * before, width, 1)]
        there += blocks(before := width, config.heads[i], config.encoder_blocks[i])
    widths = (3, *config.generator_widths)
    for i in reversed(range(len(widths) - 1)):
        back += blocks(widths[i + 1], config.heads[i], config.generator_blocks[i])
        back += [ChannelNorm(widths[i + 1]), nn.Conv2d(widths[i + 1], 4 * widths[i], 1), nn.PixelShuffle(2)]
    return there, back


def convolutional(config):
    """WACNN: the layers of g_a, and those of g_s. Attention follows g_a's second and fourth; g_s is its mirror."""

    def attend(i, width):
        window = {1: (config.heads[0], WINDOW), 3: (config.heads[1], WINDOW_COARSE)}.get(i)
        return [Gate(width, Residual(WindowAttention(width, *window)))] if window else []

    there, back, c = [], [], config.latent_channels
    for i, (a, b) in enumerate(channel_pairs(config.encoder_widths, 3, c)):
        there += [down(a, b), *([GDN(b)] if i < 3 else []), *attend(i, b)]
    for i, (a, b) in enumerate(channel_pairs(config.generator_widths[::-1], c, 3)):
        back += [*attend(3 - i, a), up(a, b), *([GDN(b, inverse=True)] if i < 3 else [])]
    return there, back


class ZouAnalysis(SeesPixels, nn.Sequential, pixels=180):
    """B,3,H,W in [0, 1] -> y: B,C,H/16,W/16."""

    def __init__(self, config):
        super().__init__(*(transformer if config.transformer else convolutional)(config)[0])

    def forward(self, x):
        return super().forward(x - 0.5)


class ZouSynthesis(SeesLatents, nn.Sequential, latents=12):
    """y_hat: B,C,h,w -> x_hat: B,3,16h,16w."""

    def __init__(self, config):
        super().__init__(*(transformer if config.transformer else convolutional)(config)[1])

    def forward(self, y_hat, quality=None, realism=None):
        return super().forward(y_hat) + 0.5


class Zou(CompressionModel):
    """The whole model, with our gain, entropy model and rounding."""

    Config, Analysis, Synthesis = ZouConfig, ZouAnalysis, ZouSynthesis
    grid = WINDOW_COARSE  # in latents: windows at all resolutions begin together every 64 pixels
