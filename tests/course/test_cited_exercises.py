"""Notebook 07's checks: they take the solutions, and nothing that only looks right."""

import conftest
import numpy as np
import pytest

from ganlib.course.exercises import cited

NAMES = ("code_residual", "uncouple", "window_attention")


@pytest.fixture(scope="module")
def solutions():
    return conftest.solutions("07_cited_models")


def check(name, answer):
    return getattr(cited, f"check_{name}")(answer)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_accepted_and_the_stub_is_open(name, solutions):
    assert check(name, getattr(solutions, name)).state == "ok"
    assert check(name, lambda *_: None).state == "to do"


def binary_digits(x, passes):
    return np.array([np.floor(x * 2 ** (t + 1)) % 2 for t in range(passes)])


def signs_of_x(x, passes):
    return np.array([np.where(x >= 0.5, 1, -1)] * passes)


def step_stays(x, passes):
    x_hat, bits = np.full(x.shape, 0.5), []
    for _ in range(passes):
        bits.append(np.where(x >= x_hat, 1, -1))
        x_hat = x_hat + 0.25 * bits[-1]
    return np.array(bits)


def zero_where_equal(x, passes):
    x_hat, step, bits = np.full(x.shape, 0.5), 0.25, []
    for _ in range(passes):
        bits.append(np.sign(x - x_hat))
        x_hat, step = x_hat + step * bits[-1], step / 2
    return np.array(bits)


def turned_round(x, passes):
    return -cited._residual_bits(x, passes)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (binary_digits, "-1 or 1"),
        (signs_of_x, "what is left"),
        (step_stays, "halved"),
        (zero_where_equal, "there are -1, 0, 1"),
        (turned_round, "wrong way round"),
        (lambda x, passes: np.ones(passes), "shape"),
    ],
)
def test_wrong_bits(answer, hint):
    verdict = check("code_residual", answer)
    assert verdict.state == "not yet" and hint in verdict.message


def test_binary_digits_are_the_answer_in_other_words():
    assert check("code_residual", lambda x, passes: 2 * binary_digits(x, passes) - 1)


def first_step_first(u1, u2, scale, shift):
    v1 = (u1 - shift(u2)) / scale(u2)
    return v1, (u2 - shift(v1)) / scale(v1)


def other_order(u1, u2, scale, shift):
    v2 = (u2 - shift(u1)) / scale(u1)
    return v2, (u1 - shift(v2)) / scale(v2)


def adds(u1, u2, scale, shift):
    v2 = (u2 + shift(u1)) / scale(u1)
    return (u1 + shift(v2)) / scale(v2), v2


@pytest.mark.parametrize(
    "answer, hint",
    [
        (first_step_first, "undone first"),
        (other_order, "order"),
        (adds, "a shift alone"),
        (lambda u1, u2, scale, shift: u1, "two arrays"),
    ],
)
def test_wrong_inverses(answer, hint):
    verdict = check("uncouple", answer)
    assert verdict.state == "not yet" and hint in verdict.message


def softmax(scores, axis=1):
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def everywhere(q, k, v, window):
    return softmax(q @ k.T / np.sqrt(q.shape[1])) @ v


def no_root(q, k, v, window):
    return np.concatenate(
        [softmax(q[i : i + window] @ k[i : i + window].T) @ v[i : i + window] for i in range(0, len(q), window)]
    )


def overflows(q, k, v, window):
    out = []
    for i in range(0, len(q), window):
        weights = np.exp(q[i : i + window] @ k[i : i + window].T / np.sqrt(q.shape[1]))
        out.append(weights / weights.sum(axis=1, keepdims=True) @ v[i : i + window])
    return np.concatenate(out)


def other_axis(q, k, v, window):
    return softmax(q @ k.T / np.sqrt(q.shape[1]), axis=0) @ v


@pytest.mark.parametrize(
    "answer, hint",
    [
        (everywhere, "sees all others"),
        (no_root, "root"),
        (overflows, "overflow"),
        (other_axis, "8 positions in windows of 8"),
    ],
)
def test_wrong_attention(answer, hint):
    verdict = check("window_attention", answer)
    assert verdict.state == "not yet" and hint in verdict.message
