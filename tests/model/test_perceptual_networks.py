"""AlexNet and VGG16 as shipped: the numbers of their originals, in the architectures of torchvision, offline."""

import numpy as np
import pytest
import torch
import torchvision
from conftest import blurred

from ganlib.evaluation import metrics
from ganlib.model import perceptual_networks


@pytest.fixture
def crop(photo):
    return photo[:200, :240]


@pytest.fixture
def built_anew(monkeypatch, tmp_path):
    """Every network is built again, on a machine that has no weights of others and may not fetch any."""

    def download(*_, **__):
        pytest.fail("a download began unasked")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("load_state_dict_from_url", "download_url_to_file"):
        monkeypatch.setattr(torch.hub, name, download)
    for name in ("load_lpips", "load_dists", "load_vgg16", "_vgg16_features"):
        getattr(perceptual_networks, name).cache_clear()
    yield
    assert not list(tmp_path.iterdir())


def test_lpips_is_that_of_the_package_with_torchvisions_weights(crop):
    """0.368366 is what lpips 0.1.4 gave with AlexNet as torchvision publishes it, in float32."""
    assert metrics.lpips(crop, blurred(crop)) == pytest.approx(0.368366, abs=5e-4)


@pytest.mark.parametrize("side, expected", [(2, 0.238581), (4, 0.331973), (8, 0.475386)])
def test_dists_is_that_of_the_package_with_torchvisions_weights(side, expected, crop):
    """What DISTS_pytorch 0.1 gave with VGG16 as torchvision publishes it, in float32."""
    assert metrics.dists(crop, blurred(crop, side)) == pytest.approx(expected, rel=5e-4)


def test_patch_features_are_those_of_torchvisions_weights(crop):
    """Of the crop's nine patches, with VGG16 in float32: channel 247 is the largest of the patch in the middle."""
    features = metrics.patch_features(crop)
    assert features.mean() == pytest.approx(0.154431, rel=1e-3)
    assert np.linalg.norm(features) == pytest.approx(31.9411, rel=1e-3)
    assert features[4].argmax() == 247 and features[4, 247] == pytest.approx(2.46203, rel=1e-3)


def test_vgg16_is_torchvisions_architecture(crop):
    """Its own class, with the stored weights by their own names and the normalization that comes with them."""
    with torch.device("meta"):  # the fully connected layers stay without numbers
        vgg16 = torchvision.models.vgg16(weights=None)
    weights = perceptual_networks._stored(*perceptual_networks.VGG16)
    missing, unexpected = vgg16.load_state_dict(weights, strict=False, assign=True)
    assert unexpected == [] and all(name.startswith("classifier.") for name in missing)
    asked = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    x = torch.from_numpy(crop / np.float32(255)).permute(2, 0, 1)[None]
    normalized = torchvision.transforms.functional.normalize(x, asked.mean, asked.std)
    expected = vgg16.features[:30](normalized)  # the last, 30, is a max-pooling
    assert torch.allclose(perceptual_networks.load_vgg16()(x), expected, rtol=1e-4, atol=1e-4)


def test_networks_need_no_download_and_leave_the_random_numbers_alone(crop, built_anew):
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    assert metrics.lpips(crop, crop) == 0
    assert metrics.dists(crop, crop) == pytest.approx(0, abs=1e-4)
    assert metrics.patch_features(crop).shape == (9, 512)
    assert torch.equal(torch.rand(4), expected)


def test_stored_networks_are_small_enough_for_a_repository():
    assert all(path.stat().st_size < 16 * 2**20 for path in perceptual_networks.FILES)


def test_lpips_passes_gradients_to_the_picture_and_to_nothing_else():
    judge = perceptual_networks.load_lpips()
    x_hat = torch.rand(1, 3, 64, 64, requires_grad=True)
    judge(x_hat, torch.rand(1, 3, 64, 64), normalize=True).sum().backward()
    assert x_hat.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in judge.parameters())
