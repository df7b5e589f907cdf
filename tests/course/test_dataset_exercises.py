"""The checks of notebook 01 accept its solutions, and tell what is wrong with answers that look right."""

import random

import conftest
import numpy as np
import pytest
import torch

from ganlib.course.exercises.dataset import check_crop_corner, check_find_overlap, check_mean_bpp

CHECKS = {"mean_bpp": check_mean_bpp, "crop_corner": check_crop_corner, "find_overlap": check_find_overlap}


@pytest.fixture(scope="module")
def solutions():
    return conftest.solutions("01_dataset_collection")


@pytest.mark.parametrize("name", CHECKS)
def test_solution_is_accepted(solutions, name):
    verdict = CHECKS[name](getattr(solutions, name))
    assert verdict.state == "ok", verdict


@pytest.mark.parametrize("name", CHECKS)
def test_stub_is_to_do(name):
    def stub(*args): ...

    assert CHECKS[name](stub).state == "to do"


def rejected(check, answer, because):
    verdict = check(answer)
    assert verdict.state == "not yet" and because in verdict.message, verdict


def test_mean_bpp_takes_a_tensor():
    def by_tensor(n_bytes, sizes):
        return (8 * torch.tensor(n_bytes) / torch.tensor([w * h for w, h in sizes])).double().mean()

    assert check_mean_bpp(by_tensor)


@pytest.mark.parametrize(
    "answer, because",
    [
        (lambda n, s: 8 * sum(n) / sum(w * h for w, h in s), "all bits over all pixels"),
        (lambda n, s: np.mean([b / (w * h) for b, (w, h) in zip(n, s)]), "a byte has 8 bits"),
        (lambda n, s: 8 * np.mean(n) / max(w * h for w, h in s), "divide each by its own pixels"),
        (lambda n, s: [8 * b / (w * h) for b, (w, h) in zip(n, s)], "shape"),
        (lambda n, s: np.mean([8 * b / (w * h * 3) for b, (w, h) in zip(n, s)]), "should be"),
    ],
)
def test_mean_bpp_rejects(answer, because):
    rejected(check_mean_bpp, answer, because)


def by_torch(seed, index, height, width, side):
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    return [torch.randint(n - side + 1, (), generator=generator) for n in (height, width)]


def by_random(seed, index, height, width, side):
    own = random.Random(f"{seed} {index}")
    return own.randint(0, height - side), own.randint(0, width - side)


@pytest.mark.parametrize("answer", [by_torch, by_random])
def test_crop_corner_takes_any_generator(answer):
    verdict = check_crop_corner(answer)
    assert verdict, verdict


def corner(rng, height, width, side):
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))


def global_state(seed, index, height, width, side):
    np.random.seed([seed, index])
    return np.random.randint(height - side + 1), np.random.randint(width - side + 1)


def off_by_one(seed, index, height, width, side):
    rng = np.random.default_rng([seed, index])
    return int(rng.integers(height - side)), int(rng.integers(width - side))


def lopsided(seed, index, height, width, side):
    rng = np.random.default_rng([seed, index])
    top, left = (int(min(rng.random(), rng.random(), rng.random()) * (n - side + 1)) for n in (height, width))
    return top, left


def the_same_offset(seed, index, height, width, side):
    share = np.random.default_rng([seed, index]).random()
    return int(share * (height - side + 1)), int(share * (width - side + 1))


SHARED = np.random.default_rng(0)


@pytest.mark.parametrize(
    "answer, because",
    [
        (off_by_one, "is never 2"),
        (lambda seed, index, *size: corner(np.random.default_rng(seed + index), *size), "one index later"),
        (lambda seed, index, *size: corner(np.random.default_rng(seed), *size), "all of 600 indices"),
        (lambda seed, index, *size: corner(np.random.default_rng(index), *size), "seeds 0 and 1"),
        (lambda seed, index, *size: corner(SHARED, *size), "gave two crops"),
        (lambda seed, index, h, w, side: corner(np.random.default_rng([seed, index]), h + 9, w + 9, side), "leaves"),
        (lambda seed, index, *size: tuple(n + 0.5 for n in corner(SHARED, *size)), "whole numbers"),
        (lambda seed, index, *size: 3, "not a pair"),
        (global_state, "global random state"),
        (lopsided, "where about 50 are fair"),
        (the_same_offset, "where about 50 are fair"),
    ],
)
def test_crop_corner_rejects(answer, because):
    rejected(check_crop_corner, answer, because)


def test_find_overlap_takes_all_pairs_and_any_order():
    def slow(train, test):
        pairs = ((i, j) for i in range(len(train)) for j in range(len(test)))
        return {(i, j) for i, j in pairs if np.array_equal(train[i], test[j])}

    assert check_find_overlap(slow)


def pairs_by(key):
    def answer(train, test):
        return [(i, j) for i, a in enumerate(train) for j, b in enumerate(test) if key(a) == key(b)]

    return answer


@pytest.mark.parametrize(
    "answer, because",
    [
        (pairs_by(lambda p: p.tobytes()), "another shape"),
        (pairs_by(lambda p: (p.shape, int(p.sum()))), "another order"),
        (pairs_by(lambda p: (p.shape, p[0].tobytes())), "one bit"),
        (pairs_by(lambda p: (p.shape, p.strides, p.tobytes())), "not contiguous"),
        (pairs_by(id), "was not found"),
        (lambda train, test: [j for _, j in pairs_by(lambda p: p.tobytes())(train, test)], "not a list of pairs"),
        (lambda train, test: sorted(pairs_by(lambda p: (p.shape, p.tobytes()))(train, test) * 2), "listed twice"),
        (lambda train, test: [(j, i) for i, j in pairs_by(lambda p: (p.shape, p.tobytes()))(train, test)], "(0, 1)"),
    ],
)
def test_find_overlap_rejects(answer, because):
    rejected(check_find_overlap, answer, because)


def test_find_overlap_wants_every_occurrence():
    def one_each(train, test):
        known = {(p.shape, p.tobytes()): i for i, p in enumerate(train)}
        return [(known[p.shape, p.tobytes()], j) for j, p in enumerate(test) if (p.shape, p.tobytes()) in known]

    rejected(check_find_overlap, one_each, "twice in one list")
