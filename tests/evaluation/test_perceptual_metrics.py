"""LPIPS, DISTS and the patch Frechet distance, as their definitions ask."""

import numpy as np
import pytest
import scipy.linalg
from conftest import blurred

from ganlib.evaluation import metrics


@pytest.fixture
def crop(photo):
    return photo[:200, :240]


def test_lpips_sees_more_where_more_is_lost(crop):
    values = [metrics.lpips(crop, blurred(crop, side)) for side in (1, 2, 4, 8)]
    assert values[0] == 0 and (np.diff(values) > 0.05).all()


def test_one_plane_is_three_equal_ones(crop):
    gray = crop[..., 1].copy()
    other = blurred(crop)[..., 1].copy()
    three = [np.repeat(plane[..., None], 3, axis=2) for plane in (gray, other)]
    assert metrics.lpips(gray, other) == pytest.approx(metrics.lpips(*three), abs=1e-6)


@pytest.mark.parametrize("measure", [metrics.lpips, metrics.dists])
@pytest.mark.parametrize(
    "spoil, remedy",
    [(lambda x: x / 255, "uint8"), (lambda x: x[:-1], "crop"), (lambda x: x[None], "batch")],
)
def test_what_would_give_a_wrong_number_is_refused(measure, spoil, remedy, crop):
    with pytest.raises(ValueError, match=remedy):
        measure(crop, spoil(crop))


@pytest.mark.parametrize("measure", [metrics.lpips, metrics.dists, lambda a, b: metrics.patch_features(a)])
def test_small_pictures_are_refused(measure, crop):
    with pytest.raises(ValueError, match="64 pixels"):
        measure(crop[:63], crop[:63])


def test_dists_is_a_distance(crop):
    other = blurred(crop)
    assert metrics.dists(crop, crop) == pytest.approx(0, abs=1e-4)
    assert metrics.dists(crop, other) == pytest.approx(metrics.dists(other, crop), abs=1e-5)
    assert metrics.dists(crop, blurred(crop, 8)) > metrics.dists(crop, other) > 0.001


def test_a_patch_is_seen_alone(crop):
    features = metrics.patch_features(crop)
    assert features.shape == (3 * 3, 512)  # 200x240 pixels hold three rows of three, the rest is left out
    assert np.allclose(features[4], metrics.patch_features(crop[64:128, 64:128])[0], rtol=1e-4, atol=1e-6)


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2000, 12)) @ rng.normal(size=(12, 12)) + rng.normal(size=12) for _ in range(2)]


def test_frechet_distance_agrees_with_its_definition(clouds):
    a, b = clouds
    c_a, c_b = (np.cov(cloud.T) for cloud in clouds)
    root = scipy.linalg.sqrtm(c_a @ c_b).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(c_a + c_b - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert metrics.frechet_distance(a, b) == pytest.approx(metrics.frechet_distance(b, a), rel=1e-9)


def test_frechet_distance_pairs_nothing(clouds):
    a, _ = clouds
    assert metrics.frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(a, a + 3) == pytest.approx(12 * 9)


def test_frechet_distance_of_few_patches_is_refused(clouds):
    with pytest.raises(ValueError, match="1024 or more"):
        metrics.frechet_distance(clouds[0], clouds[1][:1023])
