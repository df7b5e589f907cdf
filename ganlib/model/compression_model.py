"""The whole model: encoder, quantization, entropy model and generator, as training sees it."""

import math
from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganlib.config import QUALITY_MAX, ModelConfig
from ganlib.model.encoder import FeatureEncoder
from ganlib.model.entropy_model import EntropyModel
from ganlib.model.generator import Generator
from ganlib.model.integer_layers import ExactConv2d

# At the best trade of bits for distortion, D = 255^2 * MSE is 0.72 / lambda. Rounding to steps of width d has an
# MSE of d^2 / 12. Together they give the width d and its inverse, the gain.
GAIN_PER_ROOT_LAMBDA = 255 / math.sqrt(12 * 0.72)


class CompressionModel(nn.Module):
    """One network for every quality.

        x --g_a--> y --* gain(q)--> [entropy model: round] --> y_hat --/ gain(q)--> g_s(., q, realism) --> x_hat

    The gain is a vector over channels, learnt at `gain_points` qualities and interpolated in between (Cui et al.
    2021): large gains mean fine steps, many bits, little error.
    """

    # Classes of the parts, each built from the configuration alone; models in ganlib.cited replace some of them
    Config, Analysis, Entropy, Synthesis = ModelConfig, FeatureEncoder, EntropyModel, Generator
    grid = 1  # in latents: a window of g_a or g_s must begin at a multiple of this

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.channels = config.latent_channels  # numbers per latent position, from g_a through the coder to g_s
        self.g_a = self.Analysis(config)
        self.entropy = self.Entropy(config)
        self.g_s = self.Synthesis(config)
        points = np.linspace(0, QUALITY_MAX, config.gain_points)[:, None].repeat(config.latent_channels, axis=1)
        start = np.log(GAIN_PER_ROOT_LAMBDA * np.sqrt(config.lambda_weight(points))).astype(np.float32)
        self.log_gain = nn.Parameter(torch.from_numpy(start))  # gain_points,C
        self.log_inverse_gain = nn.Parameter(torch.from_numpy(-start))

    def _interpolate(self, table, quality):
        """points,C table, B qualities -> B,C,1,1, linear between points; exponentiated."""
        position = quality.to(table) / QUALITY_MAX * (len(table) - 1)
        low = position.floor().clamp(0, len(table) - 2).long()
        part = (position - low)[:, None]
        return torch.exp(table[low] * (1 - part) + table[low + 1] * part)[:, :, None, None]

    def gain(self, quality):
        """B qualities in [0, 100] -> B,C,1,1: quantization steps per unit of y."""
        return self._interpolate(self.log_gain, quality)

    def inverse_gain(self, quality):
        """B qualities -> B,C,1,1: units of y per quantization step. Learnt separately from the gain, so that the
        decoder can shrink what rounding made too large."""
        return self._interpolate(self.log_inverse_gain, quality)

    def latents(self, x, quality):
        """Run everything but the generator.

        Args:
            x: B,3,H,W in [0, 1], H and W multiples of 64.
            quality: B numbers in [0, 100].

        Returns:
            y_hat: B,C,H/16,W/16 in quantization steps; y_hat in units of y, the input of g_s; likelihoods: {"y", "z"}
                ("z" with a hyperprior only).
        """
        y = self.g_a(x) * self.gain(quality)
        with torch.autocast(x.device.type, enabled=False):
            y_hat, likelihoods = self.entropy(y.float(), quality)
            return y_hat, y_hat * self.inverse_gain(quality), likelihoods

    def forward(self, x, quality, realism, decoded=None):
        """One training pass.

        Args:
            x, quality: as of latents().
            realism: B numbers in [0, 1].
            decoded: input of g_s, if latents() has run already. Then only g_s runs, and it returns x_hat alone.
                Stage two uses this. It calls forward(), since there several processes share gradients.

        Returns:
            {"x_hat": B,3,H,W, "y_hat", "likelihoods"}, the latter two as of latents().
        """
        if decoded is not None:
            return {"x_hat": self.g_s(decoded, quality, realism)}
        y_hat, decoded, likelihoods = self.latents(x, quality)
        return {"x_hat": self.g_s(decoded, quality, realism), "y_hat": y_hat, "likelihoods": likelihoods}


def count_macs(module, *inputs):
    """Multiply-accumulates of one call, by module: {"": all, "g_a": a child, "g_a.cnn": a child of that child, ...}.

    PyTorch counts convolutions and matrix products in any kind of layer. A layer that coding computes at only some
    positions is counted for those positions only (ExactConv2d.share).
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    root, macs = type(module).__name__, Counter()
    for path, flops in counter.get_flop_counts().items():
        macs[path.removeprefix(root).removeprefix(".")] = sum(flops.values()) / 2
    for path, layer in module.named_modules():
        if isinstance(layer, ExactConv2d):
            not_coded, names = (1 - layer.share) * macs[path], path.split(".")
            for depth in range(len(names) + 1):
                macs[".".join(names[:depth])] -= not_coded
    for path, layer in module.named_modules():
        if isinstance(layer, nn.ModuleList):  # never called itself
            macs[path] = sum(macs[f"{path}.{i}"] for i in range(len(layer)))
    return macs


def macs_per_pixel(model):
    """Multiply-accumulates for each pixel of the image, by part, counted from one pass.

    Returns:
        {"g_a": float, "g_s": float, "entropy": float}
    """
    side, device = 64, next(model.parameters()).device
    one = torch.zeros(1, device=device)
    macs = count_macs(model, torch.zeros(1, 3, side, side, device=device), one, one)
    return {part: macs[part] / side**2 for part in ("g_a", "g_s", "entropy")}
