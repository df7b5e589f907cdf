"""Remove realism from trained weights, so that stage two can be shown or measured from its beginning."""

import torch

from ganlib.model.generator import fourier_features
from ganlib.weights import load_weights, save_weights


def forget_realism(name, path):
    """Write weights that at every realism give what the given ones give at 0: a beginning for stage two.

    The generator's first layer gets features of realism beside those of the quality. Their weights become zero, and
    their contribution at realism 0 is added to the bias.

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
