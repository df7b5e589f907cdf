"""The exercises of notebook 03: the solutions pass, stubs are open, plausible wrong answers are told why."""

import conftest
import numpy as np
import pytest
import torch

from ganlib.course.exercises import bits

solutions = conftest.solutions("03_bits")

NAMES = ("entropy_bits", "dyadic")


def check(name, answer):
    return getattr(bits, f"check_{name}")(answer)


@pytest.mark.parametrize("name", NAMES)
def test_solution_passes_and_the_stub_is_open(name):
    assert check(name, getattr(solutions, name)).state == "ok"
    assert check(name, lambda *args: ...).state == "to do"
    assert check(name, lambda *args: None).state == "to do"
    assert check(name, lambda *args: 1 / 0).state == "not yet"


def likelihoods(symbols, scale):
    normal = torch.distributions.Normal(torch.zeros(len(scale), dtype=torch.float64), torch.from_numpy(scale))
    s = torch.from_numpy(symbols)
    return (normal.cdf(s + 0.5) - normal.cdf(s - 0.5)).clamp_min(2.0**-24)


def test_other_right_answers_pass():
    assert check("entropy_bits", lambda symbols, scale: -likelihoods(symbols, scale).log2().sum())
    assert check("dyadic", lambda v, bits: torch.round(torch.from_numpy(v) * 2**bits) / 2**bits)


def density(symbols, scale):
    return np.exp(-0.5 * (symbols / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


WRONG = {
    "nats": ("entropy_bits", lambda s, scale: -likelihoods(s, scale).log().sum()),
    "density": ("entropy_bits", lambda s, scale: -np.log2(np.maximum(density(s, scale), 2.0**-24)).sum()),
    "mean of a symbol": ("entropy_bits", lambda s, scale: -likelihoods(s, scale).log2().mean()),
    "no table": ("entropy_bits", lambda s, scale: np.inf if s[0] == -40 else -likelihoods(s, scale).log2().sum()),
    "multiple": ("dyadic", lambda v, bits: np.round(v, bits // 4 + 1)),
    "half a step": ("dyadic", lambda v, bits: np.floor(v * np.float32(2**bits)) / np.float32(2**bits)),
    "float64": ("dyadic", lambda v, bits: np.rint(v.astype(np.float64) * 2**bits) / 2**bits),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_answers_are_told_why(reason):
    name, answer = WRONG[reason]
    verdict = check(name, answer)
    assert verdict.state == "not yet" and reason in verdict.message
