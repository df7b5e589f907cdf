"""Exact arithmetic: integers are the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganlib.codec.integer_inference import ExactContexts, ExactNetwork, Grid, convolve
from ganlib.model.entropy_model import ANCHOR, NON_ANCHOR, exact_conv
from ganlib.model.integer_layers import (
    LEVELS,
    LIMIT,
    OUTPUT_LIMIT,
    SMALLEST_UNIT,
    STEP,
    SUM_LIMIT,
    TABLE_TOTAL,
    Activation,
    ExactConv2d,
    Output,
    integer_table,
    quantize,
    weight_unit,
)


def network(seed, c_in=6, width=10, c_out=5):
    torch.manual_seed(seed)
    layers = [exact_conv(c_in, 4 * width), nn.PixelShuffle(2), Activation(), exact_conv(width, c_out, 1), Output()]
    for layer in layers:
        if isinstance(layer, ExactConv2d):
            nn.init.normal_(layer.bias)
    return nn.Sequential(*layers)


def numbers(seed, *shape, low=-LEVELS, high=LEVELS):
    """Random activations, h,w,C."""
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high + 1, shape) * STEP).float()


def integer_convolution(x, weight, bias):
    """Same-size convolution on int64: x: C,h,w in 2^-6, weight in 2^-24, bias in 2^-24; result in 2^-30."""
    k = weight.shape[2]
    padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    out = np.zeros((weight.shape[0], *x.shape[1:]), dtype=np.int64)
    for i in range(k):
        for j in range(k):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], window)
    return out + bias[:, None, None] * 64


def round_half_even(n, bits):
    """n / 2^bits to the nearest integer, ties to even, in integers."""
    low, rest = n >> bits, n & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return low + ((rest > half) | ((rest == half) & (low % 2 == 1)))


def in_integers(layer):
    """Rounded weight and bias of a layer in units of 2^-24."""
    tensors = [t.double().numpy() * 2**24 for t in layer.rounded()]
    assert all(np.array_equal(t, np.rint(t)) for t in tensors)
    return [t.astype(np.int64) for t in tensors]


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_integer_arithmetic_in_every_bit(seed):
    net = network(seed)
    x = numbers(seed, 5, 7, 6)

    h = integer_convolution((x.permute(2, 0, 1).numpy() / STEP).astype(np.int64), *in_integers(net[0]))
    h = h.reshape(10, 2, 2, 5, 7).transpose(0, 3, 1, 4, 2).reshape(10, 10, 14)  # pixel shuffle
    h = round_half_even(np.where(h < 0, h, 8 * h), 27)  # slope 1/8
    h = np.clip(h, -256, 256)
    expected = np.clip(round_half_even(integer_convolution(h, *in_integers(net[3])), 24), -512 * 64, 512 * 64)

    result = ExactNetwork(net)(x).permute(2, 0, 1).numpy() / STEP
    assert np.array_equal(result, expected)
    assert len(np.unique(result)) > 50 and np.abs(h).max() == 256  # neither flat nor never clipped


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 2), (6, 7)])
def test_convolution_is_that_of_pytorch(kernel, size):
    torch.manual_seed(kernel)
    layer = ExactConv2d(3, 4, kernel)
    exact = ExactNetwork(nn.Sequential(layer))
    x = numbers(1, *size, 3)
    with torch.no_grad():
        expected = layer.double()(x.permute(2, 0, 1)[None].double())[0].permute(1, 2, 0)
    for _ in range(2):
        assert torch.equal(exact(x), expected.float())


def context(known, n):
    return nn.Sequential(exact_conv(known, 8), Activation(), exact_conv(8, 2 * n, 1), Output())


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (4, 1), (5, 4), (4, 7)])
def test_phases_of_the_checkerboard_are_the_whole(size):
    """Two networks that share three features and see 0 and 2 channels more, at one phase and the other."""
    height, width = size
    torch.manual_seed(0)
    networks = [context(3, 1), context(5, 2)]
    exact = [ExactNetwork(network) for network in networks]
    grid = Grid(height, width, 7)
    grid.inside[..., :3] = numbers(2, height, width, 3)
    contexts = [ExactContexts(exact, 3, phase) for phase in (ANCHOR, NON_ANCHOR)]
    begun = [each.begin(grid) for each in contexts]
    grid.inside[..., 3:] = numbers(3, height, width, 4)  # known only now
    for i, network in enumerate(networks):
        seen = grid.inside[..., : 3 + 2 * i]
        with torch.no_grad():
            expected = network(seen.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        assert torch.equal(exact[i](seen), expected)
        joined = torch.full_like(expected, torch.nan).flatten(0, 1)
        for phase, each in enumerate(contexts):
            rows, flat = grid.places(phase)
            assert all((n // width + n % width) % 2 == phase for n in flat.tolist())
            assert torch.equal(grid.rows[rows], grid.inside.flatten(0, 1)[flat])
            joined[flat] = each.call(i, grid, begun[phase][i])
        assert torch.equal(joined.view_as(expected), expected)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(exact_conv(3, 8), Activation(), exact_conv(8, 2, 3), Output()),
        nn.Sequential(exact_conv(3, 8), nn.PixelShuffle(2), exact_conv(2, 2, 1), Output()),
        nn.Sequential(Activation(), exact_conv(3, 2, 1), Output()),
    ],
    ids=["a second kernel", "upsampling", "no convolution first"],
)
def test_contexts_of_another_form_are_refused(network):
    """At one phase of the checkerboard they would give other numbers than in training."""
    exact = ExactNetwork(network)
    with pytest.raises(ValueError, match="one convolution, then 1x1"):
        ExactContexts([exact], 3, ANCHOR)


def test_any_order_of_summation_gives_the_same_bits():
    torch.manual_seed(0)
    layer, order = ExactConv2d(64, 16, 3), torch.randperm(64)
    x = numbers(1, 9, 9, 64)
    permuted = ExactConv2d(64, 16, 3)
    permuted.load_state_dict({"weight": layer.weight[:, order], "bias": layer.bias})
    exact = [ExactNetwork(nn.Sequential(net)) for net in (layer, permuted)]
    assert torch.equal(exact[0](x), exact[1](x[..., order]))
    # the check can fail: the same two sums of other numbers differ
    noise = torch.randn(9, 9, 64)
    assert not torch.equal(exact[0](noise), exact[1](noise[..., order]))


def test_threads_give_the_same_bits(one_thread_then_two):
    exact, x = ExactNetwork(network(3)), numbers(3, 33, 31, 6)
    one, two = one_thread_then_two(lambda: exact(x))
    assert torch.equal(one, two)


def test_factors_fit_into_bf16():
    """Chips that may multiply float32 in bf16, since the caller allows it, and sum in float32 give the same bits."""
    exact, x = ExactNetwork(network(3)), numbers(3, 64, 64, 6)
    for layer in exact.layers:
        if isinstance(layer, tuple):
            assert torch.equal(layer[0].bfloat16().float(), layer[0])
    assert torch.equal(x.bfloat16().float(), x)
    expected, before = exact(x), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(exact(x), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_training_computes_what_coding_does():
    """The forward pass of training is the exact one, but for its order of summation, which does not count."""
    net, x = network(4), numbers(4, 8, 8, 6)
    with torch.no_grad():
        assert torch.equal(net(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0), ExactNetwork(net)(x))


def test_gradients_pass_the_rounding():
    net = network(0)
    before = [p.detach().clone() for p in net.parameters()]
    x = (torch.rand(1, 6, 4, 4) * 2 - 1).requires_grad_()
    net(quantize(x)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters()) and x.grad.abs().sum() > 0
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before))  # rounded where used, not in place


@given(
    st.integers(0, 2**31), st.floats(-14, 12), st.integers(1, 300), st.sampled_from([0.0, 1.0, 1e3]), st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_weights_are_rounded_into_bounds_once_and_for_all(seed, size, c_in, bias, flat):
    torch.manual_seed(seed)
    layer = ExactConv2d(c_in, 3, 3)
    with torch.no_grad():
        layer.weight.copy_((torch.ones(3, c_in, 3, 3) if flat else torch.randn(3, c_in, 3, 3)) * 2**size)
        layer.weight[2] = 0
        layer.bias.copy_(torch.randn(3) * bias)
        weight, offset = layer.rounded()
        unit = weight_unit(weight, offset).double()
        whole = weight.double() / unit.view(-1, 1, 1, 1)
        steps = offset.double() / (unit * STEP)
        assert torch.equal(whole, whole.round()) and torch.equal(steps, steps.round())
        assert whole.abs().max() <= LEVELS and (unit >= SMALLEST_UNIT).all()
        assert (whole.abs().sum(dim=(1, 2, 3)) * LEVELS + steps.abs() < SUM_LIMIT).all()
        assert torch.equal(weight.half().float(), weight) or weight.abs().max() > 65504
        # each weight moved by half a unit at most, and what is rounded stays
        assert ((weight - layer.weight).abs() <= weight_unit(layer.weight, layer.bias).view(-1, 1, 1, 1) / 2).all()
        layer.weight.copy_(weight), layer.bias.copy_(offset)
        again = layer.rounded()
        assert torch.equal(again[0], weight) and torch.equal(again[1], offset)


def test_the_unit_is_the_smallest_that_will_do():
    weight = torch.zeros(4, 2, 1, 1)
    weight[0, 0], weight[1, 0], weight[2, 0] = 256.0, 257.0, 0.75
    assert weight_unit(weight, torch.zeros(4)).tolist() == [1.0, 2.0, 2.0**-8, SMALLEST_UNIT]
    many = torch.full((1, 256, 1, 1), 255.0)  # one by one they fit units of 1, together only units of 2
    assert weight_unit(many, torch.zeros(1)).item() == 1.0
    assert weight_unit(many, torch.full((1,), 2.0**24)).item() > 1.0
    assert weight_unit(torch.full((1, 257, 1, 1), 256.0), torch.zeros(1)).item() == 2.0


def test_bound_is_checked_from_the_weights(codec):
    for exact in [codec.coder.h_s, *(net for contexts in codec.coder.contexts for net in contexts.networks)]:
        assert 0 < exact.largest_sum < SUM_LIMIT
    net = network(0)
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        ExactNetwork(net)


def test_the_bound_is_reached_without_losing_a_bit():
    """The largest sum that the check admits is still exact: one unit shows beside 2^24 - 1, and none would beyond."""
    terms = torch.full((1, 256), float(LEVELS))
    total = terms @ torch.full((256, 1), 255.0) + 65_535
    assert total.item() == SUM_LIMIT - 1 and (total - 1).item() == SUM_LIMIT - 2
    beyond = torch.tensor(float(SUM_LIMIT))
    assert beyond + 1 == beyond


def test_layers_that_are_not_exact_are_refused():
    for layer in (nn.GELU(), nn.LeakyReLU(0.125), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)):
        with pytest.raises(ValueError, match="cannot be run exactly"):
            ExactNetwork(nn.Sequential(layer))


def test_quantize_clips_and_keeps_ties_even():
    x = torch.tensor([0.5 * STEP, 1.5 * STEP, -0.5 * STEP, 1e9, -1e9])
    assert quantize(x).tolist() == [0.0, 2 * STEP, 0.0, LIMIT, -LIMIT]
    assert Output()(x).tolist() == [0.0, 2 * STEP, 0.0, OUTPUT_LIMIT, -OUTPUT_LIMIT]
    assert Activation()(torch.tensor([-8 * STEP, -4 * STEP, -100.0])).tolist() == [-STEP, 0.0, -LIMIT]


def test_a_kernel_wider_than_the_margin_is_told():
    with pytest.raises(ValueError, match="margin of 1, not 0"):
        convolve(Grid(3, 3, 2, margin=0), torch.zeros(3, 3, 2, 1), torch.zeros(1))


@given(st.lists(st.floats(0, 1, allow_nan=False), min_size=2, max_size=600).filter(lambda p: sum(p) > 1e-6))
@settings(max_examples=100, deadline=None)
def test_integer_tables_sum_and_follow_the_probabilities(p):
    p = torch.tensor([p], dtype=torch.float64) / sum(p)
    table = integer_table(p)
    assert table.sum() == TABLE_TOTAL and table.min() >= 1 and table.dtype == torch.int32
    assert (table.double() / TABLE_TOTAL - p).abs().max() < len(p[0]) / TABLE_TOTAL * 2
