"""Exact arithmetic: integers are the oracle."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganlib.exact import ACTIVATION_LIMIT, SUM_LIMIT, TABLE_TOTAL, ExactNetwork, integer_table, round_activation


def network(seed, c_in=6, width=10, c_out=5):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(c_in, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.125), nn.Conv2d(width, c_out, 1)
    )


def dyadic(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).integers(-20000, 20000, shape) / 256)


def integer_convolution(x, weight, bias):
    """Same-size convolution on Python-exact int64: x in 2^-8, weight and bias in 2^-12, result in 2^-20."""
    k = weight.shape[2]
    padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    out = np.zeros((weight.shape[0], *x.shape[1:]), dtype=np.int64)
    for i in range(k):
        for j in range(k):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], window)
    return out + bias[:, None, None] * 256


def round_half_even(n, bits):
    """n / 2^bits to the nearest integer, ties to even, in integers."""
    low, rest = n >> bits, n & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return low + ((rest > half) | ((rest == half) & (low % 2 == 1)))


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_integer_arithmetic_in_every_bit(seed):
    net = network(seed)
    x = dyadic(seed, 6, 5, 7)
    units = [np.rint(p.detach().double().numpy() * 4096).astype(np.int64) for p in net.parameters()]

    h = round_half_even(integer_convolution((x.numpy() * 256).astype(np.int64), *units[:2]), 12)
    h = np.clip(h, -1024 * 256, 1024 * 256)
    h = h.reshape(10, 2, 2, 5, 7).transpose(0, 3, 1, 4, 2).reshape(10, 10, 14)  # pixel shuffle
    h = np.where(h < 0, round_half_even(h, 3), h)  # slope 1/8
    expected = round_half_even(integer_convolution(h, *units[2:]), 12)

    result = ExactNetwork(net)(x[None])[0].numpy() * 256
    assert np.array_equal(result, expected)
    assert len(np.unique(result)) > 50  # not clipped flat


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 2)])
def test_convolution_is_that_of_pytorch_time_after_time(kernel, size):
    layer = torch.nn.Conv2d(3, 4, kernel, padding=kernel // 2)
    exact = ExactNetwork(torch.nn.Sequential(layer))
    rounded = copy.deepcopy(layer).double()
    for p in rounded.parameters():
        p.data = (p.data * 4096).round() / 4096
    x = torch.stack([dyadic(seed, 3, *size) for seed in (1, 2)])
    expected = round_activation(rounded(x).detach())
    for _ in range(2):
        assert torch.equal(exact(x), expected)


def test_any_order_of_summation_gives_the_same_bits():
    net = nn.Sequential(nn.Conv2d(64, 16, 3, padding=1))
    x, order = dyadic(1, 1, 64, 9, 9), torch.randperm(64)
    permuted = nn.Sequential(nn.Conv2d(64, 16, 3, padding=1))
    permuted.load_state_dict({"0.weight": net[0].weight[:, order], "0.bias": net[0].bias})
    assert torch.equal(ExactNetwork(net)(x), ExactNetwork(permuted)(x[:, order]))
    # the check can fail: the same two sums in float32 differ
    with torch.no_grad():
        noise = torch.randn(1, 64, 9, 9)
        assert not torch.equal(net(noise), permuted(noise[:, order]))


def test_batch_and_threads_give_the_same_bits(one_thread_then_two):
    exact, x = ExactNetwork(network(3)), dyadic(3, 4, 6, 33, 31)
    one, two = one_thread_then_two(lambda: exact(x))
    assert torch.equal(one, two)
    assert torch.equal(one, torch.cat([exact(x[i : i + 1]) for i in range(4)]))


def test_bound_is_checked_from_the_weights(codec):
    for exact in [codec.coder.h_s, *codec.coder.contexts]:
        assert 0 < exact.largest_sum < SUM_LIMIT
    net = network(0)
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = SUM_LIMIT / ACTIVATION_LIMIT
    with pytest.raises(ValueError, match="too large to be exact"):
        ExactNetwork(net)
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="too large"):
        ExactNetwork(net)


def test_the_bound_is_reached_without_losing_a_bit():
    """The largest sum that the check admits is still exact: one unit of 2^-20 shows beside 2^32."""
    weight = torch.tensor([SUM_LIMIT / 2 / ACTIVATION_LIMIT, 2.0**-12], dtype=torch.float64)
    x = torch.tensor([ACTIVATION_LIMIT, 2.0**-8], dtype=torch.float64)
    assert (weight @ x) - SUM_LIMIT / 2 == 2.0**-20


def test_layers_that_are_not_exact_are_refused():
    for layer in (nn.GELU(), nn.LeakyReLU(0.1), nn.BatchNorm2d(3)):
        with pytest.raises(ValueError, match="cannot be run exactly"):
            ExactNetwork(nn.Sequential(layer))


def test_rounding_clips_and_keeps_ties_even():
    x = torch.tensor([0.5 / 256, 1.5 / 256, 1e9, -1e9], dtype=torch.float64)
    assert round_activation(x).tolist() == [0.0, 2 / 256, 1024.0, -1024.0]


@given(st.lists(st.floats(0, 1, allow_nan=False), min_size=2, max_size=600).filter(lambda p: sum(p) > 1e-6))
@settings(max_examples=100, deadline=None)
def test_integer_tables_sum_and_follow_the_probabilities(p):
    p = torch.tensor([p], dtype=torch.float64) / sum(p)
    table = integer_table(p)
    assert table.sum() == TABLE_TOTAL and table.min() >= 1 and table.dtype == torch.int32
    assert (table.double() / TABLE_TOTAL - p).abs().max() < len(p[0]) / TABLE_TOTAL * 2
