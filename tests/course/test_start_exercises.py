"""The exercises' own frame, and those of notebook 00."""

import itertools
import linecache
import threading
import time

import numpy as np
import pytest
import torch
from conftest import solutions, stub

from ganlib.course.exercises import NotYet, Verdict, compare, exercise, given
from ganlib.course.exercises.deadline import Overdue, within_seconds
from ganlib.course.exercises.start import check_bits_per_pixel, check_smallest_quality
from ganlib.evaluation.metrics import psnr

SOLVED = solutions("00_start_here")


@exercise("twice is twice.")
def check_double(answer):
    compare(answer(4), 8, "double(4)")


def test_a_verdict_is_true_where_it_is_ok_and_says_so():
    verdict = check_double(lambda x: 2 * x)
    assert verdict and repr(verdict) == "[OK] <lambda>: twice is twice."
    assert not check_double(lambda x: x) and not check_double(stub)


def docstring_only(x):
    """As the student finds it."""
    pass


@pytest.mark.parametrize("open_one", [stub, docstring_only, lambda x: ..., None, ...])
def test_an_untouched_exercise_is_to_do(open_one):
    assert check_double(open_one).state == "to do"


def test_an_exercise_that_raises_not_implemented_is_to_do():
    def double(x):
        raise NotImplementedError

    assert check_double(double) == Verdict("to do", "double is still open")


def test_a_forgotten_return_is_no_open_exercise():
    def double(x):
        x = 2 * x

    verdict = check_double(double)
    assert verdict.state == "not yet" and "return" in verdict.message
    assert check_double(lambda x: 0).state == "not yet"


def test_an_error_of_the_student_is_shown_with_its_line_and_not_raised():
    cell = "def double(x):\n    if x > 0:\n        return x / 0  # here\n"
    linecache.cache["cell"] = len(cell), None, cell.splitlines(keepends=True), "cell"
    exec(compile(cell, "cell", "exec"), names := {})
    verdict = check_double(names["double"])
    assert verdict.state == "not yet"
    assert "raised ZeroDivisionError: division by zero, in line 3: return x / 0  # here" in verdict.message
    exec(compile("def double(x):\n    return 'eight'", "other cell", "exec"), names)
    verdict = check_double(names["double"])
    assert verdict.state == "not yet" and "the check cannot use" in verdict.message


def loops(x):
    while True:
        x += 1


def swallows(x):
    while True:
        try:
            x += 1
        except:  # noqa: E722, S110
            pass


def sleeps(x):
    time.sleep(5)


def yields(x):
    yield from itertools.repeat(x)


@pytest.mark.parametrize("endless", [loops, swallows, sleeps, yields])
def test_a_check_ends_whatever_it_is_given(endless):
    @exercise("ends.", seconds=0.3)
    def check_endless(answer):
        compare(answer(4), 8, "it")

    before, began = threading.enumerate(), time.monotonic()
    verdict = check_endless(endless)
    assert verdict.state == "not yet"
    assert "has not ended after 0.3 s" in verdict.message or endless is yields
    assert time.monotonic() - began < 10
    if endless is not sleeps:  # a sleep in C ends when it ends
        assert not set(threading.enumerate()) - set(before)


def test_deadline_gives_back_results_and_errors():
    assert within_seconds(5, max, 1, 2) == 2
    with pytest.raises(KeyError):
        within_seconds(5, {}.__getitem__, "a")
    with pytest.raises(Overdue):
        within_seconds(0.1, loops, 0)


def test_compare_tells_shape_place_and_values():
    compare(torch.ones(2, 3), np.ones((2, 3)), "ones")
    with pytest.raises(NotYet, match=r"shape \(3,\), not \(2, 3\)"):
        compare(np.ones(3), np.ones((2, 3)), "ones")
    with pytest.raises(NotYet, match=r"is 5 at \(1, 2\), and should be 1"):
        compare([[1, 1, 1], [1, 1, 5]], np.ones((2, 3)), "ones")
    with pytest.raises(NotYet, match="nan"):
        compare(float("nan"), 1.0, "it")


def test_given_passes_zero_and_empty_on():
    assert given(0) == 0 and given([]) == []


def test_bits_per_pixel():
    assert check_bits_per_pixel(SOLVED.bits_per_pixel)
    assert check_bits_per_pixel(stub).state == "to do"
    assert "8 bits" in check_bits_per_pixel(lambda n, w, h: n / (w * h)).message
    assert check_bits_per_pixel(lambda n, w, h: 8 * n / (w * h * 3)).state == "not yet"


def test_smallest_quality(codec, photo):
    picture = photo[:128, :128]
    assert check_smallest_quality(SOLVED.smallest_quality, codec, picture)
    assert check_smallest_quality(stub, codec, picture).state == "to do"

    def one_too_many(codec, picture, least):
        return min(100, SOLVED.smallest_quality(codec, picture, least) + 1)

    def one_by_one(codec, picture, least):
        for quality in range(101):
            codec.compress(picture, quality=quality)
        return SOLVED.smallest_quality(codec, picture, least)

    assert "is enough" in check_smallest_quality(one_too_many, codec, picture).message
    assert "halve" in check_smallest_quality(one_by_one, codec, picture).message
    assert check_smallest_quality(lambda *_: 0, codec, picture).state == "not yet"

    def for_ever(codec, picture, least):
        """The bisection that everybody writes once: low = middle, which never gets past high - 1."""
        low, high = 0, 100
        while low < high:
            middle = (low + high) // 2
            back = codec.decompress(codec.compress(picture, quality=middle))
            low, high = (low, middle) if psnr(picture, np.asarray(back)) >= least else (middle, high)
        return low

    def natural(codec, picture, least):
        codec.decompress(codec.compress(picture, quality=50), realism=1.0)
        return SOLVED.smallest_quality(codec, picture, least)

    assert "no end" in check_smallest_quality(for_ever, codec, picture).message
    assert "realism 0" in check_smallest_quality(natural, codec, picture).message
