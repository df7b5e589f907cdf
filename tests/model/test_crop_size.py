"""What a model learnt on crops must hold for whole pictures.

A hyper-latent stands for 64x64 pixels. On crops of 128 pixels each of the 2x2 hyper-latents lies at two borders, so a
model that has seen nothing else does not know the inside of a picture: it codes a large one worse than its parts.
"""

import pytest
import torch

from ganlib import datasets, load_codec
from ganlib.codec.pixel_tensors import to_tensor
from ganlib.training.losses import estimated_bits_per_pixel, mean_squared_error, rate_distortion

PART = 128
QUALITIES = (10.0, 50.0, 90.0)


def in_parts(x):
    """1,3,H,W -> B,3,PART,PART: the parts side by side."""
    rows = x.unfold(2, PART, PART).unfold(3, PART, PART)
    return rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, PART, PART)


@torch.no_grad()
def cost(model, x):
    """R + lambda * D, estimated, mean over QUALITIES and the pictures of a batch."""
    costs = []
    for quality in QUALITIES:
        q = torch.full((len(x),), quality)
        out = model(x, q, torch.zeros_like(q))
        bpp = estimated_bits_per_pixel(out["likelihoods"], pixels=x.shape[2] * x.shape[3])
        costs.append(rate_distortion(bpp, mean_squared_error(out["x_hat"], x), model.config.lambda_weight(q)))
    return torch.stack(costs).mean().item()


@pytest.mark.parametrize("name", ["light", "tiny", "mini", "song", "xie", "zou"])
def test_a_picture_is_coded_better_as_a_whole_than_in_parts(name):
    model = load_codec(name).model
    photographs = datasets.embedded()
    pictures = [to_tensor(photographs[title][:256, :384]) for title in ("astronaut", "chelsea", "coffee")]
    whole = sum(cost(model, x) for x in pictures)
    assert whole < sum(cost(model, in_parts(x)) for x in pictures)
