"""Notebook 06's checks: they take the solutions, and nothing that only looks right."""

import conftest
import numpy as np
import pytest

from ganlib.course.exercises import results

NAMES = ("psnr", "compression_ratio_at_equal_quality", "bd_psnr")


@pytest.fixture(scope="module")
def solutions():
    return conftest.solutions("06_results")


def check(name, answer):
    return getattr(results, f"check_{name}")(answer)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_accepted_and_the_stub_is_open(name, solutions):
    assert check(name, getattr(solutions, name)).state == "ok"
    assert check(name, lambda *_: None).state == "to do"


def wrapping(a, b):
    return 10 * np.log10(255**2 / np.mean((a - b) ** 2))


def wide_after(a, b):
    return 10 * np.log10(255**2 / np.mean((a - b).astype(float) ** 2))


def too_narrow(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(np.int16) - b) ** 2))


def peak_of_one(a, b):
    return 10 * np.log10(1 / np.mean((a.astype(float) - b) ** 2))


def natural_logarithm(a, b):
    return 10 * np.log(255**2 / np.mean((a.astype(float) - b) ** 2))


def mean_of_channels(a, b):
    squares = ((a.astype(float) - b) ** 2).mean(axis=(0, 1))
    return np.mean(10 * np.log10(255**2 / np.maximum(squares, 1e-9)))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (wrapping, "np.uint8(37)"),
        (wide_after, "np.uint8(3)"),
        (too_narrow, "int16"),
        (peak_of_one, "should be"),
        (natural_logarithm, "np.log10"),
        (mean_of_channels, "red alone"),
    ],
)
def test_wrong_psnr(answer, hint):
    verdict = check("psnr", answer)
    assert verdict.state == "not yet" and hint in verdict.message


def linear(bpp, psnr, at):
    return 24 / np.interp(at, psnr, bpp, left=np.nan, right=np.nan)


def guesses_outside(bpp, psnr, at):
    order = np.argsort(psnr)
    return 24 / np.exp(np.interp(at, psnr[order], np.log(bpp[order])))


def takes_the_order_as_it_is(bpp, psnr, at):
    return 24 / np.exp(np.interp(at, psnr, np.log(bpp), left=np.nan, right=np.nan))


def turned_round(bpp, psnr, at):
    return 1 / takes_the_order_as_it_is(bpp, psnr, at)


def one_channel(bpp, psnr, at):
    return takes_the_order_as_it_is(bpp, psnr, at) / 3


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (linear, "logarithm"),
        (guesses_outside, "nan"),
        (takes_the_order_as_it_is, "sorted"),
        (turned_round, "turn it round"),
        (one_channel, "three channels"),
    ],
)
def test_wrong_ratio(answer, hint):
    verdict = check("compression_ratio_at_equal_quality", answer)
    assert verdict.state == "not yet" and hint in verdict.message


def along_rate(anchor_bpp, anchor_psnr, bpp, psnr):
    at = np.linspace(max(anchor_bpp.min(), bpp.min()), min(anchor_bpp.max(), bpp.max()), 500)
    return np.mean(np.interp(at, bpp, psnr) - np.interp(at, anchor_bpp, anchor_psnr))


def beyond_the_overlap(anchor_bpp, anchor_psnr, bpp, psnr):
    at = np.linspace(np.log(min(anchor_bpp.min(), bpp.min())), np.log(max(anchor_bpp.max(), bpp.max())), 500)
    return np.mean(np.interp(at, np.log(bpp), psnr) - np.interp(at, np.log(anchor_bpp), anchor_psnr))


@pytest.mark.parametrize(
    ("answer", "hint"), [(along_rate, "log(rate)"), (beyond_the_overlap, "both"), (None, "wrong sign")]
)
def test_wrong_bd_psnr(answer, hint, solutions):
    verdict = check("bd_psnr", answer or (lambda a, b, c, d: solutions.bd_psnr(c, d, a, b)))
    assert verdict.state == "not yet" and hint in verdict.message


def test_torch_is_as_good(solutions):
    import torch

    def psnr(a, b):
        return 10 * torch.log10(255**2 / (torch.tensor(a).double() - torch.tensor(b)).square().mean())

    assert check("psnr", psnr)
