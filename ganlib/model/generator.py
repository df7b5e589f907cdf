"""g_s: the generator, which rebuilds the image from the features."""

import math

import torch
from torch import nn

from ganlib.config import QUALITY_MAX, STRIDE
from ganlib.model.layers import (
    SLOPE,
    PatchConvTranspose2d,
    ResidualBlock,
    conv,
    dct_basis,
    recompute_layers,
    run_layers,
)

FREQUENCIES = 4  # octaves of Fourier features for each conditioning number
CONDITION = 64  # length of the conditioning vector


def fourier_features(t):
    """B numbers in [0, 1] -> B,1+2*FREQUENCIES: the number, and sines and cosines of its first octaves.

    A network that sees the sines of a number can vary quickly along it (Tancik et al. 2020).
    """
    angles = math.pi * t[:, None] * 2.0 ** torch.arange(FREQUENCIES, device=t.device, dtype=t.dtype)
    return torch.cat([t[:, None], angles.sin(), angles.cos()], dim=1)


class Generator(nn.Module):
    """Residual blocks and pixel shuffles beside a linear transform that starts as the inverse DCT.

        y_hat --conv--[blocks, conv, PixelShuffle]--...--[blocks]--conv--PixelShuffle--(+)--> x_hat
          |_______________ 16x16 transposed convolution, inverse DCT at the start ______|
        quality, realism --Fourier--MLP--> scale and shift of every block

    Quality tells the generator how coarse the quantization was. Realism tells it how freely to invent texture
    that is not in the bits (Agustsson et al. 2023): 0 is the most faithful, 1 the most natural.
    """

    recompute = False  # in training, keep few activations for the backward pass: TrainConfig.recompute

    def __init__(self, config):
        super().__init__()
        widths, blocks = config.generator_widths[::-1], config.generator_blocks[::-1]
        self.condition = nn.Sequential(
            nn.Linear(2 * (1 + 2 * FREQUENCIES), CONDITION), nn.LeakyReLU(SLOPE), nn.Linear(CONDITION, CONDITION)
        )
        self.enter = conv(config.latent_channels, widths[0])
        stages = []
        for i, (width, depth) in enumerate(zip(widths, blocks)):
            stages += [ResidualBlock(width, CONDITION) for _ in range(depth)]
            if i + 1 < len(widths):
                # 1x1 suffices: each pixel splits into four, and the blocks that follow look at the neighbours
                stages += [conv(width, 4 * widths[i + 1], kernel=1), nn.PixelShuffle(2)]
        self.stages = nn.ModuleList(stages)
        leave = STRIDE // 2 ** (len(widths) - 1)
        self.leave = nn.Sequential(
            nn.LeakyReLU(SLOPE), conv(widths[-1], 3 * leave * leave, scale=0.1), nn.PixelShuffle(leave)
        )
        self.shortcut = PatchConvTranspose2d(config.latent_channels, 3, STRIDE)
        with torch.no_grad():
            self.shortcut.weight.copy_(dct_basis(config.latent_channels, STRIDE)[1])

    def forward(self, y_hat, quality, realism):
        """Rebuild an image.

        Args:
            y_hat: B,C,h,w dequantized latents.
            quality: B numbers in [0, 100].
            realism: B numbers in [0, 1].

        Returns:
            B,3,16h,16w float32, about [0, 1], not clipped: training needs the gradient outside [0, 1] too.
        """
        condition = self.condition(
            torch.cat([fourier_features(quality / QUALITY_MAX), fourier_features(realism)], dim=1)
        )
        h = self.enter(y_hat)  # B,C,h,w -> B,192,h,w
        sparing = self.recompute and self.training and torch.is_grad_enabled()
        h = (recompute_layers if sparing else run_layers)(self.stages, h, condition)  # -> B,48,4h,4w
        texture = self.leave(h)  # B,48,4h,4w -> B,3,16h,16w
        with torch.autocast(y_hat.device.type, enabled=False):
            return (self.shortcut(y_hat.float()) + texture).add_(0.5)  # in place: a copy at full resolution is large
