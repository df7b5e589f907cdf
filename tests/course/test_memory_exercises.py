"""The checks of notebook 05 accept its solutions, and reject stubs and plausible mistakes."""

import conftest
import numpy as np
import pytest

from ganlib.course.exercises import memory

solutions = conftest.solutions("05_low_vram")

CHECKS = {
    "chain_peak": memory.check_chain_peak,
    "tile_side": memory.check_tile_side,
    "suspect_columns": memory.check_suspect_columns,
}


def sizes(batch, channels, side, itemsize):
    return [batch * c * side * side * itemsize for c in channels]


def fits(budget, halo, per_pixel, fixed, halos):
    """A tile side by search, with the halo counted `halos` times."""
    side = 0
    while fixed + (side + 64 + halos * halo) ** 2 * per_pixel <= budget:
        side += 64
    return side


WRONG = {
    "chain_peak": {
        "everything at once": (lambda *a: sum(sizes(*a)), "freed"),
        "values, not bytes": (lambda b, c, s, i: solutions.chain_peak(b, c, s, 1), "bytes"),
        "one image": (lambda b, c, s, i: solutions.chain_peak(1, c, s, i), "there are 2"),
        "x forgotten": (lambda *a: max(p + q for p, q in zip(sizes(*a), sizes(*a)[1:])), "the meter sees"),
        "largest alone": (lambda *a: max(sizes(*a)), "the meter sees"),
    },
    "tile_side": {
        "no halo": (lambda b, h, p, f: fits(b, 0, p, f, 0), "with its halo"),
        "halo on one side": (lambda b, h, p, f: fits(b, h, p, f, 1), "with its halo"),
        "weights forgotten": (lambda b, h, p, f: fits(b, h, p, 0, 2), "with its halo"),
        "not a multiple": (lambda b, h, p, f: int(max(0, (b - f) / p) ** 0.5) - 2 * h, "multiple of 64"),
        "one step short": (lambda b, h, p, f: max(0, fits(b, h, p, f, 2) - 64), "larger tile fits"),
    },
    "suspect_columns": {
        "none": (lambda w, t, h, r: np.zeros(w, bool), "needs"),
        "halo forgotten": (lambda w, t, h, r: solutions.suspect_columns(w, t, 0, r), "needs"),
        "at the picture's edge too": (
            lambda w, t, h, r: (np.arange(w) % t < r - h) | (np.arange(w) % t >= t - (r - h)),
            "[0] is True",
        ),
        "a number": (lambda w, t, h, r: 5, "one boolean"),
    },
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_is_accepted(name):
    verdict = CHECKS[name](getattr(solutions, name))
    assert verdict, verdict


@pytest.mark.parametrize("name", CHECKS)
def test_a_stub_is_still_open(name):
    assert CHECKS[name](lambda *args: ...).state == "to do"
    assert CHECKS[name](lambda *args: None).state == "to do"


@pytest.mark.parametrize("name,mistake", [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_a_mistake_is_rejected_and_explained(name, mistake):
    answer, told = WRONG[name][mistake]
    verdict = CHECKS[name](answer)
    assert verdict.state == "not yet" and told in verdict.message, verdict
