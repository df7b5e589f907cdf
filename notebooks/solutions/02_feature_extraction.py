"""Solutions of notebook 02, one function for each exercise."""

import math

import numpy as np


def conv2d_by_hand(x, weight, bias):
    """C,H,W; O,C,k,k; O -> O,H,W."""
    k = weight.shape[2]
    height, width = x.shape[1:]
    padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    # k * k shifted pictures, each weighted by one tap of every kernel: fewer loops than a window at a time
    for i in range(k):
        for j in range(k):
            shifted = padded[:, i : i + height, j : j + width]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], shifted)
    return out


def entropy_bits(symbols, scale):
    """n whole numbers, n standard deviations -> bits of the message."""
    # by symmetry the area around |s| is a difference of two small numbers, and not of two that are nearly 1
    upper = [math.erfc((abs(s) - 0.5) / (sd * math.sqrt(2))) / 2 for s, sd in zip(symbols, scale)]
    lower = [math.erfc((abs(s) + 0.5) / (sd * math.sqrt(2))) / 2 for s, sd in zip(symbols, scale)]
    likelihood = np.maximum(np.subtract(upper, lower), 2.0**-24)
    return -np.log2(likelihood).sum()


def dyadic(values, bits):
    """Any shape -> float32 of that shape, multiples of 2^-bits."""
    # scaling by a power of two changes the exponent only, so that np.rint does the one rounding there is
    step = np.float32(2.0**-bits)
    return np.rint(values / step) * step
