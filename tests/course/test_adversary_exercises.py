"""The exercises of notebook 04."""

import pytest
import torch
from conftest import solutions, stub
from torch.nn.functional import mse_loss, softplus

from ganlib.course.exercises.adversary import check_discriminator_step, check_generator_step, check_train

SOLVED = solutions("04_adversarial_training")


def discriminator_variant(detach=True, zero=True, step=True, sign=1):
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
    assert check_discriminator_step(discriminator_variant())
    assert check_discriminator_step(stub).state == "to do"
    assert "detached" in check_discriminator_step(discriminator_variant(detach=False)).message
    assert "second step" in check_discriminator_step(discriminator_variant(zero=False)).message
    assert "not moved" in check_discriminator_step(discriminator_variant(step=False)).message
    assert check_discriminator_step(discriminator_variant(sign=-1)).state == "not yet"


def test_a_discriminator_left_frozen_is_found():
    def frozen(discriminator, optimizer, x, x_hat):
        loss = SOLVED.discriminator_step(discriminator, optimizer, x, x_hat)
        discriminator.requires_grad_(False)
        return loss

    assert "frozen" in check_discriminator_step(frozen).message


def non_saturating(logits):
    return softplus(-logits).mean()


def generator_variant(adversarial=non_saturating, zero=True, frozen=True, thaw=True, everything=False, step=True):
    def generator_step(generator, discriminator, optimizer, x, y_hat, weight):
        if zero:
            optimizer.zero_grad()
        if frozen:
            discriminator.requires_grad_(False)
        x_hat = generator(y_hat)
        loss = mse_loss(x_hat, x) + weight * adversarial(discriminator(x_hat))
        loss.backward()
        if thaw:
            discriminator.requires_grad_(True)
        if everything:
            torch.optim.SGD(discriminator.parameters(), lr=0.1).step()
        if step:
            optimizer.step()
        return loss

    return generator_step


def test_generator_step():
    assert check_generator_step(SOLVED.generator_step)
    assert check_generator_step(generator_variant())
    assert check_generator_step(stub).state == "to do"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frozen": False}, "left in the discriminator"),
        ({"thaw": False}, "left frozen"),
        ({"zero": False}, "second step"),
        ({"step": False}, "not moved"),
        ({"frozen": False, "everything": True}, "discriminator has moved"),
        ({"adversarial": lambda t: -torch.log(torch.sigmoid(t)).mean()}, "about -200"),  # infinite there
        ({"adversarial": lambda t: -torch.log(torch.sigmoid(t) + 1e-8).mean()}, "the loss"),
        ({"adversarial": lambda t: -softplus(t).mean()}, "the loss"),  # log(1 - D), which saturates
        ({"adversarial": lambda t: softplus(-t).sum()}, "the loss"),
    ],
)
def test_a_wrong_generator_step_is_found(change, message):
    verdict = check_generator_step(generator_variant(**change))
    assert verdict.state == "not yet" and message in verdict.message


def train_variant(d_step=SOLVED.discriminator_step, g_step=SOLVED.generator_step, generator_first=False, keep=99):
    def train(generator, discriminator, g_optimizer, d_optimizer, batches, weight):
        losses = []
        for x, y_hat in batches[:keep]:
            if generator_first:
                g_loss = g_step(generator, discriminator, g_optimizer, x, y_hat, weight)
            d_loss = d_step(discriminator, d_optimizer, x, generator(y_hat))
            if not generator_first:
                g_loss = g_step(generator, discriminator, g_optimizer, x, y_hat, weight)
            losses.append((d_loss, g_loss))
        return losses

    return train


def test_train():
    assert check_train(SOLVED.train)
    assert check_train(train_variant())
    # gradients that the generator's update leaves in the discriminator do no harm where the next one begins at zero
    assert check_train(train_variant(g_step=generator_variant(frozen=False)))
    assert check_train(stub).state == "to do"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"generator_first": True}, "discriminator first"),
        ({"keep": 2}, "3 batches"),
        ({"d_step": lambda *args: 1.386}, "discriminator has not moved"),
        ({"g_step": lambda *args: 1.0}, "generator has not moved"),
        ({"d_step": discriminator_variant(zero=False)}, "batch"),
        ({"d_step": discriminator_variant(detach=False), "g_step": generator_variant(zero=False)}, "batch"),
        ({"g_step": generator_variant(thaw=False)}, ""),
    ],
)
def test_a_wrong_loop_is_found(change, message):
    verdict = check_train(train_variant(**change))
    assert verdict.state == "not yet" and message in verdict.message


def test_a_loop_that_returns_something_else_is_told_so():
    assert "a list with a pair for each" in check_train(lambda *args: SOLVED.train(*args)[0]).message
    assert "not the two losses" in check_train(lambda *args: [sum(pair) for pair in SOLVED.train(*args)]).message
