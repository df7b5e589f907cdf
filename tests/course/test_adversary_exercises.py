"""The exercises of notebook 04."""

import torch
from conftest import solutions, stub
from torch.nn.functional import softplus

from ganlib.course.exercises.adversary import check_best_guess, check_discriminator_step, check_non_saturating

SOLVED = solutions("04_adversarial_training")


def test_best_guess():
    assert check_best_guess(SOLVED.best_guess)
    assert check_best_guess(stub).state == "to do"
    assert "can be had" in check_best_guess(lambda pictures: pictures[0]).message
    assert check_best_guess(lambda pictures: pictures.mean()).state == "not yet"


def test_non_saturating():
    assert check_non_saturating(SOLVED.non_saturating)
    assert check_non_saturating(lambda t: torch.nn.functional.binary_cross_entropy_with_logits(t, torch.ones_like(t)))
    assert check_non_saturating(stub).state == "to do"
    for wrong in (
        lambda t: -torch.log(torch.sigmoid(t)).mean(),  # infinite far out
        lambda t: -softplus(t).mean(),  # log(1 - D), which saturates
        lambda t: softplus(-t).sum(),
        lambda t: softplus(-t).mean().item(),
        lambda t: -torch.log(torch.sigmoid(t) + 1e-8).mean(),
    ):
        assert check_non_saturating(wrong).state == "not yet"


def variant(detach=True, zero=True, step=True, sign=1):
    def discriminator_step(discriminator, optimizer, x, x_hat):
        if zero:
            optimizer.zero_grad()
        x_hat = x_hat.detach() if detach else x_hat
        loss = softplus(-sign * discriminator(x)).mean() + softplus(sign * discriminator(x_hat)).mean()
        loss.backward()
        if step:
            optimizer.step()
        return loss

    return discriminator_step


def test_discriminator_step():
    assert check_discriminator_step(SOLVED.discriminator_step)
    assert check_discriminator_step(variant())
    assert check_discriminator_step(stub).state == "to do"
    assert "detached" in check_discriminator_step(variant(detach=False)).message
    assert "second step" in check_discriminator_step(variant(zero=False)).message
    assert "not moved" in check_discriminator_step(variant(step=False)).message
    assert check_discriminator_step(variant(sign=-1)).state == "not yet"


def test_a_discriminator_left_frozen_is_found():
    def frozen(discriminator, optimizer, x, x_hat):
        loss = SOLVED.discriminator_step(discriminator, optimizer, x, x_hat)
        discriminator.requires_grad_(False)
        return loss

    assert "frozen" in check_discriminator_step(frozen).message
