"""Toderici and Islam: binarization, passes, prefixes, the coder of bits, GDN."""

import functools
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import RECURRENTS, small_codec, small_model

from ganlib import BitstreamError, DamageWarning
from ganlib.cited import recurrent_codec, recurrent_file
from ganlib.cited.bit_coder import PlaneCoder
from ganlib.cited.islam import GDN
from ganlib.cited.toderici import ConvGRU, binarize
from ganlib.codec import codec as codec_module
from ganlib.codec import container
from ganlib.codec.header import Header
from ganlib.codec.pixel_tensors import to_pixels
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.codec.verification import whole_part
from ganlib.config import preset

LAYERS = (recurrent_file.CODED, recurrent_file.PLAIN)


@pytest.fixture(params=RECURRENTS)
def name(request):
    return request.param


def ends_of_layers(data):
    """Where a file may be cut: behind the first pass, and behind each of the layers that refine it."""
    chunks = [(kind, offset + len(payload) + 4) for kind, offset, payload in container.chunks(data)]
    return [end for kind, end in chunks if kind == b"TILE"][-1:] + [end for kind, end in chunks if kind in LAYERS]


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
    prefixes = codec.prefixes(data)
    assert [len(prefix) for prefix in prefixes] == ends and prefixes[-1] == data
    pictures = [np.asarray(codec.decompress(prefix)) for prefix in prefixes]
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])
    caplog.clear()
    for cut in range(len(data)):
        passes = sum(end <= cut for end in ends)
        if passes == 0:
            with pytest.raises(BitstreamError):
                codec.decompress(data[:cut])
        elif cut in ends or cut % 7 == 0:
            assert np.array_equal(codec.decompress(data[:cut]), pictures[passes - 1])
            assert f"of 3 passes {passes} are there" in caplog.text
            caplog.clear()


def test_what_decodes_is_whole_for_pillow_too(name, photo):
    """The beginning of a file is verified; of one that is damaged or cut within the first pass it is told."""
    codec = small_codec(name)
    data = codec.compress(photo[:50, :70], quality=100)
    ends, damaged = ends_of_layers(data), bytearray(data)
    for cut in (len(data), ends[1] + 5, ends[1], ends[0] + 3, ends[0]):
        part = whole_part(data[:cut], codec)
        assert np.array_equal(codec.decompress(part), codec.decompress(data[:cut])) and container.read(part)
        image = Image.open(io.BytesIO(data[:cut]))
        image.codec = codec
        image.verify()
    damaged[ends[0] + 30] ^= 1
    for wrong in (data[: ends[0] - 1], bytes(damaged)):
        image = Image.open(io.BytesIO(wrong))
        image.codec = codec
        with pytest.raises(BitstreamError):
            image.verify()


def test_the_passes_of_low_quality_are_the_first_of_high_quality(name, photo):
    codec, pixels = small_codec(name), photo[:50, :70]
    files = [container.read(codec.compress(pixels, quality)) for quality in (0, 50, 100)]
    assert files[0].tiles == files[1].tiles == files[2].tiles
    pictures = [np.asarray(codec.decompress(codec.compress(pixels, quality))) for quality in (0, 50)]
    prefixes = codec.prefixes(codec.compress(pixels, 100))
    assert np.array_equal(pictures, [codec.decompress(prefix) for prefix in prefixes[:2]])
    assert [codec.passes(hundredths) for hundredths in (0, 5000, 10000)] == [1, 2, 3]


def test_bytes_added_behind_the_end_are_damage(name, photo):
    codec = small_codec(name)
    for quality in (0, 100):
        data = codec.compress(photo[:20, :20], quality)
        with pytest.raises(BitstreamError, match="left over"):
            codec.decompress(data + b"more")


def test_a_file_is_whole_for_those_who_know_no_layers(name, photo):
    """What refines the first pass is ancillary: its chunks may be skipped."""
    data = small_codec(name).compress(photo[:70, :90], quality=100)
    stream = container.read(data)
    assert (stream.header.width, stream.header.height, len(stream.tiles)) == (90, 70, 1)
    kinds = [kind for kind, _, _ in container.chunks(data)]
    assert kinds[:3] == [b"HEAD", b"TILE", b"siZE"] and len(kinds) == 5 and set(kinds[3:]) <= set(LAYERS)


def test_no_pass_after_the_first_takes_more_bytes_than_its_plain_bits(photo, monkeypatch):
    """And files that coded every pass, as version 1.1 wrote them, decode to the same picture."""
    codec = small_codec("toderici")
    rng = np.random.default_rng(0)
    smooth = np.tile(np.arange(9) < 4, (8, 7, 1))
    planes = [smooth, rng.random((8, 7, 9)) < 0.5, ~smooth]
    passes = [(torch.from_numpy(bits)[None] * 2.0 - 1, None) for bits in planes]
    monkeypatch.setattr(codec.model, "encode", lambda x, count: passes)
    data = codec.compress(photo[:100, :140], quality=100)
    assert [kind for kind, _, _ in container.chunks(data)] == [b"HEAD", b"TILE", b"siZE", b"laYP", b"laYR"]
    index = recurrent_file.RecurrentIndex(data, codec.passes)
    first, noise, last = index.layers[0]
    assert len(noise.data) == planes[1].size // 8 > len(last.data)
    picture = np.asarray(codec.decompress(data))
    assert np.array_equal(
        picture, to_pixels(codec.model.decode([bits for bits, _ in passes])[0].permute(1, 2, 0)[:100, :140])
    )

    coder = PlaneCoder(8, 7, 9)
    coded = [recurrent_file.Layer(False, coder.encode(bits)) for bits in planes]
    assert len(coded[1].data) > len(noise.data) and coded[2] == last
    file = recurrent_file.write(index.header, [[first], *([layer] for layer in coded[1:])])
    assert len(file) > len(data) and np.array_equal(codec.decompress(file), picture)


def test_tiles_of_a_large_picture(name, photo, monkeypatch):
    """Pass by pass for all tiles, so that a prefix is a coarser picture everywhere; regions; salvage."""
    monkeypatch.setattr(recurrent_codec, "Header", functools.partial(Header, tile=64))
    codec, pixels = small_codec(name), photo[:100, :150]
    data = codec.compress(pixels, quality=100)
    assert container.Index(data).header.grid == (2, 3)
    whole = np.asarray(codec.decompress(data))
    tile = np.asarray(codec.decompress(codec.compress(pixels[64:, 64:128], quality=100)))
    assert np.array_equal(whole[64:, 64:128], tile)
    assert np.array_equal(codec.decompress(data, region=(60, 50, 140, 99)), whole[50:99, 60:140])
    ends = ends_of_layers(data)
    prefixes = codec.prefixes(data)
    assert [len(prefix) for prefix in prefixes] == [ends[0], ends[6], ends[12]]
    first = np.asarray(codec.decompress(prefixes[0]))
    mixed = np.asarray(codec.decompress(data[: ends[1]]))  # and the second pass of the first tile
    assert np.array_equal(mixed[:, 64:], first[:, 64:]) and not np.array_equal(mixed[:64, :64], first[:64, :64])
    with pytest.raises(BitstreamError, match="cut short"):
        codec.decompress(data[: ends[0] - 1])

    damaged = bytearray(data)
    damaged[ends[2] + 20] ^= 1  # in the second pass of the third tile
    with pytest.raises(BitstreamError, match="damaged"):
        codec.decompress(bytes(damaged))
    with pytest.warns(DamageWarning, match="^of 6 tiles these are coarser: 2$"):
        salvaged, decoded = codec.decompress(bytes(damaged), salvage=True)
    assert codec.decompress(bytes(damaged), salvage=True, region=(0, 0, 9, 9))[1].all()  # beside it: no warning
    expected = whole.copy()
    expected[:64, 128:] = first[:64, 128:]
    assert np.array_equal(salvaged, expected)
    assert not decoded[:64, 128:].any() and decoded[64:].all() and decoded[:, :128].all()

    with pytest.warns(DamageWarning, match="^of 6 tiles these are missing: 5; these are coarser: 0 to 4$"):
        salvaged, decoded = codec.decompress(data[: ends[0] - 1], salvage=True)  # the last tile is missing
    assert (np.asarray(salvaged)[64:, 128:] == 128).all() and not decoded.any()


def test_layers_that_do_not_fit_are_refused(photo):
    codec = small_codec("toderici")
    stream = container.read(codec.compress(photo[:20, :20], quality=100))

    def file(*layers, plain=False):
        return recurrent_file.write(
            stream.header, [[recurrent_file.Layer(plain and n > 0, layer)] for n, layer in enumerate(layers)]
        )

    good = stream.tiles[0]
    for layers in ((good, b""), (good, b"", b"", b"")):  # a pass less or more than the quality says
        with pytest.raises(BitstreamError, match="siZE of 8 bytes was expected"):
            codec.decompress(file(*layers))
    with pytest.raises(BitstreamError, match="pass 2 is damaged"):
        codec.decompress(file(good, b"abc", b""))
    with pytest.raises(BitstreamError, match="pass 3 is damaged: 32 plain bits do not fit into 5 bytes"):
        codec.decompress(file(good, b"abcd", b"abcde", plain=True))
    codec.decompress(file(good, b"abcd", b"abcd", plain=True))
    with pytest.raises(BitstreamError, match="pass 1 is damaged"):
        codec.decompress(file(b"abcde", b"", b""))


def test_layers_in_another_order_are_refused(photo):
    """Each is whole, and of the right size and checksum: only its number shows it."""
    codec = small_codec("toderici")
    stream = container.read(codec.compress(photo[:20, :20], quality=100))
    data = recurrent_file.write(
        stream.header, [[recurrent_file.Layer(False, layer)] for layer in (stream.tiles[0], b"abcd", b"efgh")]
    )
    starts = [offset - container.CHUNK.size for kind, offset, _ in container.chunks(data) if kind == b"laYR"]
    first, second = data[starts[0] : starts[1]], data[starts[1] :]
    assert len(first) == len(second)
    with pytest.raises(BitstreamError, match="layer 1 stands where 0 was expected"):
        codec.decompress(data[: starts[0]] + second + first)


def test_codecs_find_each_other(photo, monkeypatch, tmp_path):
    """A file names its weights, and whichever codec is asked decodes it with those, where they are shipped."""
    names = {small_codec(name).fingerprint: name for name in ("toderici", "song", "xie")}
    monkeypatch.setattr(codec_module, "shipped_with", names.get)
    monkeypatch.setattr(codec_module, "shipped_codec", lambda name, *args: small_codec(name))
    for name in names.values():
        data = small_codec(name).compress(photo[:40, :50], quality=100)
        expected = np.asarray(small_codec(name).decompress(data))
        (tmp_path / name).write_bytes(data)
        for other in names.values():
            codec = small_codec(other)
            assert np.array_equal(codec.decompress(data), expected)
            assert np.array_equal(codec.decompress(tmp_path / name), expected)
            assert np.array_equal(codec.strips(tmp_path / name).into(), expected)
            assert np.array_equal(codec.decompress(data, salvage=True)[0], expected)
            displaced = data[:8] + b"\0" + data[8:]  # the header is not where it should be
            with pytest.raises(BitstreamError):
                codec.decompress(displaced)
            assert np.asarray(codec.decompress(displaced, salvage=True)[0]).shape == expected.shape


def test_any_codec_decodes_the_beginning_of_a_file(name, photo, monkeypatch):
    monkeypatch.setattr(codec_module, "shipped_with", {small_codec(name).fingerprint: name}.get)
    monkeypatch.setattr(codec_module, "shipped_codec", lambda name, *args: small_codec(name))
    data = small_codec(name).compress(photo[:40, :50], quality=100)
    beginning = data[: len(small_codec(name).prefixes(data)[1]) + 10]  # and a part of the third pass
    picture = small_codec(name).decompress(beginning)
    assert np.array_equal(small_codec("xie").decompress(beginning), picture)


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
    for wrong in (data[:-1], data + bytes([1] * 8)):
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
    model = small_model("islam")
    h, bits = torch.rand(1, 3, 8, 8), torch.randn(1, 8, 4, 4).sign()
    for part, x, power in ((model.encoder, h, -1), (model.decoder, bits, 1)):  # divided there, multiplied back
        convolution, norm = part.enter
        with torch.no_grad():
            assert torch.allclose(part.enter(x), convolution(x) * norm.pool(convolution(x)) ** power, atol=1e-6)
