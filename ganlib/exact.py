"""Arithmetic that gives the same bits on every machine.

A decoder that foretells a scale one bit differently from the encoder reads the wrong symbol, and from there on
nothing but noise. Floating-point sums depend on their order, and their order depends on threads, BLAS and chip.
So the networks that steer the entropy coder run on dyadic numbers in float64:

    weights      multiples of 2^-12
    activations  multiples of 2^-8, clipped to +-1024
    products, and sums of them in any order: multiples of 2^-20 below 2^33, so 53 bits hold each one exactly

There is nothing left to round differently. Convolutions are matrix products, never FFT, whose intermediate numbers
are not dyadic. The bound is checked from the weights themselves when they are loaded.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

WEIGHT_STEP = 2.0**-12
ACTIVATION_STEP = 2.0**-8
ACTIVATION_LIMIT = 1024.0
# float64 holds every multiple of WEIGHT_STEP * ACTIVATION_STEP up to this size exactly
SUM_LIMIT = 2.0**53 * WEIGHT_STEP * ACTIVATION_STEP

TABLE_BITS = 24
TABLE_TOTAL = 2**TABLE_BITS  # the frequencies of each table sum to this


# Adding this leaves a float64 no bits below ACTIVATION_STEP: the sum is rounded there, ties to even
MAGIC = 1.5 * 2.0**52 * ACTIVATION_STEP


def round_activation(x):
    """To the nearest multiple of 2^-8 (ties to even), within +-1024. Exact for dyadic x below 2^43."""
    return (x + MAGIC).sub_(MAGIC).clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def convolve(x, weight, bias):
    """A same-size convolution with zero padding, as one matrix product for each tap of the kernel.

        rows of x, padded, end to end    . a b c d . . e f g h . . i j k l .
        what the tap (0, 0) multiplies   [. a b c d . . e f g h . . i j]        taps are the same line, shifted
        what the tap (0, 1) multiplies     [a b c d . . e f g h . . i j k]

    So nothing is copied but once, into the padding. Where a row has ended the products are of no use and are cut off.

    Args:
        x: B,C,h,w float64.
        weight: k,k,C',C, k odd; bias: C',1.

    Returns:
        B,C',h,w float64, not contiguous.
    """
    batch, _, height, width = x.shape
    kernel = len(weight)
    line = F.pad(x, 4 * [kernel // 2]).flatten(2)
    step = width + kernel - 1
    length = (height - 1) * step + width
    out = bias.repeat(batch, 1, height * step)  # a copy even where it is one number: the sums are made in it
    for i in range(kernel):
        for j in range(kernel):
            begin = i * step + j
            out[:, :, :length].baddbmm_(weight[i, j].expand(batch, -1, -1), line[:, :, begin : begin + length])
    return out.unflatten(2, (height, step))[..., :width]


class ExactNetwork:
    """A trained nn.Sequential of Conv2d, LeakyReLU and PixelShuffle, run exactly.

    Args:
        network: nn.Sequential; convolutions with stride 1 and odd kernels, "same" padding with zeros, slopes
            that are powers of two.

    Raises:
        ValueError: a layer of another kind, or weights so large that a sum could leave float64's exact range.
    """

    def __init__(self, network):
        self.layers, largest = [], [torch.zeros((), dtype=torch.float64)]
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                weight = (layer.weight.detach().double() / WEIGHT_STEP).round() * WEIGHT_STEP
                bias = (layer.bias.detach().double() / WEIGHT_STEP).round() * WEIGHT_STEP
                sums = weight.abs().sum(dim=(1, 2, 3)) * ACTIVATION_LIMIT + bias.abs()
                largest.append(sums.max())
                self.layers.append((weight.permute(2, 3, 0, 1).contiguous(), bias[:, None]))
            elif isinstance(layer, nn.PixelShuffle) or (
                isinstance(layer, nn.LeakyReLU) and np.frexp(layer.negative_slope)[0] == 0.5
            ):
                self.layers.append(layer)
            else:
                raise ValueError(f"{layer} cannot be run exactly")
        self.largest_sum = torch.stack(largest).max().item()
        if not self.largest_sum < SUM_LIMIT:  # "not <" refuses NaN too
            raise ValueError(f"weights too large to be exact: a sum may reach {self.largest_sum:.3g}")

    def __call__(self, x):
        """B,C,h,w float64 -> B,C',h',w' float64, every element a multiple of 2^-8."""
        x = round_activation(x)
        for layer in self.layers:
            x = round_activation(convolve(x, *layer) if isinstance(layer, tuple) else layer(x))
        return x


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
