"""Muon beside PyTorch's, which takes matrices alone, and vectors beside PyTorch's Adam."""

import copy
from functools import partial

import pytest
import torch

from ganlib.training.optimizer import ITERATIONS, QUINTIC, Muon, orthogonalized

LR = 0.01


def gradients(shape, count, seed=0):
    """Noise whose rows are correlated, so that some directions rule, and that changes along the way."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(shape[0], shape[0], generator=generator)
    for step in range(count):
        noise = torch.randn(*shape, generator=generator)
        yield (1 + step / 50) * torch.tensordot(mixing, noise, dims=1) + 0.3


def trajectory(optimizer, weight, gradients):
    """Values of a weight after each step."""
    values = []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        values.append(weight.detach().clone())
    return values


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (1, 20), (3, 500)])
@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_it_is_pytorchs_muon(shape, momentum):
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    oracle = torch.optim.Muon([theirs], LR, weight_decay=0.0, momentum=momentum, adjust_lr_fn="original")
    values = trajectory(Muon([ours], LR, betas=(momentum, 0.95)), ours, gradients(shape, 45))
    expected = trajectory(oracle, theirs, gradients(shape, 45))
    for step, (a, b) in enumerate(zip(values, expected)):
        assert (a - b).norm() < 0.03 * (b - 1).norm(), step  # theirs iterates in bfloat16
    assert (values[-1] - 1).abs().max() > LR


def test_singular_values_become_about_one():
    torch.manual_seed(0)
    u, v = torch.linalg.qr(torch.randn(2, 5, 6, 6)).Q
    matrices = u @ torch.diag(torch.logspace(0, -1.5, 6)) @ v
    for batch in (matrices, torch.randn(3, 8, 40), torch.randn(3, 40, 8), 1e-6 * torch.randn(3, 8, 40)):
        values = torch.linalg.svdvals(orthogonalized([batch])[0])
        assert values.min() > 0.5 and values.max() < 1.25
    assert (
        torch.nn.functional.cosine_similarity(orthogonalized([matrices])[0].flatten(1), (u @ v).flatten(1)).min()
        > 0.95
    )
    assert torch.equal(orthogonalized([torch.zeros(2, 3, 5)])[0], torch.zeros(2, 3, 5))


@pytest.mark.parametrize("shape", [(12, 100), (40, 40), (100, 12)])
@pytest.mark.parametrize("smallest", [-2.0, -6.0])
def test_each_singular_value_goes_through_the_polynomial_alone(shape, smallest):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(*shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, smallest, min(shape), dtype=torch.float64)
    expected = values / values.norm()
    for _ in range(ITERATIONS):
        expected = sum(factor * expected ** (2 * i + 1) for i, factor in enumerate(QUINTIC))
    difference = orthogonalized([(u * values @ v).float()[None]])[0][0] - u * expected @ v
    assert torch.linalg.matrix_norm(difference, 2) < 0.01


def test_stacks_of_any_shapes_come_out_as_each_would_alone():
    torch.manual_seed(0)
    stacks = [torch.randn(*shape) for shape in ((3, 8, 40), (2, 40, 8), (1, 8, 8), (2, 5, 9), (1, 30, 5), (4, 8, 41))]
    for stack, together in zip(stacks, orthogonalized(stacks), strict=True):
        assert together.shape == stack.shape
        alone = torch.cat([orthogonalized([matrix[None]])[0] for matrix in stack])
        assert torch.allclose(together, alone, atol=1e-4)


def test_a_convolution_is_the_matrix_that_its_output_channels_make():
    gradient = list(gradients((4, 3, 3, 3), 25))
    conv, matrix = torch.nn.Parameter(torch.zeros(4, 3, 3, 3)), torch.nn.Parameter(torch.zeros(4, 27))
    a = trajectory(Muon([conv], LR), conv, gradient)
    b = trajectory(Muon([matrix], LR), matrix, [g.flatten(1) for g in gradient])
    assert all(torch.equal(x.flatten(1), y) for x, y in zip(a, b))


def test_the_layout_in_memory_changes_nothing():
    gradient = list(gradients((8, 5, 3, 3), 25))
    plain = torch.nn.Parameter(torch.ones(8, 5, 3, 3))
    last = torch.nn.Parameter(torch.ones(8, 5, 3, 3).contiguous(memory_format=torch.channels_last))
    a = trajectory(Muon([plain], LR), plain, gradient)
    b = trajectory(Muon([last], LR), last, [g.contiguous(memory_format=torch.channels_last) for g in gradient])
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.allclose(x, y, atol=0.01 * LR) for x, y in zip(a, b))


def test_weights_of_one_shape_move_as_each_would_alone():
    gradient = [list(gradients((4, 3, 3, 3), 12, seed)) for seed in range(3)]
    together = [torch.nn.Parameter(torch.zeros(4, 3, 3, 3)) for _ in gradient]
    optimizer = Muon(together, LR)
    for step in range(12):
        for weight, steps in zip(together, gradient):
            weight.grad = steps[step].clone()
        optimizer.step()
    for weight, steps in zip(together, gradient):
        alone = torch.nn.Parameter(torch.zeros(4, 3, 3, 3))
        assert torch.allclose(weight, trajectory(Muon([alone], LR), alone, steps)[-1], atol=1e-3 * LR)


def test_three_dimensions_are_matrices_that_each_move_as_alone():
    """Flattened to one matrix, as a convolution, a stack of squares would hardly learn (xie's InvertibleConv)."""
    steps = list(gradients((4, 6, 6), 12))
    stack = torch.nn.Parameter(torch.zeros(4, 6, 6))
    moved = trajectory(Muon([stack], LR), stack, steps)[-1]
    for i in range(4):
        alone = torch.nn.Parameter(torch.zeros(6, 6))
        expected = trajectory(Muon([alone], LR), alone, [gradient[i] for gradient in steps])[-1]
        assert torch.allclose(moved[i], expected, atol=1e-3 * LR)


def test_vectors_get_adam():
    ours, theirs = (torch.nn.Parameter(torch.ones(7)) for _ in range(2))
    gradient = list(gradients((7,), 30))
    values = trajectory(Muon([ours], LR, betas=(0.9, 0.95)), ours, gradient)
    expected = trajectory(torch.optim.Adam([theirs], LR, betas=(0.9, 0.95)), theirs, gradient)
    assert all(torch.allclose(a, b, atol=1e-3 * LR) for a, b in zip(values, expected))


@pytest.mark.parametrize("stop", [0, 1, 17])
def test_it_goes_on_from_its_state_to_the_last_bit(stop):
    gradient = {shape: list(gradients(shape, 35)) for shape in ((6, 4, 3, 3), (6,))}

    def fresh():
        weights = [torch.nn.Parameter(torch.ones(shape)) for shape in gradient]
        return weights, Muon(weights, LR)

    def go(weights, optimizer, begin, end):
        for step in range(begin, end):
            for weight, steps in zip(weights, gradient.values()):
                weight.grad = steps[step].clone()
            optimizer.step()

    whole, optimizer = fresh()
    go(whole, optimizer, 0, 35)
    parts, optimizer = fresh()
    go(parts, optimizer, 0, stop)
    state = copy.deepcopy(optimizer.state_dict())
    resumed, optimizer = fresh()
    with torch.no_grad():
        for a, b in zip(resumed, parts):
            a.copy_(b)
    optimizer.load_state_dict(state)
    go(resumed, optimizer, stop, 35)
    assert all(map(torch.equal, whole, resumed))


@pytest.mark.parametrize("other", [torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9)])
def test_the_state_of_another_optimizer_is_refused(other):
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((6, 4, 3, 3), (6,))]
    optimizer = other(weights, lr=LR)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    with pytest.raises(ValueError, match="another optimizer than Muon"):
        Muon(weights, LR).load_state_dict(optimizer.state_dict())


def test_parameters_without_gradient_and_closures():
    used, unused = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([used, unused], LR)

    def closure():
        optimizer.zero_grad()
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert optimizer.step(closure).item() < 9
    assert torch.equal(unused, torch.ones(3, 3)) and unused not in optimizer.state


def test_gradients_of_zero_move_nothing():
    """As behind a layer whose weights begin at zero."""
    weight = torch.nn.Parameter(torch.ones(4, 9))
    values = trajectory(Muon([weight], LR), weight, [torch.zeros(4, 9)] * 25)
    assert torch.equal(values[-1], torch.ones(4, 9))
    values = trajectory(Muon([weight], LR), weight, [torch.zeros(4, 9)] * 5 + list(gradients((4, 9), 25)))
    assert values[-1].isfinite().all() and not torch.equal(values[-1], torch.ones(4, 9))


def test_it_beats_adam_where_the_axes_of_the_valley_are_mixed():
    """A quadratic whose curvatures, 1 to 1000, lie along directions that mix all output channels."""
    torch.manual_seed(0)
    channels, inputs, steps = 16, 12, 150
    rotation = torch.linalg.qr(torch.randn(channels, channels)).Q
    curvature = rotation @ torch.diag(torch.logspace(0, 3, channels)) @ rotation.T
    target = torch.randn(channels, inputs)

    def last_loss(kind, lr):
        weight = torch.nn.Parameter(torch.zeros(channels, inputs))
        optimizer = kind([weight], lr, betas=(0.9, 0.95))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / steps)
            optimizer.zero_grad()
            away = weight - target
            loss = (away * (curvature @ away)).sum() / 2
            loss.backward()
            optimizer.step()
        return loss.item()

    rates = (0.01, 0.03, 0.1, 0.3)
    ours, adam = (min(last_loss(kind, lr) for lr in rates) for kind in (Muon, torch.optim.Adam))
    assert ours < 0.1 * adam
