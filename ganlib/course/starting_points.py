"""Where the course's training runs begin: at the DCT, or with shipped weights that have forgotten realism."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ganlib.config import ModelConfig, preset
from ganlib.model.compression_model import CompressionModel
from ganlib.model.generator import fourier_features
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_discriminator, load_weights, save_weights


@dataclass(frozen=True)
class StartingPoint:
    """What a run trains, and which weights it begins with.

    stage: RateDistortionRun or AdversarialRun; model_config: ModelConfig; init: name or path of weights, or None for
    the DCT, with which an untrained model begins; discriminator: name or path of the one that stage two begins with,
    or None for chance.
    """

    stage: type
    model_config: ModelConfig
    init: str | Path | None = None
    discriminator: str | Path | None = None

    def run(self, *args, **more):
        """Run of that stage, with a discriminator of its own. (Arguments as of Run.)"""
        if self.discriminator is not None:
            more["discriminator"] = load_discriminator(self.discriminator)
        return self.stage(*args, **more)

    def model(self):
        """CompressionModel with these weights."""
        if self.init is None:
            torch.manual_seed(0)
            return CompressionModel(self.model_config)
        return load_weights(self.init).model


def without_realism(name, path, discriminator=None):
    """Weights that answer each realism as shipped ones answer 0: what a generator knows before stage two.

    Its first layer sees realism as numbers beside the quality's. Their weights become zero, and what they gave at
    realism 0 goes into the bias.

    Args:
        name: of shipped weights; path: where the changed ones are written; discriminator: as in StartingPoint.

    Returns:
        StartingPoint of stage two.
    """
    weights = load_weights(name)
    first = weights.model.g_s.condition[0]
    with torch.no_grad():
        at_zero = fourier_features(torch.zeros(1))[0]
        first.bias += first.weight[:, -len(at_zero) :] @ at_zero
        first.weight[:, -len(at_zero) :] = 0
    stages = [*weights.stages, {"stage": "realism forgotten", "steps": 0}]
    save_weights(weights.model, path, stages, weights.tables)
    return StartingPoint(AdversarialRun, weights.model.config, path, discriminator)


def starting_points(folder, presets=("light", "tiny")):
    """Where the course's runs begin: {(stage, preset): StartingPoint}.

    Stage two begins with shipped weights that have forgotten realism (written to `folder`) and with the discriminator
    that knows their reconstructions, stage one with the DCT.
    """
    starts = {}
    for name in presets:
        path = Path(folder) / f"{name}_without_realism.safetensors"
        starts[AdversarialRun, name] = without_realism(name, path, discriminator=name)
        starts[RateDistortionRun, name] = StartingPoint(RateDistortionRun, preset(name))
    return starts
