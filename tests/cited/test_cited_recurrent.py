"""Toderici and Islam: binarization, passes, prefixes, the coder of bits, GDN."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import RECURRENTS, small_codec, small_model

from ganlib import BitstreamError
from ganlib.cited import recurrent_codec, recurrent_file
from ganlib.cited.bit_coder import PlaneCoder
from ganlib.cited.islam import GDN
from ganlib.cited.toderici import ConvGRU, binarize
from ganlib.codec import container
from ganlib.codec.entropy_coder import CorruptSymbols
from ganlib.config import preset

LAYER_OVERHEAD = container.CHUNK.size + container.CHECKSUM.size


@pytest.fixture(params=RECURRENTS)
def name(request):
    return request.param


def ends_of_layers(data):
    """Where a file may be cut: behind each of its layers."""
    return [offset + len(payload) + 4 for kind, offset, payload in container.chunks(data) if kind == b"LAYR"]


def test_shapes(name):
    model = small_model(name)
    x = torch.rand(2, 3, 32, 48)
    passes = list(model.encode(x, 2))
    assert [tuple(bits.shape) for bits, _ in passes] == [(2, 8, 2, 3)] * 2
    assert all(set(bits.unique().tolist()) <= {-1.0, 1.0} for bits, _ in passes)
    assert [tuple(x_hat.shape) for x_hat in model(x)] == [(2, 3, 32, 48)] * 3


def test_the_decoder_needs_the_bits_alone(name):
    model = small_model(name)
    passes = list(model.encode(torch.rand(1, 3, 32, 32), 3))
    for n in (1, 2, 3):
        x_hat = model.decode([bits for bits, _ in passes[:n]])
        assert torch.allclose(x_hat, passes[n - 1][1], atol=1e-6)


def test_one_pass_is_an_eighth_of_a_bit():
    config = preset("toderici")
    assert config.bits / 16**2 == 1 / 8
    assert config.bits * config.iterations / 16**2 == 1


def test_gradient_reaches_every_parameter(name):
    model = small_model(name).train()
    x = torch.rand(2, 3, 32, 32)
    sum((x_hat - x).abs().mean() for x_hat in model(x)).backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_binarize_means_what_it_is_given():
    p = torch.linspace(-1, 1, 9).repeat(20_000, 1).requires_grad_()
    bits = binarize(p, training=True)
    assert set(bits.unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(bits.mean(dim=0), p[0], atol=0.03)
    bits.sum().backward()
    assert torch.equal(p.grad, torch.ones_like(p))
    assert binarize(torch.tensor([-0.3, 0.0, 0.1]), training=False).tolist() == [-1, 1, 1]


def test_gru_keeps_its_state_where_update_is_closed():
    unit = ConvGRU(2, 3)
    with torch.no_grad():
        unit.from_input.bias[:3] = -50  # update = 0
    h = torch.randn(1, 3, 4, 4)
    assert torch.allclose(unit(torch.rand(1, 2, 4, 4), h), h, atol=1e-6)
    with torch.no_grad():
        unit.from_input.bias[:3] = 50  # update = 1: h is replaced, and stays within tanh
    assert unit(torch.rand(1, 2, 4, 4), h).abs().max() <= 1


def test_prefixes_decode_to_fewer_passes(name, photo, caplog):
    codec, pixels = small_codec(name), photo[:50, :70]
    data = codec.compress(pixels, quality=100)
    ends = ends_of_layers(data)
    assert len(ends) == 3 and ends[-1] == len(data)
    pictures = [np.asarray(codec.decompress(data, passes=n)) for n in (1, 2, 3)]
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])
    for cut in range(len(data)):
        passes = sum(end <= cut for end in ends)
        if passes == 0:
            with pytest.raises(BitstreamError):
                codec.decompress(data[:cut])
        elif cut in ends or cut % 7 == 0:
            assert np.array_equal(codec.decompress(data[:cut]), pictures[passes - 1])
            assert f"of 3 passes {passes} are there" in caplog.text
            caplog.clear()


def test_lower_quality_is_a_prefix_but_for_the_head(name, photo):
    codec, pixels = small_codec(name), photo[:50, :70]
    high, low = (codec.compress(pixels, quality) for quality in (100, 0))
    layer = [payload for kind, _, payload in container.chunks(low) if kind == b"LAYR"]
    assert layer == [payload for kind, _, payload in container.chunks(high) if kind == b"LAYR"][:1]
    assert [codec.passes(quality) for quality in (0, 50, 100)] == [1, 2, 3]


def test_bytes_added_behind_the_end_are_damage(name, photo):
    codec = small_codec(name)
    data = codec.compress(photo[:20, :20], quality=0)
    with pytest.raises(BitstreamError, match="left over"):
        codec.decompress(data + b"more")


def test_tiles_of_a_large_picture(name, photo, monkeypatch):
    """Pass by pass for all tiles, so that a prefix is a coarser picture everywhere; regions; salvage."""
    monkeypatch.setattr(recurrent_codec, "TILE", 64)
    codec, pixels = small_codec(name), photo[:100, :150]
    data = codec.compress(pixels, quality=100)
    assert container.header(data).grid == (2, 3)
    whole = np.asarray(codec.decompress(data))
    tile = np.asarray(codec.decompress(codec.compress(pixels[64:, 64:128], quality=100)))
    assert np.array_equal(whole[64:, 64:128], tile)
    assert np.array_equal(codec.decompress(data, region=(60, 50, 140, 99)), whole[50:99, 60:140])
    ends = ends_of_layers(data)
    first = np.asarray(codec.decompress(data, passes=1))
    assert np.array_equal(codec.decompress(data[: ends[5]]), first)  # the first pass of all six tiles
    mixed = np.asarray(codec.decompress(data[: ends[6]]))  # and the second pass of the first
    assert np.array_equal(mixed[:, 64:], first[:, 64:]) and not np.array_equal(mixed[:64, :64], first[:64, :64])
    with pytest.raises(BitstreamError, match="not even the first pass"):
        codec.decompress(data[: ends[4]])

    damaged = bytearray(data)
    damaged[ends[7] + 9] ^= 1  # in the second pass of the third tile
    with pytest.raises(BitstreamError, match="damaged"):
        codec.decompress(bytes(damaged))
    salvaged, there = codec.decompress(bytes(damaged), salvage=True)
    expected = whole.copy()
    expected[:64, 128:] = first[:64, 128:]
    assert np.array_equal(salvaged, expected)
    assert not there[:64, 128:].any() and there[64:].all() and there[:, :128].all()

    salvaged, there = codec.decompress(data[: ends[4]], salvage=True)  # the last tile is missing
    assert (np.asarray(salvaged)[64:, 128:] == 128).all() and not there.any()


def test_sizes_that_do_not_fit_are_refused(photo):
    codec = small_codec("toderici")
    header = container.header(codec.compress(photo[:20, :20]))
    for layers in ([], [[b""]] * 65):
        with pytest.raises(BitstreamError):
            codec.decompress(recurrent_file.write(header, layers))
    with pytest.raises(BitstreamError, match="this model has 3"):
        codec.decompress(recurrent_file.write(header, [[b""]] * 4))
    with pytest.raises(BitstreamError, match="pass 1 is damaged"):
        codec.decompress(recurrent_file.write(header, [[b"abc"]]))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.floats(0, 1), st.integers(0, 99)
)
def test_bits_come_back(channels, height, width, passes, share, seed):
    rng = np.random.default_rng(seed)
    planes = [rng.random((channels, height, width)) < share for _ in range(passes)]
    there, back = PlaneCoder(channels, height, width), PlaneCoder(channels, height, width)
    for plane in planes:
        assert np.array_equal(back.decode(there.encode(plane)), plane)


def test_what_is_alike_costs_little_and_noise_its_size():
    rng = np.random.default_rng(0)
    noise = rng.random((8, 40, 60)) < 0.5
    raw = noise.size / 8
    assert raw < len(PlaneCoder(8, 40, 60).encode(noise)) < 1.02 * raw
    smooth = np.zeros((8, 40, 60), bool)
    smooth[:, 10:30, 20:50] = True
    assert len(PlaneCoder(8, 40, 60).encode(smooth)) < 0.15 * raw
    coder = PlaneCoder(8, 40, 60)
    first, second = len(coder.encode(noise)), len(coder.encode(noise))
    assert second < 0.2 * first  # the same bits in the pass before


def test_bytes_that_no_coder_wrote_are_refused():
    coder = PlaneCoder(2, 8, 8)
    data = coder.encode(np.random.default_rng(0).random((2, 8, 8)) < 0.5)
    for wrong in (data[:-1], data + bytes(8)):
        with pytest.raises(CorruptSymbols):
            PlaneCoder(2, 8, 8).decode(wrong)


def test_gdn_divides_by_what_the_channels_share():
    layer = GDN(3)
    x = torch.randn(2, 3, 5, 5)
    gamma, beta = layer.root_gamma.square(), layer.root_beta.square() + 1e-6
    expected = torch.empty_like(x)
    for i in range(3):
        pool = beta[i] + sum(gamma[i, j] * x[:, j] ** 2 for j in range(3))
        expected[:, i] = x[:, i] / pool.sqrt()
    assert torch.allclose(layer(x), expected, atol=1e-6)
    inverse = GDN(3, inverse=True)
    assert torch.allclose(inverse(x), x * inverse.pool(x))
    assert torch.allclose(inverse.pool(x), layer.pool(x))


def test_gdn_stays_finite_whatever_the_weights():
    layer = GDN(4)
    with torch.no_grad():
        layer.root_gamma.normal_(std=100)
        layer.root_beta.zero_()
    for x in (torch.zeros(1, 4, 2, 2), 1e4 * torch.randn(1, 4, 2, 2)):
        assert (layer.pool(x) > 0).all() and layer(x).isfinite().all()


def test_islam_differs_from_toderici_by_the_two_normalizations_alone():
    one, other = (set(small_model(name).state_dict()) for name in RECURRENTS)
    more = {key for key in other if "root_" in key}
    assert more == {f"{part}.enter.1.root_{kind}" for part in ("encoder", "decoder") for kind in ("beta", "gamma")}
    assert len(other) == len(one) + 4
