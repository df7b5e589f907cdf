"""The computational cost of a model of any family."""

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE = 128  # pixels, of the picture for which operations are counted


def kmacs_per_pixel(model):
    """Thousand multiply-accumulates for each pixel of g_a and g_s together, or of one pass of a recurrent model.

    Counted from the convolutions and matrix products of one call, in any kind of layer.
    """
    x = torch.zeros(1, 3, SIDE, SIDE)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if hasattr(model, "entropy"):
            if model.channels > model.config.latent_channels:  # song.py: a map beside the pixels
                x = torch.cat([x, x[:, :1]], dim=1)
            one = torch.zeros(1)
            model.g_s(model.g_a(x), one, one)
        else:
            list(model.encode(x, 1))
    return counter.get_total_flops() / 2 / SIDE**2 / 1000
