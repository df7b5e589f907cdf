"""Checks of notebook 04: why the mean pays best, the generator's loss, and a step of the discriminator."""

import numpy as np
import torch
from torch.nn.functional import softplus

from ganlib.course.exercises import NotYet, compare, exercise, given


@exercise("the mean. It is none of the pictures, and no photograph looks like it.")
def check_best_guess(answer):
    """Against the mean of random pictures."""
    pictures = np.random.default_rng(0).random((5, 4, 6, 3))
    guess = np.asarray(given(answer(pictures)))
    if guess.shape == pictures.shape[1:]:
        error, least = (np.mean((pictures - g) ** 2) for g in (guess, pictures.mean(axis=0)))
        if error > least * (1 + 1e-9):
            raise NotYet(f"its expected squared error is {error:.4f}, and {least:.4f} can be had")
    compare(guess, pictures.mean(axis=0), "the guess")


@exercise("softplus(-logit). Its slope is -1 where the discriminator is sure: there is always something to learn.")
def check_non_saturating(answer):
    """Against softplus, in value and slope, also far out."""
    for logits in (torch.linspace(-4, 4, 9), torch.tensor([-200.0, 0.0]), torch.tensor([[200.0], [-1.0]])):
        logits = logits.requires_grad_(True)
        loss = given(answer(logits))
        what = f"the loss of {logits.detach().flatten().tolist()}"
        if not torch.is_tensor(loss):
            raise NotYet(f"{what} is a {type(loss).__name__}, not a tensor: it must carry a gradient")
        compare(loss.detach(), softplus(-logits).mean().detach(), what, tolerance=1e-4)
        (slope,) = torch.autograd.grad(loss, logits)
        compare(slope, -torch.sigmoid(-logits).detach() / logits.numel(), f"the slope of {what}", tolerance=1e-4)


def _adversaries():
    torch.manual_seed(0)
    generator, discriminator = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 1, 4, stride=4)
    return generator, discriminator, torch.rand(4, 3, 16, 16)


def _one_step(step, times=1):
    """Weights of the discriminator after so many steps, the loss, and the generator."""
    generator, discriminator, x = _adversaries()
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.1)
    for _ in range(times):
        loss = step(discriminator, optimizer, x, generator(0.5 * x))
    return [p.detach().clone() for p in discriminator.parameters()], loss, generator, discriminator


def _reference(discriminator, optimizer, x, x_hat):
    optimizer.zero_grad()
    loss = softplus(-discriminator(x)).mean() + softplus(discriminator(x_hat.detach())).mean()
    loss.backward()
    optimizer.step()
    return loss


@exercise("zero, detach, backward, step. The generator's own step will freeze the discriminator in turn.")
def check_discriminator_step(answer):
    """Against the reference: the same weights after one step and after two, no gradient in the generator."""
    start = [p.detach() for p in _adversaries()[1].parameters()]
    weights, loss, generator, discriminator = _one_step(answer)
    given(loss)
    if any(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters()):
        raise NotYet("a gradient has reached the generator: x_hat must be detached")
    if any(not p.requires_grad for p in discriminator.parameters()):
        raise NotYet("the discriminator is left frozen: it could never learn again")
    if all(torch.equal(p, q) for p, q in zip(weights, start)):
        raise NotYet("the discriminator has not moved: where is the optimizer's step?")
    expected, expected_loss, *_ = _one_step(_reference)
    compare(torch.as_tensor(loss).detach(), expected_loss.detach(), "the loss", tolerance=1e-4)
    for value, oracle in zip(weights, expected):
        compare(value, oracle, "a weight after one step", tolerance=1e-5)
    for value, oracle in zip(_one_step(answer, 2)[0], _one_step(_reference, 2)[0]):
        if not torch.allclose(value, oracle, atol=1e-5):
            raise NotYet("the second step is not right: are the gradients of the first still there?")
