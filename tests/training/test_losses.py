"""What training minimizes: each loss beside its formula, and what it must not notice."""

import numpy as np
import pytest
import torch

from ganlib.config import ModelConfig
from ganlib.training.losses import (
    balance,
    discriminator_loss,
    distortion,
    estimated_bits_per_pixel,
    grid_artifact_penalty,
    mean_squared_error,
    non_saturating_loss,
    psnr_from_mse,
    rate_distortion,
)


def test_balanced_distortion_is_its_formula_and_a_part_of_stage_ones_loss():
    lam, mse = torch.tensor([0.0008, 0.005, 0.03]), torch.tensor([2e-3, 1e-3, 3e-4])
    assert balance(lam).tolist() == pytest.approx([2.5, 1.0, (1 / 6) ** 0.5])
    lowest, highest = balance(torch.tensor([ModelConfig().lambda_low, ModelConfig().lambda_high])).tolist()
    assert lowest / highest == pytest.approx(27, abs=0.5)
    assert distortion(mse, lam).tolist() == pytest.approx([0.26010, 0.325125, 0.238917], rel=1e-4)
    assert distortion(mse, lam).mean().item() == pytest.approx(rate_distortion(0 * mse, mse, lam).item())


def test_a_discriminator_that_cannot_tell_loses_2_log_2():
    undecided = torch.zeros(3, 1, 8, 8)
    for realism in ([1.0, 1.0, 1.0], [0.0, 0.2, 1.0], [0.01, 0.0, 0.0]):
        loss = discriminator_loss(undecided, undecided, torch.tensor(realism))
        assert loss.item() == pytest.approx(2 * np.log(2), rel=1e-4)


def test_cross_entropies_agree_with_their_formulas():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(scale=3, size=(2, 3, 1, 4, 5))
    realism = np.array([0.3, 1.0, 0.0])

    def probability(logits):
        return 1 / (1 + np.exp(-logits))

    each = [-np.log(probability(real[i])).mean() - np.log(1 - probability(fake[i])).mean() for i in range(3)]
    expected = (0.3 * each[0] + 1.0 * each[1]) / 1.3
    loss = discriminator_loss(*(torch.from_numpy(a) for a in (real, fake, realism)))
    assert loss.item() == pytest.approx(expected)
    expected_each = [-np.log(probability(fake[i])).mean() for i in range(3)]
    assert non_saturating_loss(torch.from_numpy(fake)).tolist() == pytest.approx(expected_each)


def test_discriminator_ignores_images_at_realism_0():
    real, fake = torch.randn(2, 4, 1, 8, 8)
    real.requires_grad_(), fake.requires_grad_()
    realism = torch.tensor([0.0, 1.0, 0.0, 0.5])
    loss = discriminator_loss(real, fake, realism)
    loss.backward()
    for logits in (real, fake):
        assert [bool(g.any()) for g in logits.grad] == [False, True, False, True]
    counted = realism > 0
    assert loss.item() == pytest.approx(discriminator_loss(real[counted], fake[counted], realism[counted]).item())
    nothing = discriminator_loss(real, fake, torch.zeros(4))
    assert nothing.item() == 0.0


def test_adversaries_pull_the_verdict_in_opposite_directions():
    real, fake = torch.randn(2, 2, 1, 8, 8)
    real.requires_grad_(), fake.requires_grad_()
    ones = torch.ones(2)
    up, down = torch.autograd.grad(discriminator_loss(real, fake, ones), (real, fake))
    (lift,) = torch.autograd.grad(non_saturating_loss(fake).sum(), fake)
    assert (up < 0).all() and (down > 0).all() and (lift < 0).all()  # a step goes against its gradient


def test_the_non_saturating_loss_is_steep_where_the_discriminator_is_sure_and_finite_everywhere():
    fake = torch.tensor([-1000.0, -20.0, 20.0, 1000.0]).reshape(4, 1, 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(non_saturating_loss(fake).sum(), fake)
    assert slope.flatten().tolist() == pytest.approx([-1, -1, 0, 0], abs=1e-6)
    assert torch.isfinite(discriminator_loss(fake, -fake, torch.ones(4)))


def test_the_grid_penalty_tells_a_grid_from_noise_at_any_strength():
    torch.manual_seed(0)
    zero = torch.zeros(1, 3, 512, 512)
    pattern = torch.randn(3, 16, 16)
    pattern -= pattern.mean(dim=(1, 2), keepdim=True)
    grid, noise = pattern.repeat(1, 1, 32, 32), torch.randn_like(zero)
    for strength in (0.03, 1.0):
        assert grid_artifact_penalty(strength * grid, zero).item() == pytest.approx(16, rel=0.03)
        assert grid_artifact_penalty(strength * noise, zero).item() == pytest.approx(1, rel=0.05)
    between = grid_artifact_penalty(0.1 * grid + 0.1 * noise, zero).item()
    assert 6 < between < 11
    assert grid_artifact_penalty(0.0001 * grid, zero).item() < 0.1  # far below a level of an 8-bit pixel


def test_the_grid_penalty_leaves_out_colours_and_what_lies_in_other_squares():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 128, 192)
    colours = torch.randn(2, 3, 8, 12).repeat_interleave(16, 2).repeat_interleave(16, 3)
    assert grid_artifact_penalty(x + colours, x).max().item() < 1e-3
    cell = torch.randn(3, 16, 16)
    one_square = x.clone()
    one_square[0, :, :64, :64] += (cell - cell.mean(dim=(1, 2), keepdim=True)).repeat(1, 4, 4)
    # one square of six, in one image
    assert grid_artifact_penalty(one_square, x).tolist() == pytest.approx([16 / 6, 0], rel=1e-3)


def test_balanced_loss_weighs_every_quality_alike():
    lambda_weight = torch.tensor([ModelConfig().lambda_low, ModelConfig().lambda_high])
    # at the optimum rate and distortion grow as sqrt(lambda)
    bpp, mse = 5 * lambda_weight.sqrt(), 5 / lambda_weight.sqrt() / 255**2
    each = [rate_distortion(bpp[i : i + 1], mse[i : i + 1], lambda_weight[i : i + 1]) for i in (0, 1)]
    assert each[0] == pytest.approx(each[1].item(), rel=1e-5)


def test_rate_and_psnr_agree_with_their_formulas():
    likelihoods = {"y": torch.full((2, 3, 4, 4), 0.25), "z": torch.full((2, 1, 1, 1), 0.5)}
    assert estimated_bits_per_pixel(likelihoods, 97).tolist() == pytest.approx([1.0, 1.0])
    x = torch.zeros(1, 3, 8, 8)
    assert psnr_from_mse(mean_squared_error(x + 0.1, x)).item() == pytest.approx(20.0, abs=1e-3)
    assert psnr_from_mse(torch.tensor([0.0, 25.5**2]), peak=255).tolist() == pytest.approx([100, 20], abs=1e-3)
