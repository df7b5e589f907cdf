"""What an eye sees: LPIPS, DISTS and the Frechet distance. VGG16 is stood in for by random weights of its shape."""

import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision

from ganlib.evaluation import measure, metrics
from ganlib.model import perceptual_networks

BLOCKS = 4  # pixels along the side of the blocks that the reference value was measured on


def blurred(pixels, side=BLOCKS):
    """Means of blocks: the same bytes on every machine."""
    height, width = (n // side for n in pixels.shape[:2])
    means = pixels.reshape(height, side, width, side, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return means.repeat(side, axis=0).repeat(side, axis=1)


@pytest.fixture
def crop(photo):
    return photo[:200, :240]


@pytest.fixture
def vgg16(monkeypatch):
    """VGG16 with random weights: half a gigabyte has no place in a test."""

    class RandomVGG16:
        def __init__(self, **_):
            torch.manual_seed(0)
            self.features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])

    monkeypatch.setattr(torchvision.models, "vgg16", RandomVGG16)
    for module in (perceptual, evaluation):
        monkeypatch.setattr(module, "has_vgg16", lambda: True)
    for load in (perceptual_networks.load_dists, perceptual_networks.load_vgg16):
        load.cache_clear()
    yield
    for load in (perceptual_networks.load_dists, perceptual_networks.load_vgg16):
        load.cache_clear()


@pytest.fixture
def no_vgg16(monkeypatch, tmp_path):
    def download(*_, **__):
        pytest.fail("a download began unasked")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for load in (perceptual_networks.load_dists, perceptual_networks.load_vgg16):
        load.cache_clear()


def test_lpips_is_that_of_the_package_with_torchvisions_weights(crop):
    """0.368366 is what lpips 0.1.4 gave with AlexNet as torchvision publishes it, in float32."""
    assert metrics.lpips(crop, blurred(crop)) == pytest.approx(0.368366, abs=5e-4)


def test_lpips_needs_no_network(crop, no_vgg16):
    perceptual_networks.load_lpips.cache_clear()
    assert metrics.lpips(crop, crop) == 0


def test_lpips_sees_more_where_more_is_lost(crop):
    values = [metrics.lpips(crop, blurred(crop, side)) for side in (1, 2, 4, 8)]
    assert values[0] == 0 and (np.diff(values) > 0.05).all()


def test_one_plane_is_three_equal_ones(crop):
    gray = crop[..., 1].copy()
    other = blurred(crop)[..., 1].copy()
    three = [np.repeat(plane[..., None], 3, axis=2) for plane in (gray, other)]
    assert metrics.lpips(gray, other) == pytest.approx(metrics.lpips(*three), abs=1e-6)


def test_lpips_passes_gradients_to_the_picture_and_to_nothing_else():
    judge = perceptual_networks.load_lpips()
    x_hat = torch.rand(1, 3, 64, 64, requires_grad=True)
    judge(x_hat, torch.rand(1, 3, 64, 64), normalize=True).sum().backward()
    assert x_hat.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in judge.parameters())


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


def test_without_vgg16_the_remedy_is_told_and_nothing_is_downloaded(crop, no_vgg16):
    for measure in (lambda: metrics.dists(crop, crop), lambda: metrics.patch_features(crop)):
        with pytest.raises(perceptual_networks.MissingNetworkError, match="fetch VGG16 once"):
            measure()


def test_dists_is_a_distance(crop, vgg16):
    other = blurred(crop)
    assert metrics.dists(crop, crop) == pytest.approx(0, abs=1e-4)
    assert metrics.dists(crop, other) == pytest.approx(metrics.dists(other, crop), abs=1e-5)
    assert metrics.dists(crop, blurred(crop, 8)) > metrics.dists(crop, other) > 0.001


def test_dists_has_its_learnt_weights_and_not_the_random_ones_of_its_constructor(vgg16):
    first = perceptual_networks.load_dists().alpha.clone()
    perceptual_networks.load_dists.cache_clear()
    assert torch.equal(first, perceptual_networks.load_dists().alpha)


def test_a_patch_is_seen_alone(crop, vgg16):
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


def test_evaluation_sees_what_the_metrics_see(codec, photo, vgg16, monkeypatch):
    monkeypatch.setattr(metrics, "PATCHES_MIN", 2)
    pictures = {"a": photo[:128, :128], "b": photo[128:256, :192]}
    table = measure.evaluate(codec, pictures, [30], realisms=(0.0, 1.0), perceptual=True, progress=False)
    assert len(table) == 4
    row = table[(table["image"] == "b") & (table["realism"] == 1)].iloc[0]
    decoded = {
        name: np.asarray(codec.decompress(codec.compress(pixels, quality=30), realism=1))
        for name, pixels in pictures.items()
    }
    assert row["lpips"] == pytest.approx(metrics.lpips(pictures["b"], decoded["b"]), abs=1e-5)
    assert row["dists"] == pytest.approx(metrics.dists(pictures["b"], decoded["b"]), abs=1e-5)
    both = [np.concatenate([metrics.patch_features(p) for p in of.values()]) for of in (pictures, decoded)]
    assert row["frechet"] == pytest.approx(metrics.frechet_distance(*both), rel=1e-4)
    means = measure.mean_curves(table, by=["realism"])
    assert means["frechet"].iloc[1] == pytest.approx(row["frechet"])


def test_evaluation_without_vgg16_leaves_out_what_it_cannot_see(codec, photo, no_vgg16):
    table = measure.evaluate(codec, {"a": photo[:128, :128]}, [30], perceptual=True, progress=False)
    assert table["lpips"].item() > 0 and table[["dists", "frechet"]].isna().all(axis=None)
    small = measure.evaluate(codec, {"a": photo[:40, :40]}, [30], perceptual=True, progress=False)
    assert small[["lpips", "dists", "frechet"]].isna().all(axis=None)


def test_equal_bytes_compares_files_of_one_size(codec, photo, no_vgg16):
    pictures = {"a": photo[:192, :192], "b": photo[192:384, :192]}
    table, kept = measure.equal_bytes(
        codec, pictures, 0.8, realisms=(0.0, 1.0), stage_one=codec, keep=["b"], progress=False
    )
    assert list(kept) == ["b"] and set(kept["b"]) == set(table["codec"])
    for _, group in table.groupby("image"):
        sizes = group.set_index("codec")["bytes"]
        assert (
            sizes["ganlib light, realism 0"] == sizes["ganlib light, realism 1"] == sizes["ganlib light, stage one"]
        )
        assert sizes["JPEG"] == pytest.approx(sizes["ganlib light, realism 0"], rel=0.05)
        assert 8 * sizes["ganlib light, realism 0"] <= 0.8 * 192 * 192
    data = codec.compress(pictures["b"], target_bpp=0.8)
    n_bytes, picture = kept["b"]["ganlib light, realism 1"]
    assert n_bytes == len(data) and (picture == np.asarray(codec.decompress(data, realism=1))).all()
    row = table[(table["image"] == "b") & (table["codec"] == "AVIF")].iloc[0]
    assert row["psnr"] == pytest.approx(metrics.psnr(pictures["b"], kept["b"]["AVIF"][1]))
