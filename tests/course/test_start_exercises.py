"""The exercises' own frame, and those of notebook 00."""

import numpy as np
import pytest
import torch
from conftest import solutions, stub

from ganlib.course.exercises import NotYet, Verdict, compare, exercise, given
from ganlib.course.exercises.start import check_bits_per_pixel, check_smallest_quality

SOLVED = solutions("00_start_here")


@exercise("twice is twice.")
def check_double(answer):
    compare(answer(4), 8, "double(4)")


def test_a_verdict_is_true_where_it_is_ok_and_says_so():
    verdict = check_double(lambda x: 2 * x)
    assert verdict and repr(verdict) == "[OK] <lambda>: twice is twice."
    assert not check_double(lambda x: x) and not check_double(stub)


@pytest.mark.parametrize("open_one", [stub, lambda x: ..., None, ...])
def test_an_untouched_exercise_is_to_do(open_one):
    assert check_double(open_one).state == "to do"


def test_an_exercise_that_raises_not_implemented_is_to_do():
    def double(x):
        raise NotImplementedError

    assert check_double(double) == Verdict("to do", "double is still open")


def test_an_error_of_the_student_is_told_and_not_raised():
    verdict = check_double(lambda x: x / 0)
    assert verdict.state == "not yet" and "ZeroDivisionError" in verdict.message


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
