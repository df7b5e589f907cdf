"""The networks: shapes, the transform they start from, and what tiling will rely on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganlib.config import PRESETS, STRIDE, ModelConfig, preset
from ganlib.model.compression_model import CompressionModel, macs_per_pixel
from ganlib.model.encoder import FeatureEncoder
from ganlib.model.entropy_model import (
    LIKELIHOOD_MIN,
    SCALES,
    EntropyModel,
    FactorizedPrior,
    context_input,
    gaussian_likelihood,
    index_to_scale,
)
from ganlib.model.generator import Generator
from ganlib.model.integer_layers import ExactConv2d, clamp
from ganlib.model.layers import PatchConvTranspose2d, dct_basis
from ganlib.training.losses import estimated_bits_per_pixel, mean_squared_error, psnr_from_mse, rate_distortion


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CompressionModel(preset("tiny"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_the_shapes_it_promises(name):
    model = CompressionModel(preset(name))
    x = torch.rand(2, 3, 64, 128)
    out = model(x, torch.tensor([0.0, 100.0]), torch.tensor([0.0, 1.0]))
    channels = model.config.latent_channels
    assert out["x_hat"].shape == x.shape
    assert out["y_hat"].shape == out["likelihoods"]["y"].shape == (2, channels, 4, 8)
    assert out["likelihoods"]["z"].shape == (2, model.config.hyper_channels, 1, 2)
    assert all(((p > 0) & (p <= 1)).all() for p in out["likelihoods"].values())


def test_light_keeps_its_promise_of_complexity():
    counts = macs_per_pixel(CompressionModel(preset("light")))
    assert 5000 < counts["g_a"] <= 15_000 and 10_000 < counts["g_s"] <= 30_000 and 1000 < counts["entropy"] <= 6000


def test_macs_are_counted_right():
    config = ModelConfig(
        encoder_widths=(8,), encoder_blocks=(0,), generator_widths=(8,), generator_blocks=(0,),
        latent_channels=16, slices=(16,),
    )  # fmt: skip
    # PixelUnshuffle(16), conv 3x3 768->8, conv 1x1 8->16, and the 16x16 shortcut 3->16, all at 1/256 of the pixels
    expected = (768 * 8 * 9 + 8 * 16 + 3 * 256 * 16) / 256
    assert macs_per_pixel(CompressionModel(config))["g_a"] == pytest.approx(expected)


def test_macs_of_a_new_layer_are_counted():
    """Whatever its class: a product with a matrix that is no layer of torch.nn."""

    class Mix(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.eye(channels))

        def forward(self, y):
            return torch.einsum("bchw,cd->bdhw", y, self.weight)

    model = CompressionModel(preset("tiny"))
    before, latents = macs_per_pixel(model), model.config.latent_channels
    model.g_a = torch.nn.Sequential(model.g_a, Mix(latents))
    after = macs_per_pixel(model)
    assert after["g_a"] == pytest.approx(before["g_a"] + latents**2 / STRIDE**2)
    assert after["g_s"] == before["g_s"] and after["entropy"] == before["entropy"]


@pytest.mark.parametrize("name", PRESETS)
def test_macs_are_half_of_what_pytorch_counts_as_flops(name):
    """But for what coding computes at half of the positions, which training computes everywhere."""
    model = CompressionModel(preset(name))
    for layer in model.modules():
        if isinstance(layer, ExactConv2d):
            layer.share = 1
    one = torch.ones(1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 3, 128, 64), one, one)
    flops = counter.get_flop_counts()
    for part, macs in macs_per_pixel(model).items():
        # Linear layers, once an image, weigh less where the image is larger
        assert macs == pytest.approx(sum(flops[f"CompressionModel.{part}"].values()) / 2 / (128 * 64), rel=0.01)


def test_all_frequencies_of_the_transform_rebuild_the_image(photo):
    x = torch.from_numpy(photo[:64, :64].copy()).permute(2, 0, 1)[None].float() / 255
    for channels, least in ((128, 24), (256, 26)):
        analysis, synthesis = dct_basis(channels)
        y = torch.nn.functional.conv2d(x, analysis, stride=16)
        x_hat = torch.nn.functional.conv_transpose2d(y, synthesis, stride=16)
        assert psnr_from_mse(mean_squared_error(x_hat, x))[0] > least
    # analysis and synthesis are inverse on their span
    product = torch.einsum("ichw,jchw->ij", *(b.double() for b in dct_basis(128)))
    assert torch.allclose(product, torch.eye(128, dtype=torch.float64), atol=1e-6)


def test_patches_side_by_side_are_pytorchs_transposed_convolution():
    torch.manual_seed(0)
    layer = PatchConvTranspose2d(5, 3, 4)
    y = torch.randn(2, 5, 3, 7)
    results = []
    for forward in (layer.forward, lambda y: nn.ConvTranspose2d.forward(layer, y)):
        layer.zero_grad()
        x = forward(y)
        x.square().sum().backward()
        results.append((x, layer.weight.grad.clone()))
    assert results[0][0].shape == (2, 3, 12, 28)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*results))


def test_transform_agrees_with_scipy():
    from scipy.fft import dctn

    analysis, _ = dct_basis(128)
    block = np.random.default_rng(0).random((16, 16))
    gray = torch.from_numpy(np.stack([block] * 3)).float()
    coefficients = dctn(block, norm="ortho")
    # the first filter is the mean of luma, the next two its lowest frequencies
    values = torch.einsum("ichw,chw->i", analysis, gray)
    assert values[0] == pytest.approx(coefficients[0, 0], rel=1e-4)
    assert {round(float(abs(v)), 3) for v in values[1:8]} >= {round(abs(coefficients[0, 1]), 3)}


def test_no_layer_looks_across_the_image(model):
    """Tiling needs this: a pixel far away changes nothing, in either direction."""
    x = torch.rand(1, 3, 256, 256)
    far = x.clone()
    far[:, :, 200:, 200:] = 0
    one = torch.tensor([50.0])
    with torch.no_grad():
        a, b = model.g_a(x), model.g_a(far)
        assert torch.equal(a[..., :6, :6], b[..., :6, :6]) and not torch.equal(a, b)
        a, b = model.g_s(a, one, one * 0), model.g_s(b, one, one * 0)
        assert torch.equal(a[..., :48, :48], b[..., :48, :48]) and not torch.equal(a, b)


@pytest.mark.parametrize(
    "left_out", [(), ("hyperprior",), ("checkerboard",), ("hyperprior", "checkerboard")], ids=str
)
def test_every_weight_is_reached_by_the_loss(left_out):
    torch.manual_seed(0)
    model = CompressionModel(replace(preset("tiny"), **dict.fromkeys(left_out, False)))
    assert ("h_a" in dict(model.entropy.named_children())) == ("hyperprior" not in left_out)
    assert len(model.entropy.contexts) == len(model.config.slices) * (1 if "checkerboard" in left_out else 2)
    x, quality = torch.rand(2, 3, 64, 64), torch.tensor([20.0, 70.0])
    out = model.train()(x, quality, torch.rand(2))
    bpp = estimated_bits_per_pixel(out["likelihoods"], 64 * 64)
    rate_distortion(bpp, mean_squared_error(out["x_hat"], x), model.config.lambda_weight(quality)).backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None}
    assert not untouched
    # zero at the start only behind FiLM, whose own weights begin at zero
    still = {name for name, p in model.named_parameters() if not p.grad.any()}
    assert all(name.startswith("g_s.condition") for name in still)


def test_gain_is_interpolated_between_its_points(model):
    points = model.config.gain_points
    at_points = model.gain(torch.linspace(0, 100, points))[..., 0, 0]
    assert torch.allclose(at_points, model.log_gain.exp())
    middle = model.gain(torch.tensor([1.5 * 100 / (points - 1)]))[0, :, 0, 0]
    assert torch.allclose(middle, (model.log_gain[1] + model.log_gain[2]).div(2).exp())


@pytest.mark.parametrize("scale", [0.11, 1.0, 30.0])
def test_likelihood_is_the_gaussians_own(scale):
    distance = torch.linspace(-4, 4, 41, dtype=torch.float64)
    normal = stats.norm(scale=scale)
    expected = normal.cdf(distance + 0.5) - normal.cdf(distance - 0.5)
    assert np.allclose(
        gaussian_likelihood(distance, torch.tensor(scale)), np.maximum(expected, LIKELIHOOD_MIN), atol=1e-7
    )


def test_likelihood_does_not_lose_its_digits_in_the_tail():
    far = gaussian_likelihood(torch.tensor([5.0]), torch.tensor([1.0]))
    assert far.item() == pytest.approx(stats.norm.cdf(-4.5) - stats.norm.cdf(-5.5), rel=1e-2)


def test_prior_is_a_distribution():
    torch.manual_seed(0)
    prior = FactorizedPrior(4)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(torch.randn_like(p))
        total = prior(torch.arange(-300.0, 301).expand(1, 4, 1, -1)).sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-3)


def test_scales_span_the_table():
    scales = index_to_scale(torch.arange(float(SCALES)))
    assert scales[0] == pytest.approx(0.11, rel=1e-4) and scales[-1] == pytest.approx(64, rel=1e-4)
    ratios = scales[1:] / scales[:-1]
    assert ratios.max() / ratios.min() < 1.001


@pytest.mark.parametrize("knee", [1, 20, 32, 64])
def test_contexts_see_latents_up_to_256_less_three_knees(knee):
    furthest = 256 - 3 * knee
    assert context_input(torch.tensor([furthest, furthest + 1.0, -1e4]), knee).tolist() == [4, 4, -4]
    assert context_input(torch.tensor([furthest - 1.0, 1.0 - furthest]), knee).abs().max() < 4
    assert context_input(torch.tensor(float(knee)), knee) == knee / 16


def test_clamp_lets_the_gradient_back_inside():
    x = torch.tensor([-1.0, -1.0, 0.5, 2.0, 2.0], requires_grad=True)
    upstream = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    (clamp(x, 0.0, 1.0) * upstream).sum().backward()
    assert x.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]


def test_estimate_needs_no_noise_in_evaluation_and_noise_in_training(model):
    y, q = torch.randn(1, 32, 8, 8), torch.tensor([50.0])
    entropy: EntropyModel = model.entropy
    with torch.no_grad():
        assert torch.equal(entropy.eval()(y, q)[1]["y"], entropy(y, q)[1]["y"])
        assert not torch.equal(entropy.train()(y, q)[1]["y"], entropy(y, q)[1]["y"])


def test_slices_see_only_those_before_them(model):
    """Causality: the decoder does not know slice 2 when it decodes slice 1."""
    y, q = torch.randn(1, 32, 4, 4) * 5, torch.tensor([50.0])
    entropy = model.entropy.eval()
    changed = y.clone()
    changed[:, 16:] += 7  # third slice
    with torch.no_grad():
        entropy.h_a.forward, keep = (lambda _: torch.zeros(1, 8, 1, 1)), entropy.h_a.forward
        a, b = entropy(y, q)[1]["y"], entropy(changed, q)[1]["y"]
        entropy.h_a.forward = keep
    assert torch.equal(a[:, :16], b[:, :16]) and not torch.equal(a[:, 16:], b[:, 16:])


def test_non_anchors_see_the_anchors_and_not_themselves(model):
    """Causality within a slice: a change at a non-anchor moves nothing else, one at an anchor its four neighbours."""
    y, q = torch.randn(1, 32, 4, 4) * 5, torch.tensor([50.0])
    entropy = model.entropy.eval()

    def moved(row, column):
        """4,4: where y_hat of the first slice changes when y does at one position."""
        changed = y.clone()
        changed[:, :8, row, column] += 7
        with torch.no_grad():
            entropy.h_a.forward, keep = (lambda _: torch.zeros(1, 8, 1, 1)), entropy.h_a.forward
            a, b = entropy(y, q)[0], entropy(changed, q)[0]
            entropy.h_a.forward = keep
        return (a != b)[0, :8].any(dim=0)

    assert moved(1, 2).nonzero().tolist() == [[1, 2]]  # a non-anchor: itself alone
    cross = torch.zeros(4, 4, dtype=torch.bool)
    cross[[1, 0, 1, 1, 2], [1, 1, 0, 2, 1]] = True
    assert torch.equal(moved(1, 1), cross)  # an anchor: itself, and the means of the non-anchors beside it


def test_realism_and_quality_reach_the_generator():
    torch.manual_seed(1)
    g_s = Generator(preset("tiny"))
    with torch.no_grad():
        for block in g_s.modules():
            if getattr(block, "film", None) is not None:
                torch.nn.init.normal_(block.film.weight, std=0.1)
        y, q, r = torch.randn(1, 32, 4, 4), torch.tensor([50.0]), torch.tensor([0.0])
        base = g_s(y, q, r)
        assert not torch.equal(base, g_s(y, q, r + 1)) and not torch.equal(base, g_s(y, q + 40, r))


def test_encoder_is_made_of_convolution_and_max_pooling():
    kinds = [type(layer).__name__ for layer in FeatureEncoder(preset("light")).cnn]
    assert kinds.count("MaxPool2d") == 3 and "Conv2d" in kinds
    assert not any("Norm" in type(m).__name__ for m in CompressionModel(preset("light")).modules())
