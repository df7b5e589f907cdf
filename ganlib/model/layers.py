"""The pieces that encoder and generator share: a residual block and JPEG's transform as a convolution."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

SLOPE = 0.125  # of LeakyReLU for x < 0

# Rows: Y, Cb, Cr of JPEG (ITU-T T.871) from R, G, B. An error e in Y alone is an error e in each of R, G, B.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def conv(c_in, c_out, kernel=3, scale=1.0):
    """A same-size convolution, initialized."""
    return initialize(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), scale)


def initialize(layer, scale=1.0):
    """Kaiming-initialize a convolution for LeakyReLU and multiply it by `scale`.

    A small scale on the last convolution of a branch makes the branch start near zero, so that training
    starts from the shortcut beside it.
    """
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    with torch.no_grad():
        layer.weight *= scale
    nn.init.zeros_(layer.bias)
    return layer


class PatchConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution without bias whose stride is its kernel: patches side by side, none overlaps.

    It is computed as a matrix product for each position and a pixel shuffle: the same numbers in less time.
    """

    def __init__(self, c_in, c_out, size):
        super().__init__(c_in, c_out, size, stride=size, bias=False)

    def forward(self, y):
        """B,C,h,w -> B,C',size*h,size*w."""
        kernel = self.weight.flatten(1).T.contiguous()[..., None, None]  # C,C',size,size -> C'*size*size,C,1,1
        return F.pixel_shuffle(F.conv2d(y, kernel), self.stride[0])


class ResidualBlock(nn.Module):
    """x + conv(act(condition(conv(act(x))))), both convolutions 3x3.

        x --act--conv--(* (1 + scale) + shift)--act--conv--(+)--> B,C,H,W
        |___________________________________________________|

    Args:
        channels: C of input and output.
        condition: length of the conditioning vector, or 0 for none (He et al. 2016; FiLM: Perez et al. 2018).
    """

    def __init__(self, channels, condition=0):
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels, scale=0.15)
        self.act = nn.LeakyReLU(SLOPE)
        self.film = None
        if condition:
            self.film = nn.Linear(condition, 2 * channels)
            nn.init.zeros_(self.film.weight)  # starts unconditioned
            nn.init.zeros_(self.film.bias)

    def forward(self, x, condition=None):
        h = self.conv1(self.act(x))
        if self.film is not None:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)  # B,C,1,1 each
            h = h * (1 + scale) + shift
        return x + self.conv2(self.act(h))


def run_layers(layers, h, condition=None):
    """Layers one after the other, B,C,H,W -> B,C',H',W'; residual blocks receive the condition too."""
    for layer in layers:
        h = layer(h, condition) if isinstance(layer, ResidualBlock) else layer(h)
    return h


def recompute_layers(layers, h, condition=None):
    """run_layers in less memory: only the input of each segment is kept, and the backward pass runs it again.

        h --[..., block]--> kept --[..., block]--> kept --[...]--> result

    Segments end in a residual block. That costs one more forward pass, and gives the same numbers (gradient
    checkpointing: Chen et al. 2016).

    Args:
        layers: nn.Sequential or nn.ModuleList.
        h: B,C,H,W.
        condition: vectors of B images for the residual blocks, or None.
    """
    ends = [i + 1 for i, layer in enumerate(layers) if isinstance(layer, ResidualBlock)]
    for begin, end in zip([0, *ends], [*ends, len(layers)]):
        # no layer draws random numbers, so there is no random state to keep
        h = checkpoint(run_layers, layers[begin:end], h, condition, use_reentrant=False, preserve_rng_state=False)
    return h


def dct_basis(channels, size=16):
    """The lowest frequencies of the size x size DCT-II in YCbCr, as a bank of filters on RGB.

    Three quarters of the channels see luma and an eighth each Cb and Cr, since the eye sees luma best; JPEG does
    the same with 8x8 blocks and chroma at half resolution. Channels are ordered by frequency, with the chroma
    spread among the luma, so that the first slices of y hold what matters most.

    Returns:
        analysis, synthesis: channels,3,size,size float32; y = conv(x, analysis, stride=size) and
        x_hat = conv_transpose(y, synthesis, stride=size), which keeps what those frequencies hold.
    """
    n = np.arange(size)
    frequency = n[:, None]
    cosines = np.cos(math.pi * (2 * n + 1) * frequency / (2 * size)) * math.sqrt(2 / size)
    cosines[0] /= math.sqrt(2)  # orthonormal rows: frequency, position
    order = sorted(((u, v) for u in range(size) for v in range(size)), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    chroma = channels // 8
    # (rank of the frequency, colour): a chroma coefficient of rank r stands beside the luma of rank 6 r
    wanted = [(rank, 0, rank) for rank in range(channels - 2 * chroma)]
    wanted += [(6 * rank + 0.5, colour, rank) for colour in (1, 2) for rank in range(chroma)]
    to_rgb = np.linalg.inv(YCBCR)
    analysis, synthesis = [], []
    for _, colour, rank in sorted(wanted):
        u, v = order[rank]
        wave = cosines[u][:, None] * cosines[v][None, :]
        analysis.append(YCBCR[colour][:, None, None] * wave)
        synthesis.append(to_rgb[:, colour][:, None, None] * wave)
    return tuple(torch.from_numpy(np.stack(bank).astype(np.float32)) for bank in (analysis, synthesis))
