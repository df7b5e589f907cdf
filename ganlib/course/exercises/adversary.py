"""Checks of notebook 04: the discriminator's update, the generator's update, and the loop around them."""

import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from ganlib.course.exercises import NotYet, compare, exercise, given

LR = 0.1  # of plain gradient descent, whose steps are LR times the gradient
WEIGHT = 0.5  # of -log D(x_hat) beside the squared error


class Pair:
    """A generator and a discriminator of a few weights, with their optimizers; the same ones each time.

    Args:
        sure: how much the discriminator's logits are lowered: with 200 it rejects every image with certainty.
    """

    def __init__(self, sure=0.0):
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 4, stride=4)
        self.batches = [(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)) for _ in range(3)]  # x, y_hat
        with torch.no_grad():
            self.discriminator.bias -= sure
        self.networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.optimizers = {name: torch.optim.SGD(net.parameters(), lr=LR) for name, net in self.networks.items()}

    def weights(self, name):
        """Copies of a network's weights."""
        return [p.detach().clone() for p in self.networks[name].parameters()]

    def moved(self, name):
        """Do the weights of a network differ from its first ones?"""
        return any(not torch.equal(p, q) for p, q in zip(self.weights(name), Pair().weights(name)))

    def holds_gradient(self, name):
        """Is there a gradient in a network that is not zero?"""
        return any(p.grad is not None and p.grad.abs().sum() > 0 for p in self.networks[name].parameters())


def _discriminator_step(discriminator, optimizer, x, x_hat):
    """A solution of the first exercise."""
    optimizer.zero_grad()
    loss = softplus(-discriminator(x)).mean() + softplus(discriminator(x_hat.detach())).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def _generator_step(generator, discriminator, optimizer, x, y_hat, weight):
    """A solution of the second exercise."""
    optimizer.zero_grad()
    discriminator.requires_grad_(False)
    x_hat = generator(y_hat)
    loss = mse_loss(x_hat, x) + weight * softplus(-discriminator(x_hat)).mean()
    loss.backward()
    discriminator.requires_grad_(True)
    optimizer.step()
    return loss.item()


def _train(generator, discriminator, g_optimizer, d_optimizer, batches, weight):
    """A solution of the third exercise."""
    losses = []
    for x, y_hat in batches:
        d_loss = _discriminator_step(discriminator, d_optimizer, x, generator(y_hat))
        losses.append((d_loss, _generator_step(generator, discriminator, g_optimizer, x, y_hat, weight)))
    return losses


def _judge_once(step, times=1):
    """A discriminator's step on the first batch -> Pair, and what the step returned last."""
    pair = Pair()
    x, y_hat = pair.batches[0]
    for _ in range(times):
        loss = step(pair.discriminator, pair.optimizers["discriminator"], x, pair.generator(y_hat))
    return pair, loss


def _make_once(step, times=1, sure=0.0):
    """A generator's step on the first batch -> Pair, and what the step returned last."""
    pair = Pair(sure)
    for _ in range(times):
        batch = pair.batches[0]
        loss = step(pair.generator, pair.discriminator, pair.optimizers["generator"], *batch, WEIGHT)
    return pair, loss


def _number(loss, what):
    """A loss, number or tensor, as a float; NotYet if it is neither."""
    try:
        return float(torch.as_tensor(given(loss)).detach())
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"{what} is a {type(loss).__name__}, not a number") from None


def _compare_weights(pair, oracle, name, when):
    for value, expected in zip(pair.weights(name), oracle.weights(name)):
        compare(value, expected, f"a weight of the {name} {when}", tolerance=1e-5)


def _second_step_is_right(pair, oracle, name):
    if not all(torch.allclose(p, q, atol=1e-5) for p, q in zip(pair.weights(name), oracle.weights(name))):
        raise NotYet("the second step is not right: are the gradients of the first step still there?")


def _left_to_learn(pair):
    for name, network in pair.networks.items():
        if any(not p.requires_grad for p in network.parameters()):
            raise NotYet(f"the {name} is left frozen, and cannot learn any more")


@exercise("zero_grad, detach, backward, step. Next, the generator's step will freeze the discriminator.")
def check_discriminator_step(answer):
    """Against the reference: the same weights after one step and after two, no gradient in the generator."""
    oracle, expected = _judge_once(_discriminator_step)  # first, since torch needs time to load at its first step
    pair, loss = _judge_once(answer)
    given(loss)
    if pair.holds_gradient("generator"):
        raise NotYet("a gradient has reached the generator: x_hat must be detached")
    _left_to_learn(pair)
    if not pair.moved("discriminator"):
        raise NotYet("the discriminator has not moved: where is the optimizer's step?")
    compare(_number(loss, "the loss"), expected, "the loss", tolerance=1e-4)
    _compare_weights(pair, oracle, "discriminator", "after one step")
    _second_step_is_right(_judge_once(answer, 2)[0], _judge_once(_discriminator_step, 2)[0], "discriminator")


@exercise("the gradient went through the discriminator without being stored there, even where D was very sure.")
def check_generator_step(answer):
    """Against the reference, also where the discriminator is very sure; it must stay unchanged."""
    oracle, expected = _make_once(_generator_step)
    pair, loss = _make_once(answer)
    given(loss)
    if pair.moved("discriminator"):
        raise NotYet("the discriminator has moved: only the generator's optimizer may make a step")
    _left_to_learn(pair)
    if pair.holds_gradient("discriminator"):
        raise NotYet("a gradient was left in the discriminator: freeze it while the generator learns")
    if not pair.moved("generator"):
        raise NotYet("the generator has not moved: does the loss reach it, and where is the optimizer's step?")
    compare(_number(loss, "the loss"), expected, "the loss", tolerance=1e-4)
    _compare_weights(pair, oracle, "generator", "after one step")
    _second_step_is_right(_make_once(answer, 2)[0], _make_once(_generator_step, 2)[0], "generator")
    (pair, loss), (oracle, expected) = (_make_once(step, sure=200.0) for step in (answer, _generator_step))
    compare(_number(loss, "the loss"), expected, "the loss, where the logits are about -200,", tolerance=1e-4)
    _compare_weights(pair, oracle, "generator", "after a step where the logits are about -200")


@exercise("discriminator, generator, discriminator, generator: each learns against the other's newest weights.")
def check_train(answer):
    """Against the reference, over three batches: the losses of both, and the weights of both in the end."""
    results = []
    for train in (_train, answer):
        pair = Pair()
        optimizers = pair.optimizers["generator"], pair.optimizers["discriminator"]
        results.append((pair, train(pair.generator, pair.discriminator, *optimizers, pair.batches, WEIGHT)))
    (oracle, expected), (pair, losses) = results
    if not isinstance(given(losses), list) or len(losses) != len(expected):
        count = len(losses) if isinstance(losses, list) else type(losses).__name__
        raise NotYet(f"there were {len(expected)} batches, it returned {count}: return a list with a pair for each")
    for name in ("generator", "discriminator"):
        if not pair.moved(name):
            raise NotYet(f"the {name} has not moved")
    _left_to_learn(pair)
    for i, (found, wanted) in enumerate(zip(losses, expected)):
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise NotYet(f"for batch {i} it returned {found!r}, not the two losses")
        for value, right, whose in zip(found, wanted, ("discriminator", "generator")):
            what = f"the {whose}'s loss in batch {i} (discriminator first, then the generator against it)"
            compare(_number(value, what), right, what, tolerance=1e-4)
    for name in ("generator", "discriminator"):
        _compare_weights(pair, oracle, name, "in the end")
