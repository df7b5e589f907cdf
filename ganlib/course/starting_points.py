"""Where the course's training runs begin: with the DCT, or with shipped weights without realism."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ganlib.config import ModelConfig, preset
from ganlib.model.compression_model import CompressionModel
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.realism import forget_realism
from ganlib.weights import load_discriminator, load_weights


@dataclass(frozen=True)
class StartingPoint:
    """What a run trains, and which weights it begins with.

    stage: RateDistortionRun or AdversarialRun; model_config: ModelConfig; init: name or path of weights, or None for
    the DCT, with which an untrained model begins; discriminator: name or path of the one that stage two begins with,
    or None for random weights.
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


def starting_points(folder, presets=("light", "tiny")):
    """Where the course's runs begin: {(stage, preset): StartingPoint}.

    Stage two begins with shipped weights from which realism was removed (written to `folder`) and with the
    discriminator that was trained on their reconstructions, stage one with the DCT.
    """
    starts = {}
    for name in presets:
        path = Path(folder) / f"{name}_without_realism.safetensors"
        starts[AdversarialRun, name] = StartingPoint(AdversarialRun, forget_realism(name, path), path, name)
        starts[RateDistortionRun, name] = StartingPoint(RateDistortionRun, preset(name))
    return starts
