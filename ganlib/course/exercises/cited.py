"""Checks of notebook 07: coding the residual, inverting a coupling, attention within windows."""

import numpy as np

from ganlib.course.exercises import NotYet, compare, exercise, given

HALF_STEP = 0.25  # of the first pass: from 1/2 to the middle of either half


def _residual_bits(x, passes):
    """Each pass says on which side of x_hat the number lies, and halves the step."""
    x_hat, step, bits = np.full_like(x, 0.5), HALF_STEP, []
    for _ in range(passes):
        bits.append(np.where(x >= x_hat, 1, -1))
        x_hat = x_hat + step * bits[-1]
        step /= 2
    return np.array(bits)


def _decoded(bits):
    """x_hat after the last of some passes of -1 and 1."""
    steps = HALF_STEP * 0.5 ** np.arange(len(bits))
    return 0.5 + np.tensordot(steps, bits, 1)


@exercise("a pass needs only the sign of the residual. With a network instead of the step, this is Toderici's codec.")
def check_code_residual(answer):
    """Bits of -1 and 1 of each pass; every prefix must be as exact as so many bits allow."""
    x = np.random.default_rng(0).random((3, 4))
    x[0, :2] = 0.5, 0.75  # equal to x_hat before the first pass, and before the second
    for passes in (1, 2, 6):
        bits = np.asarray(given(answer(x.copy(), passes)))
        if bits.shape != (passes, *x.shape):
            raise NotYet(f"for {passes} passes of a {x.shape} array the bits have shape {bits.shape}, "
                         f"not {(passes, *x.shape)}")  # fmt: skip
        if not np.isin(bits, (-1, 1)).all():
            values = sorted(set(bits.ravel().tolist()))[:4]
            raise NotYet(f"bits must be -1 or 1, and there are {', '.join(f'{value:g}' for value in values)}")
        if np.array_equal(bits, -_residual_bits(x, passes)):
            raise NotYet("all signs are the wrong way round: 1 where x lies above x_hat")
        if passes > 1 and (bits == bits[0]).all():
            raise NotYet("every pass gives the same bits: code what is left, x - x_hat, and not x")
        for n in range(1, passes + 1):
            worst = np.abs(_decoded(bits[:n]) - x).max()
            if worst > 0.5 ** (n + 1) + 1e-9:
                raise NotYet(f"after pass {n} a number is {worst:.3f} away from x; {n} bits allow "
                             f"{0.5 ** (n + 1):.3f}. Is the step halved after each pass?")  # fmt: skip


@exercise("the scale and the shift need no inverse: these functions see the same input in both directions.")
def check_uncouple(answer):
    """Against the numbers that went in, for several scales and shifts that have no inverse."""
    rng = np.random.default_rng(0)
    cases = (
        ("a shift alone", lambda t: np.ones_like(t), np.square),
        ("a scale alone", lambda t: np.exp(np.sin(3 * t)), np.zeros_like),
        ("both", lambda t: np.exp(np.tanh(t)), lambda t: np.sin(5 * t)),
    )
    for what, scale, shift in cases:
        v1, v2 = rng.normal(size=(2, 50))
        u1 = v1 * scale(v2) + shift(v2)
        u2 = v2 * scale(u1) + shift(u1)
        back = given(answer(u1.copy(), u2.copy(), scale, shift))
        if not isinstance(back, (tuple, list)) or len(back) != 2:
            raise NotYet("return two arrays: v1, v2")
        if np.allclose(back[0], v2) and np.allclose(back[1], v1):
            raise NotYet("both are right, in the wrong order: v1 first")
        wrong = (u1 - shift(u2)) / scale(u2)
        if np.allclose(back[0], wrong):
            raise NotYet(f"{what}: the scale of v1 was computed from v2, and you use u2. What must be undone first?")
        for name, value, oracle in (("v2", back[1], v2), ("v1", back[0], v1)):
            compare(value, oracle, f"{what}: {name}")


def _attention(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ v / weights.sum(axis=1, keepdims=True)


def _in_windows(q, k, v, window):
    parts = range(0, len(q), window)
    return np.concatenate([_attention(*(a[i : i + window] for a in (q, k, v))) for i in parts])


@exercise("cost and view end at the window's border. So the transformer shifts the windows in every second block.")
def check_window_attention(answer):
    """Against softmax(q k^T / sqrt(d)) v of each window; the last may be shorter, and scores may be large."""
    rng = np.random.default_rng(0)
    for n, window in ((8, 8), (8, 4), (10, 4), (3, 4)):
        q, k, v = rng.normal(size=(3, n, 6))
        value = np.asarray(given(answer(q.copy(), k.copy(), v.copy(), window)))
        what = f"{n} positions in windows of {window}"
        if value.shape != v.shape:
            raise NotYet(f"{what}: the result has shape {value.shape}, not {v.shape}")
        if n > window and np.allclose(value, _attention(q, k, v)):
            raise NotYet(f"{what}: every position sees all others; cut q, k and v into windows first")
        if np.allclose(value, _in_windows(q * np.sqrt(6), k, v, window)):
            raise NotYet(f"{what}: the scores are not divided by the root of the number of channels")
        compare(value, _in_windows(q, k, v, window), what, 1e-5)
    q, k, v = 100 * rng.normal(size=(3, 8, 6))
    value = np.asarray(given(answer(q.copy(), k.copy(), v.copy(), 4)))
    if not np.isfinite(value).all():
        raise NotYet("scores of some thousands overflow in exp: subtract each row's maximum first")
    compare(value, _in_windows(q, k, v, 4), "large scores", 1e-5)
