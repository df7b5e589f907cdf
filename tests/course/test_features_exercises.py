"""The exercises of notebook 02: the solutions pass, stubs are open, plausible wrong answers are told why."""

import conftest
import pytest
import torch
import torch.nn.functional as F

from ganlib.course.exercises import features

solutions = conftest.solutions("02_feature_extraction")

NAMES = ("conv2d_by_hand", "laplace_likelihood")


def check(name, answer):
    return getattr(features, f"check_{name}")(answer)


@pytest.mark.parametrize("name", NAMES)
def test_solution_passes_and_the_stub_is_open(name):
    assert check(name, getattr(solutions, name)).state == "ok"
    assert check(name, lambda *args: ...).state == "to do"
    assert check(name, lambda *args: None).state == "to do"
    assert check(name, lambda *args: 1 / 0).state == "not yet"


def torch_convolution(x, weight, bias):
    x, weight, bias = (torch.from_numpy(a) for a in (x, weight, bias))
    return F.conv2d(x[None], weight, bias, padding=weight.shape[2] // 2)[0]


def area(distribution, y):
    return distribution.cdf(y + 0.5) - distribution.cdf(y - 0.5)


def laplace(y, mean, scale):
    return area(torch.distributions.Laplace(mean, scale), y)


def test_other_right_answers_pass():
    assert check("conv2d_by_hand", torch_convolution)
    assert check("laplace_likelihood", laplace)


WRONG = {
    "flipped": ("conv2d_by_hand", lambda x, w, b: torch_convolution(x, w[:, :, ::-1, ::-1].copy(), b)),
    "bias is missing": ("conv2d_by_hand", lambda x, w, b: torch_convolution(x, w, 0 * b)),
    "border": (
        "conv2d_by_hand",
        lambda x, w, b: F.conv2d(*(torch.from_numpy(a) for a in (x, w, b))),
    ),
    "should be": ("conv2d_by_hand", lambda x, w, b: torch_convolution(x, w.transpose(0, 1, 3, 2).copy(), b)),
    "density": ("laplace_likelihood", lambda *args: torch.distributions.Laplace(*args[1:]).log_prob(args[0]).exp()),
    "normal": ("laplace_likelihood", lambda *args: area(torch.distributions.Normal(*args[1:]), args[0])),
    "bits": ("laplace_likelihood", lambda *args: -laplace(*args).log2()),
    "is 0.": ("laplace_likelihood", lambda y, mean, scale: laplace(y + mean, 0 * mean, scale)),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_answers_are_told_why(reason):
    name, answer = WRONG[reason]
    verdict = check(name, answer)
    assert verdict.state == "not yet" and reason in verdict.message
