"""Checks of notebook 03: bits from likelihoods, and numbers whose sums are exact."""

import numpy as np
import torch

from ganlib.course.exercises import NotYet, compare, exercise, given
from ganlib.model.entropy_model import LIKELIHOOD_MIN, gaussian_likelihood

ORDERS = 20  # in which the same numbers are summed


@exercise("rare symbols are expensive; with a wrong scale common symbols count as rare. So h_s predicts the scale.")
def check_entropy_bits(answer):
    """Against -log2 of the Gaussian's integral over each symbol's unit interval, at most 24 bits each."""
    rng = np.random.default_rng(0)
    scales = np.exp(rng.uniform(-1.5, 3, 200))
    cases = (
        ("one symbol 0 at scale 1", np.zeros(1), np.ones(1)),
        ("one symbol 0 at scale 10", np.zeros(1), np.full(1, 10.0)),
        ("200 symbols", np.rint(rng.normal(size=200) * scales), scales),
        ("a symbol far out in the tail", np.array([-40.0]), np.array([0.5])),
    )
    for what, symbols, scale in cases:
        value = float(given(answer(symbols.copy(), scale.copy())))
        each = -torch.log2(gaussian_likelihood(torch.from_numpy(symbols), torch.from_numpy(scale)))
        bits = each.sum().item()
        if np.isclose(value, bits, rtol=1e-4):
            continue  # first: at large scales the density, tested below, is nearly right too
        if not np.isfinite(value):
            raise NotYet(f"{what} costs {value} bits: no table can hold that, its rarest symbol costs 24")
        if np.isclose(value, bits * np.log(2), rtol=1e-4):
            raise NotYet("these are nats: a bit is a logarithm to base 2")
        if len(symbols) > 1 and np.isclose(value, bits / len(symbols), rtol=1e-4):
            raise NotYet("this is the mean of a symbol; the exercise asks for the whole message")
        density = np.exp(-0.5 * (symbols / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
        if np.isclose(value, -np.log2(np.maximum(density, LIKELIHOOD_MIN)).sum(), rtol=1e-4):
            raise NotYet(
                "this uses the density at the symbol as its probability; the probability is the area under the "
                "curve from symbol - 1/2 to symbol + 1/2"
            )
        compare(value, bits, f"the bits of {what}", tolerance=1e-4)


@exercise("multiples of a power of two that fit into 24 bits: no sum of them is ever rounded.")
def check_dyadic(answer):
    """Nearest multiples of 2^-bits, in float32, whose sum is the same in any order."""
    rng = np.random.default_rng(0)
    for bits in (8, 6, 0):
        values = rng.normal(size=500).astype(np.float32) * 10
        value = np.asarray(given(answer(values.copy(), bits)))
        step = 2.0**-bits
        if value.shape != values.shape:
            raise NotYet(f"the result has shape {value.shape}, not {values.shape}")
        if value.dtype != np.float32:
            raise NotYet(f"the result is {value.dtype}: it must be float32, and exact there")
        if not np.array_equal(value / step, np.rint(value / step)):
            raise NotYet(f"for bits={bits} not every number is a multiple of 2^-{bits}")
        worst = np.abs(value - values).max()
        if worst > step / 2:
            raise NotYet(f"for bits={bits} a number moved by {worst / step:.2f} steps; the nearest multiple is never "
                         "further than half a step")  # fmt: skip
        sums = {np.cumsum(rng.permutation(value))[-1] for _ in range(ORDERS)}
        if len(sums) > 1:
            raise NotYet(f"{ORDERS} orders of summation gave {len(sums)} different sums")
