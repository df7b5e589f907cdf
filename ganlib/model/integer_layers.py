"""Arithmetic that gives the same bits on every machine.

A decoder that predicts a scale one bit differently from the encoder reads the wrong symbol, and only
noise after it. Floating-point sums depend on their order, and their order depends on threads, BLAS and chip.
So the networks that steer the entropy coder use integer inference: they run on whole numbers, so small that float32
rounds none of their sums:

    activations  n * 2^-6, n whole, from -256 to 256
    weights      m * u, m whole, from -256 to 256; u a power of two, one for each output channel
    a sum        whole multiples of 2^-6 * u; u is so large that all of a channel's |m| * 256 stay below 2^24

float32 holds every whole number up to 2^24. So no sum is rounded, and the order of its terms does not matter: threads
and BLAS change nothing, nor does a chip that multiplies in bf16 or TF32 and sums in float32, since n and m have no
more digits than bf16 and TF32 hold. Training rounds in the same way and lets the gradient pass, so that the networks
adapt to the rounding (Balle et al. 2019). codec/integer_inference.py runs them for coding.
"""

import torch
import torch.nn.functional as F
from torch import nn

STEP = 2.0**-6  # of activations
LIMIT = 4.0  # of activations
LEVELS = 256  # LIMIT / STEP, and of weights: a byte and its sign, which bf16 holds without rounding
SUM_LIMIT = 2**24  # float32 holds every whole number up to here
SMALLEST_UNIT = 2.0**-14  # of weights, stored in float16, which holds 1 and 256 times this exactly
OUTPUT_LIMIT = 512.0  # of a network's predictions, which are not multiplied further

TABLE_BITS = 24
TABLE_TOTAL = 2**TABLE_BITS  # the frequencies of each table sum to this

# A float32 to which this is added has no bits below STEP: the sum is rounded to STEP, ties to even
MAGIC = 1.5 * 2.0**23 * STEP


class _Clamp(torch.autograd.Function):
    """clamp(x, low, high) whose gradient still passes where it pulls x back inside."""

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        inside = ((x >= ctx.low) | (grad < 0)) & ((x <= ctx.high) | (grad > 0))
        return grad * inside, None, None


class _Quantize(_Clamp):
    """_Clamp, then rounding to the nearest multiple of STEP; the gradient ignores the rounding."""

    @staticmethod
    def forward(ctx, x, low, high):
        return _Clamp.forward(ctx, x, low, high).add_(MAGIC).sub_(MAGIC)


clamp = _Clamp.apply


def quantize(x, limit=LIMIT):
    """To the nearest multiple of 2^-6 (ties to even) within +-limit: what an activation may be.

    Args:
        x: float32 of any shape; limit: at most 2^16.
    """
    return _Quantize.apply(x, -limit, limit)


class Activation(nn.Module):
    """LeakyReLU, then quantize(). The slope is a power of two, so multiplying by it rounds nothing."""

    slope = 0.125

    def forward(self, x):
        return quantize(F.leaky_relu(x, self.slope))


class Output(nn.Module):
    """The last layer of a network: quantize() with a wider limit, so that large means fit."""

    def forward(self, x):
        return quantize(x, OUTPUT_LIMIT)


def _whole(tensor, unit):
    """C',... -> the same as whole numbers of each channel's unit."""
    return (tensor / unit.view(-1, *[1] * (tensor.dim() - 1))).round()


def largest_sums(weight, bias, unit=None):
    """Largest |sum| that each output channel could see: C', in whole numbers of STEP * unit."""
    unit = weight_unit(weight, bias) if unit is None else unit
    return _whole(weight, unit).abs().flatten(1).sum(1) * LEVELS + _whole(bias, unit * STEP).abs()


def weight_unit(weight, bias):
    """A power of two for each output channel that keeps its weights and sums in bounds, as small as that allows.

    Weights that are rounded already get a unit that divides them, so a second rounding changes nothing.

    Args:
        weight: C',... ; bias: C'. Finite.

    Returns:
        C' powers of two.
    """
    mantissa, exponent = torch.frexp(weight.abs().flatten(1).amax(1) / LEVELS)  # mantissa 0, or 0.5 to 1
    unit = torch.ldexp((mantissa > 0).to(weight), exponent - (mantissa == 0.5).int()).clamp_min(SMALLEST_UNIT)
    # a sum of up to 2^e times the limit fits after e doublings, or one more where rounding has made it larger
    unit = torch.ldexp(unit, torch.frexp(largest_sums(weight, bias, unit) / SUM_LIMIT)[1].clamp_min(0))
    return torch.where(largest_sums(weight, bias, unit) < SUM_LIMIT, unit, 2 * unit)


class ExactConv2d(nn.Conv2d):
    """A same-size convolution with zero padding whose weights are rounded wherever they are used.

    Args:
        share: fraction of the positions at which coding computes it: 1/2 for one phase of a checkerboard.
    """

    def __init__(self, c_in, c_out, kernel, share=1.0):
        super().__init__(c_in, c_out, kernel, padding=kernel // 2)
        self.share = share

    def rounded(self):
        """weight: C',C,k,k and bias: C', as they are used; ValueError where they are not finite."""
        if not (self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise ValueError("weights that are not finite cannot be run exactly")
        return self._rounded()

    @torch.no_grad()
    def _rounded(self):
        unit = weight_unit(self.weight, self.bias)
        steps = unit * STEP
        return _whole(self.weight, unit) * unit.view(-1, 1, 1, 1), _whole(self.bias, steps) * steps

    def forward(self, x):
        weight, bias = (p + (r - p).detach() for p, r in zip((self.weight, self.bias), self._rounded()))
        return F.conv2d(x, weight, bias, padding=self.padding)


def integer_table(probabilities):
    """Probabilities -> frequencies, each at least 1, that sum to 2^24 exactly.

    Args:
        probabilities: n,K float64 tensor, rows sum to at most 1 (what is missing goes to the likeliest symbol).

    Returns:
        n,K int32 tensor.
    """
    p = probabilities.double().cpu()
    free = TABLE_TOTAL - p.shape[1]
    table = (p / p.sum(dim=1, keepdim=True) * free).floor().long() + 1
    likeliest = table.argmax(dim=1, keepdim=True)
    table.scatter_add_(1, likeliest, TABLE_TOTAL - table.sum(dim=1, keepdim=True))
    return table.int()
