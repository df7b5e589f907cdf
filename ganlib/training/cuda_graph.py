"""A model's forward and backward pass as CUDA graphs: on a GPU, thousands of small kernels started at once."""

import torch
from torch import nn


class _Autocast(nn.Module):
    """A model under autocast, in a module of its own, so that the model itself is left as it is."""

    def __init__(self, model, accelerator):
        super().__init__()
        self.model, self.accelerator = model, accelerator

    def forward(self, x, quality, realism):
        with self.accelerator.autocast():
            return self.model(x, quality, realism)


def recorded(run):
    """What a Run calls in place of its model: (x, quality, realism) -> the model's outputs, with their gradients.

    A step of `light` starts some three thousand kernels, each of which is done before the next one has been asked
    for. Recorded once, they are started together, and compute the same. Results are overwritten by the next call.

    Args:
        run: Run whose model takes (B,3,H,W, B, B), B and the sides as its configuration says. Where there is no CUDA,
            or where gradients add up over parts or processes, this is the model, under autocast.
    """
    config, accelerator = run.config, run.accelerator
    model = _Autocast(run.model, accelerator)
    in_parts = config.accumulate > 1 or accelerator.num_processes > 1 or config.recompute
    if accelerator.device.type != "cuda" or in_parts:
        return model
    x = torch.rand(config.batch, 3, config.crop, config.crop, device=accelerator.device)
    numbers = torch.rand(2, config.batch, device=accelerator.device)
    return torch.cuda.make_graphed_callables(model, (x, *numbers), allow_unused_input=True)
