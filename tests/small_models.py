"""The cited models with a handful of channels: untrained, and quick."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import torch

import ganlib
from ganlib.config import preset
from ganlib.weights import model_class, save_weights

ENTROPY = dict(latent_channels=16, hyper_channels=4, hyper_width=8, context_width=8, slices=(8, 8))
RECURRENT = dict(encoder_widths=(4, 4, 8, 8), decoder_widths=(4, 8, 8, 8), bits=8, iterations=3)
CHANGES = {
    "toderici": RECURRENT,
    "islam": RECURRENT,
    "song": ENTROPY | dict(encoder_widths=(4, 6, 8), generator_widths=(4, 6, 8), condition_width=2),
    "xie": ENTROPY | dict(encoder_widths=(2, 2, 2, 2), generator_widths=(2, 2, 2, 2), enhancement_width=2),
    "zou": ENTROPY | dict(encoder_widths=(4, 8, 8), generator_widths=(4, 8, 8), heads=(2, 2)),
    "zou-stf": ENTROPY | dict(encoder_widths=(4, 4, 8, 16), generator_widths=(4, 4, 8, 16), heads=(1, 2, 2, 2)),
}
NAMES = tuple(CHANGES)
RECURRENTS, TRANSFORMS = NAMES[:2], NAMES[2:]


def small_config(name):
    """Its configuration."""
    return dataclasses.replace(preset(name), **CHANGES[name])


def small_model(name, seed=0):
    """The model of a name, in evaluation mode. Layers that begin at zero are given numbers, so that all count."""
    torch.manual_seed(seed)
    config = small_config(name)
    model = model_class(config.family)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():
                weight.normal_(std=0.1)
    return model


@functools.cache
def small_codec(name):
    """Its codec, by way of a file of weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.safetensors"
        save_weights(small_model(name), path)
        return ganlib.load_codec(path)
