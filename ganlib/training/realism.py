"""Take realism out of trained weights, so that stage two can be shown or measured from its beginning."""

import torch

from ganlib.model.generator import fourier_features
from ganlib.weights import load_weights, save_weights


def forget_realism(name, path):
    """Write weights that answer each realism as given ones answer 0: what a generator knows before stage two.

    Its first layer sees realism as numbers beside the quality's. Their weights become zero, and what they gave at
    realism 0 goes into the bias.

    Args:
        name: name or path of the given weights.
        path: of the .safetensors file.

    Returns:
        ModelConfig of these weights.

    Raises:
        WeightsError: there are none of that name.
    """
    weights = load_weights(name)
    first = weights.model.g_s.condition[0]
    with torch.no_grad():
        at_zero = fourier_features(torch.zeros(1))[0]
        first.bias += first.weight[:, -len(at_zero) :] @ at_zero
        first.weight[:, -len(at_zero) :] = 0
    stages = [*weights.stages, {"stage": "realism forgotten", "steps": 0}]
    save_weights(weights.model, path, stages, weights.tables)
    return weights.model.config
