"""Checks of notebook 06: PSNR from bytes, a ratio at equal quality, and what one curve gains over another."""

import warnings

import numpy as np

from ganlib.course.exercises import NotYet, compare, exercise, given
from ganlib.evaluation import metrics

RAW_BPP = 24  # bits of a pixel before compression
BD_TOLERANCE = 0.04  # dB: straight lines and PCHIP through the same points differ by a quarter of it here

# Two curves of the report, means over Kodak: (bpp, dB).
OURS = (
    (0.1066, 0.1674, 0.2575, 0.3773, 0.5209, 0.6932),
    (26.8736, 28.3239, 29.8090, 31.2016, 32.3715, 33.2993),
)
JPEG = (
    (0.1408, 0.2555, 0.3587, 0.4488, 0.6081, 0.7388, 0.8613),
    (23.8522, 26.6718, 28.1448, 29.1445, 30.4915, 31.4220, 32.1738),
)


@exercise("in uint8, 3 - 40 is 219, and a square above 255 overflows. Use a wider type before you subtract.")
def check_psnr(answer):
    """Against metrics.psnr, on pairs where wrapped differences show."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    noise = rng.integers(-40, 41, reference.shape)
    image = (reference.astype(int) + noise).clip(0, 255).astype(np.uint8)
    uneven = reference.copy()
    uneven[:, :, 0] = image[:, :, 0]  # an error in one channel only: means over channels of PSNR would be infinite
    dark, bright, white = (np.full((8, 8, 3), level, np.uint8) for level in (3, 40, 250))
    pairs = (bright, dark, "40 against 3"), (dark, bright, "3 against 40"), (dark, white, "3 against 250")
    for a, b, what in pairs:
        value = float(given(answer(a.copy(), b.copy())))
        oracle = metrics.psnr(a, b)
        if np.isclose(value, oracle * np.log(10), atol=1e-3):
            raise NotYet("decibels use the logarithm to base 10: np.log10; np.log is the natural logarithm")
        if not np.isclose(value, oracle, atol=1e-3):
            hint = ": what are np.uint8(3) - np.uint8(40), and np.uint8(37) ** 2?"
            if b is white:
                hint = ": the largest int16 is 32,767, and 247 ** 2 is 61,009"
            raise NotYet(f"pixels of {what} give {value:.2f} dB, and should be {oracle:.2f}{hint}")
    for b, what in ((image, "a noisy picture"), (uneven, "a picture whose red alone is wrong")):
        compare(float(given(answer(reference.copy(), b.copy()))), metrics.psnr(reference, b), what, 1e-4)


@exercise("a ratio has a meaning only together with the quality, such as 30 dB, and with the size that it refers to.")
def check_compression_ratio_at_equal_quality(answer):
    """Against 24 bits over the rate at that PSNR, log(rate) linear in PSNR; nan outside, any order of points."""
    bpp, psnr = map(np.array, OURS)
    for least in (28.3239, 29.0, 31.5):
        oracle = RAW_BPP / np.exp(np.interp(least, psnr, np.log(bpp)))
        value = float(given(answer(bpp.copy(), psnr.copy(), least)))
        if np.isclose(value, 1 / oracle, rtol=1e-3):
            raise NotYet(f"at {least:.1f} dB it gives {value:.3f}, the file over the raw picture: turn it round")
        if np.isclose(value, oracle / 3, rtol=1e-3):
            raise NotYet("a raw pixel has three channels of 8 bits")
        if np.isclose(value, RAW_BPP / np.interp(least, psnr, bpp), rtol=1e-5) and least != 28.3239:
            raise NotYet(
                f"{value:.2f} at {least:.1f} dB: between two points, interpolate the logarithm of the rate linearly"
            )
        compare(value, oracle, f"the ratio at {least:.1f} dB", 1e-4)
    shuffled = [3, 0, 5, 1, 4, 2]
    value = float(given(answer(bpp[shuffled], psnr[shuffled], 29.0)))
    oracle = RAW_BPP / np.exp(np.interp(29.0, psnr, np.log(bpp)))
    if not np.isclose(value, oracle, rtol=1e-4):
        raise NotYet(
            f"the same points in another order give {value:.2f}, not {oracle:.2f}: np.interp needs them sorted"
        )
    for outside in (20.0, 40.0):
        value = float(given(answer(bpp.copy(), psnr.copy(), outside)))
        if not np.isnan(value):
            raise NotYet(f"nothing was measured at {outside:g} dB, it returns {value:.2f}: return nan, not a guess")


def _library_bd_psnr(anchor_bpp, anchor_psnr, bpp, psnr):
    from bjontegaard import bd_psnr  # here, because it imports pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a small overlap, which is the point of one case
        options = dict(method="pchip", require_matching_points=False, min_overlap=0)
        return float(bd_psnr(anchor_bpp, anchor_psnr, bpp, psnr, **options))


@exercise("the same two curves: BD-rate averages their distance over PSNR, BD-PSNR over log(rate).")
def check_bd_psnr(answer):
    """Against the package bjontegaard with PCHIP, within what straight lines between the points may differ."""
    ours, jpeg = [np.array(a) for a in OURS], [np.array(a) for a in JPEG]
    high = [ours[0][2:], ours[1][2:]]  # begins above JPEG's first points, and ends below its last
    for anchor, test, what in ((jpeg, ours, "ours against JPEG"), (ours, jpeg, "JPEG against ours"),
                               (jpeg, high, "the upper part of ours against JPEG")):  # fmt: skip
        oracle = _library_bd_psnr(*anchor, *test)
        value = float(given(answer(*(a.copy() for a in (*anchor, *test)))))
        if abs(value - oracle) > BD_TOLERANCE:
            if abs(value + oracle) <= BD_TOLERANCE:
                raise NotYet(f"{what} has the wrong sign: above 0 means that the second curve is the better one")
            raise NotYet(
                f"{what}: {value:+.3f} dB, and the package says {oracle:+.3f}. Is the mean taken over log(rate), and "
                "only over rates that both curves reach?"
            )
