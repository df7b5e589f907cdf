"""How `light` gets from 128 latents to 256, and to a wider range of rates, without beginning anew.

    python data/weights/widen.py BEGIN.safetensors OUT.safetensors LAMBDA_LOW LAMBDA_HIGH DIR...

Not needed to train or to use ganlib (`make weights` begins from nothing): it is kept because light.safetensors came
this way (README.md). DIR are folders of photographs.

At equal lambda the new model begins as what the old one was (compare Net2Net, Chen et al. 2016):

    quality   new quality -> log(lambda) -> old quality = slope * new + offset, folded into every layer that sees it
    latents   the old 128 first; then those of the 256 lowest frequencies of the DCT that the old 128 lacked. The
              generator adds these at half their size, since it has learnt to guess some of them
    contexts  the last slice grows from 64 to 192 channels; what is predicted for the new ones is their standard
              deviation at quality 50

A model that has 256 latents already gets the new range alone.
"""

import dataclasses
import math
import sys

import torch

from ganlib.config import HYPER_STRIDE, QUALITY_MAX, STRIDE, preset
from ganlib.datasets.crops import Crops
from ganlib.model.compression_model import CompressionModel
from ganlib.model.entropy_model import LOG_STEP, PHASES, SCALE_MIN
from ganlib.model.generator import fourier_features
from ganlib.model.layers import dct_basis
from ganlib.weights import load_weights, save_weights

SLICES = (16, 16, 32, 192)
SYNTHESIS = 0.5  # of the new frequencies; 0 and 1 gave a higher R + lambda D
CROPS, CROP = 24, 4 * HYPER_STRIDE  # that the standard deviations come from
DISTILLED = 6000  # steps of Adam that teach the conditioning network the new scale of quality


def quality_map(old, new):
    """(slope, offset): old quality = slope * new quality + offset has the same lambda."""
    span = math.log(old.lambda_high / old.lambda_low)
    slope = math.log(new.lambda_high / new.lambda_low) / span
    return slope, QUALITY_MAX * math.log(new.lambda_low / old.lambda_low) / span


def missing_frequencies(old_channels, new_channels):
    """Filters of dct_basis(new_channels) that dct_basis(old_channels) lacks: analysis, synthesis."""
    known = dct_basis(old_channels, STRIDE)[0].flatten(1)
    analysis, synthesis = dct_basis(new_channels, STRIDE)
    missing = [i for i, f in enumerate(analysis.flatten(1)) if (known - f).abs().amax(dim=1).min() > 1e-5]
    return analysis[missing], synthesis[missing]


@torch.no_grad()
def gains(old, new, of_old, sign):
    """Logarithms of gains (sign 1) or inverse gains (-1) at the new qualities: points,C.

    Beyond the old range they grow as the square root of lambda.
    """
    slope, offset = quality_map(old, new)
    quality = slope * torch.linspace(0, QUALITY_MAX, new.gain_points) + offset
    inside = quality.clamp(0, QUALITY_MAX)
    beyond = math.log(old.lambda_high / old.lambda_low) / QUALITY_MAX * (quality - inside)[:, None]
    return of_old(inside).log()[:, :, 0, 0] + sign * 0.5 * beyond


@torch.no_grad()
def carry_over(old, new):
    """Copy what fits from one CompressionModel to another, and put what grew around it."""
    n, (slope, offset) = old.config.latent_channels, quality_map(old.config, new.config)
    was, becomes = old.state_dict(), new.state_dict()
    for name, tensor in was.items():
        if becomes[name].shape == tensor.shape:
            becomes[name].copy_(tensor)

    analysis, synthesis = missing_frequencies(n, new.config.latent_channels)
    becomes["g_a.shortcut.weight"].copy_(torch.cat([was["g_a.shortcut.weight"], analysis]))
    becomes["g_s.shortcut.weight"].copy_(torch.cat([was["g_s.shortcut.weight"], SYNTHESIS * synthesis]))
    for name in ("g_a.head.weight", "g_a.head.bias"):
        becomes[name].zero_()[:n] = was[name]
    becomes["g_s.enter.weight"].zero_()[:, :n] = was["g_s.enter.weight"]
    for name, of_old, sign in (("log_gain", old.gain, 1), ("log_inverse_gain", old.inverse_gain, -1)):
        becomes[name][:, :n] = gains(old.config, new.config, of_old, sign)
    first = becomes["entropy.h_a.0.weight"].zero_()
    first[:, :n], first[:, -1] = was["entropy.h_a.0.weight"][:, :n], was["entropy.h_a.0.weight"][:, n]

    grown, size = old.config.slices[-1], new.config.slices[-1]
    contexts = len(new.entropy.contexts)
    for i in range(contexts - PHASES, contexts):
        name = f"entropy.contexts.{i}"
        known = was[f"{name}.0.weight"]
        becomes[f"{name}.0.weight"].zero_()[:, : known.shape[1]] = known
        for end in ("weight", "bias"):  # means first, then indices of scales
            for whose, begin in ((slice(0, grown), 0), (slice(grown, None), size)):
                becomes[f"{name}.4.{end}"][begin : begin + size] = 0
                becomes[f"{name}.4.{end}"][begin : begin + grown] = was[f"{name}.4.{end}"][whose]

    # plane of the old quality = slope * plane of the new one + offset / 25 (quality_plane)
    told = {"entropy.h_a.0": -1, "entropy.h_s.0": -1}
    told |= {f"entropy.contexts.{i}.0": old.entropy.features - 1 for i in range(contexts)}
    for name, channel in told.items():
        weight = becomes[f"{name}.weight"]
        becomes[f"{name}.bias"] += weight[:, channel].sum(dim=(1, 2)) * (4 / QUALITY_MAX * offset)
        weight[:, channel] *= slope
    new.load_state_dict(becomes)


@torch.no_grad()
def expect_new_latents(old, new, folders):
    """The last contexts predict for each new channel its standard deviation over crops of photographs."""
    crops = Crops(folders, CROP, 1, (QUALITY_MAX / 2, QUALITY_MAX / 2))
    x = torch.stack([torch.as_tensor(crops[i][0]) for i in range(CROPS)]).float() / 255
    y = new.g_a(x) * new.gain(torch.full((CROPS,), QUALITY_MAX / 2))
    deviation = y[:, old.config.latent_channels :].square().mean(dim=(0, 2, 3)).sqrt()
    index = (torch.log(deviation.clamp_min(SCALE_MIN) / SCALE_MIN) / LOG_STEP).clamp(1, 40)
    for network in new.entropy.contexts[-PHASES:]:
        bias = network[-2].bias
        bias[len(bias) - len(index) :] = index


def distil_condition(old, new):
    """The generator's conditioning network learns to say for the new quality what it said for the old one."""
    slope, offset = quality_map(old.config, new.config)
    network = new.g_s.condition
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, DISTILLED)
    for _ in range(DISTILLED):
        quality, realism = torch.rand(512), torch.rand(512)
        realism[:128], realism[128:200] = 0, 1
        then = (slope * quality + offset / QUALITY_MAX).clamp(0, 1)
        with torch.no_grad():
            goal = old.g_s.condition(torch.cat([fourier_features(then), fourier_features(realism)], dim=1))
        said = network(torch.cat([fourier_features(quality), fourier_features(realism)], dim=1))
        optimizer.zero_grad()
        (said - goal).square().mean().backward()
        optimizer.step()
        schedule.step()


def main(begin, out, lambda_low, lambda_high, *folders):
    torch.manual_seed(0)
    weights = load_weights(begin)
    range_of_rates = {"lambda_low": float(lambda_low), "lambda_high": float(lambda_high)}
    config = dataclasses.replace(preset("light"), slices=SLICES, **range_of_rates)
    old, new = weights.model, CompressionModel(config).eval()
    carry_over(old, new)
    expect_new_latents(old, new, folders)
    distil_condition(old, new)
    save_weights(new, out, weights.stages)


if __name__ == "__main__":
    main(*sys.argv[1:])
