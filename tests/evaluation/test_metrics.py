import math

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio

from ganlib.evaluation.metrics import bd_rate, bits_per_pixel, detail, ms_ssim, psnr

RATES = np.array([0.1, 0.2, 0.4, 0.8])
DECIBELS = np.array([26.0, 29.0, 32.0, 35.0])


@pytest.fixture(scope="module")
def photo():
    return skimage.data.astronaut()[:200, :240]


def noisy(image, amount, seed=0):
    noise = np.random.default_rng(seed).normal(0, amount, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("difference", [1, 16, 255])
def test_psnr_of_a_constant_error_is_known(difference):
    black = np.zeros((5, 7, 3), np.uint8)
    assert psnr(black, black + np.uint8(difference)) == pytest.approx(20 * math.log10(255 / difference))


def test_psnr_has_no_sign(photo):
    """uint8 differences wrap around: 0 - 1 must count as much as 1 - 0."""
    other = noisy(photo, 9)
    assert psnr(photo, other) == psnr(other, photo)


def test_psnr_agrees_with_scikit_image(photo):
    other = noisy(photo, 5)
    assert psnr(photo, other) == pytest.approx(peak_signal_noise_ratio(photo, other), abs=1e-9)
    assert psnr(photo[..., 0], other[..., 0]) == pytest.approx(
        peak_signal_noise_ratio(photo[..., 0], other[..., 0]), abs=1e-9
    )


def test_psnr_is_over_all_channels_together():
    image = np.zeros((4, 4, 3), np.uint8)
    one_channel = image.copy()
    one_channel[..., 2] = 30  # MSE 300: a mean of the channels' own PSNR would be infinite
    assert psnr(image, one_channel) == pytest.approx(10 * math.log10(255**2 / 300))


def test_identical_pictures(photo):
    assert psnr(photo, photo.copy()) == math.inf
    assert ms_ssim(photo, photo.copy()) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(photo[..., 0], photo[..., 0].copy()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
@pytest.mark.parametrize(
    "spoil, remedy",
    [
        (lambda x: x / 255, "uint8"),
        (lambda x: x.tolist(), "uint8"),
        (lambda x: x[:-1], "crop"),
        (lambda x: x[..., 0], "shape"),
        (lambda x: x[None], "batch"),
        (lambda x: np.concatenate([x, x[..., :1]], axis=2), "alpha"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(metric, spoil, remedy, photo):
    with pytest.raises(ValueError, match=remedy):
        metric(photo, spoil(photo))


def test_ms_ssim_falls_with_noise_and_stays_below_one(photo):
    values = [ms_ssim(photo, noisy(photo, amount)) for amount in (2, 8, 32)]
    assert 1 > values[0] > values[1] > values[2] > 0
    assert 0.99 < values[0]  # noise of two levels cannot be seen


def test_ms_ssim_of_one_plane_is_that_of_three_equal_ones(photo):
    plane, other = photo[..., 1], noisy(photo, 12)[..., 1]
    three = ms_ssim(np.stack([plane] * 3, axis=2), np.stack([other] * 3, axis=2))
    assert ms_ssim(plane, other) == pytest.approx(three, abs=1e-9)


def test_ms_ssim_needs_161_pixels(photo):
    assert ms_ssim(photo[:161, :161], photo[:161, :161]) == pytest.approx(1)
    with pytest.raises(ValueError, match="161.*240x160.*larger"):
        ms_ssim(photo[:160], photo[:160])


def test_detail_is_the_mean_slope_of_the_luma(photo):
    ramp = np.repeat(np.arange(0, 120, 3, dtype=np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    assert detail(ramp) == pytest.approx(3)
    assert detail(ramp.transpose(1, 0, 2)) == pytest.approx(3)
    assert detail(255 - ramp) == pytest.approx(3), "a step down counts as one up"
    assert detail(np.full((5, 7, 3), 80, np.uint8)) == 0
    assert detail(noisy(photo, 9)) > detail(photo)


def test_bits_per_pixel():
    assert bits_per_pixel(49_152, 768, 512) == 1.0
    assert bits_per_pixel(0, 1, 1) == 0
    for wrong in ((-1, 8, 8), (9, 0, 8), (9, 8, 0)):
        with pytest.raises(ValueError):
            bits_per_pixel(*wrong)


def test_bd_rate_of_a_curve_against_itself_is_zero():
    assert bd_rate(RATES, DECIBELS, RATES, DECIBELS) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0])
def test_bd_rate_of_a_scaled_rate_is_the_scale(factor):
    assert bd_rate(RATES, DECIBELS, factor * RATES, DECIBELS) == pytest.approx(100 * (factor - 1))


def test_bd_rate_is_a_mean_over_the_shared_range():
    """log-rate linear in dB, the test curve 10 % cheaper at the foot and 30 % at the top: an exact integral."""
    saving = np.linspace(np.log(0.9), np.log(0.7), 4)
    expected = 100 * (np.exp(saving.mean()) - 1)
    assert bd_rate(RATES, DECIBELS, RATES * np.exp(saving), DECIBELS) == pytest.approx(expected)


def test_bd_rate_takes_points_in_any_order_and_number():
    shuffled = [2, 0, 3, 1]
    more_db = np.linspace(26, 35, 7)
    more_rates = 0.5 * 0.1 * 2 ** ((more_db - 26) / 3)
    assert bd_rate(RATES[shuffled], DECIBELS[shuffled], more_rates[::-1], more_db[::-1]) == pytest.approx(-50)


def test_bd_rate_does_not_swing_out_between_uneven_points():
    """98 % of the range lies between points of 0.20 and 0.21 bpp: so must the mean rate. A cubic says 0.002."""
    uneven_db = np.array([26.0, 26.1, 34.9, 35.0])
    uneven = np.array([0.1, 0.2, 0.21, 0.8])
    mean_rate = np.sqrt(0.1 * 0.8)
    assert 0.19 / mean_rate < 1 + bd_rate(RATES, DECIBELS, uneven, uneven_db) / 100 < 0.22 / mean_rate


@pytest.mark.parametrize(
    "bpp, psnr_db, remedy",
    [
        (RATES[:3], DECIBELS[:3], "3 points: measure at 4"),
        (RATES, DECIBELS[:3], "one of each"),
        (RATES, [26, 29, 28, 35], "does not rise"),
        (RATES, [26, 29, 29, 35], "does not rise"),
        ([0.1, 0.2, 0.2, 0.8], DECIBELS, "does not rise"),
        ([0.0, 0.2, 0.4, 0.8], DECIBELS, "drop those points"),
        (RATES, [26, 29, 32, math.inf], "drop those points"),
        (RATES, [26, 29, math.nan, 35], "drop those points"),
        (RATES, DECIBELS + 20, "measure more points"),
        (RATES, DECIBELS + 5, "at least half"),
    ],
)
def test_bd_rate_refuses_what_is_no_comparison(bpp, psnr_db, remedy):
    with pytest.raises(ValueError, match=remedy):
        bd_rate(RATES, DECIBELS, bpp, psnr_db)
    with pytest.raises(ValueError, match=remedy):
        bd_rate(bpp, psnr_db, RATES, DECIBELS)


def test_bd_rate_accepts_a_short_curve_within_a_wide_anchor():
    wide_db = np.linspace(20, 50, 31)
    wide = 0.1 * 2 ** ((wide_db - 26) / 3)
    assert bd_rate(wide, wide_db, RATES * 0.8, DECIBELS) == pytest.approx(-20)
