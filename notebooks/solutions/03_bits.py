"""Solutions of notebook 03, one function for each exercise, and answers to its questions."""

import math

import numpy as np

ANSWERS = {
    1: """3 bits, since -log2(1/8) = 3. If the model says 1/2, the symbol costs 1 bit. That looks like a saving, but
    the model then gives other symbols too little: on average over all symbols, wrong probabilities always
    cost more.""",
    2: """The decoder needs the distribution of a latent before it can read it. z tells it how large the latents of a
    region are. z itself has only a fixed distribution for each channel, so its numbers are expensive: few of
    them must do.""",
    3: """When they are coded, their four neighbours are known, so that mean and scale are predicted better. Better
    predictions mean higher probabilities of what really comes, and so fewer bits.""",
    4: """A difference in the last digit is fatal only if it moves the bound of an interval, which is rare on one
    machine and impossible if encoder and decoder are the same program. On another chip it happens in some
    photographs, and each of those is destroyed from there on. Large photographs have more symbols, so they
    fail more often.""",
    5: """What h_s computes decides how the bytes are read: one wrong interval, and all that follows is wrong. What
    g_s computes is only looked at: an error stays in its pixel.""",
}


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
