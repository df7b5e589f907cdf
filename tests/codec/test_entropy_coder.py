"""Latents to bytes and back: the same on every number of threads, in every process, and close to its estimate."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

import ganlib
from ganlib.codec.entropy_coder import quality_value
from ganlib.codec.header import least_words
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.codec.windows import Windows
from ganlib.config import preset
from ganlib.model.compression_model import CompressionModel
from ganlib.model.entropy_model import EntropyModel
from ganlib.weights import save_weights

QUALITY = 4000  # hundredths


def latents(codec, pixels):
    """What the codec would code: h,w,C in quantization steps."""
    with torch.inference_mode():
        y = torch.from_numpy(Windows(codec.model, 2**20).analyse(pixels))
        return y * codec.model.gain(torch.tensor([QUALITY / 100])).flatten()


def test_what_is_encoded_comes_back_exactly(codec, photo, monkeypatch):
    y, skipped = latents(codec, photo), []

    def counting(coder, index, distance):
        skipped.append((distance[index == 0] != 0).sum())
        return code_part(coder, index, distance)

    code_part = codec.coder._code_part
    monkeypatch.setattr(codec.coder, "_code_part", counting)
    data, y_hat = codec.coder.encode(y, QUALITY)
    monkeypatch.undo()
    assert torch.equal(codec.coder.decode(data, *y.shape[:2], QUALITY), y_hat)
    # rounding moves a latent by half a step, but where skip mode holds the symbol at zero
    moved_far = ((y_hat - y).abs() > 0.5 + 1e-5).sum()
    assert moved_far == sum(skipped) < 0.05 * y.numel()


def test_symbols_out_of_range_are_clipped_not_lost(codec):
    y = torch.zeros(5, 3, 32)
    y[2, 1, 0], y[0, 0, 1] = 1e6, -1e6
    data, y_hat = codec.coder.encode(y, QUALITY)
    assert torch.equal(codec.coder.decode(data, 5, 3, QUALITY), y_hat)
    assert y_hat[..., 0].argmax() == 2 * 3 + 1 and y_hat[..., 1].argmin() == 0


@pytest.fixture(scope="module", params=[(False, True), (True, False), (False, False)], ids=str)
def other_codec(request, tmp_path_factory):
    """Without hyperprior, without checkerboard, without both; contexts that say something, though untrained."""
    torch.manual_seed(0)
    hyperprior, board = request.param
    model = CompressionModel(replace(preset("tiny"), hyperprior=hyperprior, checkerboard=board))
    with torch.no_grad():
        for parameter in model.entropy.contexts.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save_weights(model, path)
    return ganlib.load_codec(path, precision="no")


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (12, 8)])
def test_parts_that_are_left_out_leave_a_codec(other_codec, size):
    """The coder decodes what it encoded, which is what the model in evaluation mode says, at the bytes it says."""
    y = torch.randn(*size, 32, generator=torch.Generator().manual_seed(0)) * 5
    data, y_hat = other_codec.coder.encode(y, QUALITY)
    assert torch.equal(other_codec.coder.decode(data, *size, QUALITY), y_hat)
    if size == (12, 8):  # a multiple of 4, as training needs it
        with torch.no_grad():
            expected, likelihoods = other_codec.model.entropy(y.permute(2, 0, 1)[None], torch.tensor([QUALITY / 100]))
        assert torch.allclose(expected[0].permute(1, 2, 0), y_hat, atol=1e-4)
        assert ("z" in likelihoods) == other_codec.model.config.hyperprior == ("z" in other_codec.coder.tables)
        bits = sum(-torch.log2(p.double()).sum().item() for p in likelihoods.values())
        assert 8 * len(data) == pytest.approx(bits, rel=0.02)


def test_pictures_come_back_without_the_parts_too(other_codec, photo):
    data = other_codec.compress(photo[:70, :90], quality=60)
    assert other_codec.decompress(data).size == (90, 70)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 4), (5, 3), (64, 1)])
def test_every_grid_of_latents(codec, size):
    y = torch.randn(*size, 32, generator=torch.Generator().manual_seed(0)) * 5
    data, y_hat = codec.coder.encode(y, QUALITY)
    assert torch.equal(codec.coder.decode(data, *size, QUALITY), y_hat)


def test_threads_do_not_change_a_byte(codec, photo, one_thread_then_two):
    y = latents(codec, photo)
    (one, y_one), (two, y_two) = one_thread_then_two(lambda: codec.coder.encode(y, QUALITY))
    assert one == two and torch.equal(y_one, y_two)


def test_a_second_process_decodes_the_same_latents(codec, photo, tmp_path):
    y = latents(codec, photo)
    data, y_hat = codec.coder.encode(y, QUALITY)
    (tmp_path / "tile").write_bytes(data)
    program = (
        "import sys, ganlib, torch; torch.set_num_threads(1); codec = ganlib.load_codec(sys.argv[1]);"
        "y = codec.coder.decode(open(sys.argv[2], 'rb').read(), 32, 32, 4000); torch.save(y, sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", program, TINY, tmp_path / "tile", tmp_path / "y"], check=True)
    assert torch.equal(torch.load(tmp_path / "y", weights_only=True), y_hat)


def test_bytes_are_within_one_percent_of_the_likelihoods(codec, photo):
    megapixel = np.tile(photo, (2, 2, 1))  # 1024x1024
    x = torch.from_numpy(megapixel).permute(2, 0, 1)[None].float() / 255
    for quality in (10.0, 90.0):
        with torch.inference_mode():
            out = codec.model(x, torch.tensor([quality]), torch.zeros(1))
        estimate = sum(-torch.log2(p.double()).sum().item() for p in out["likelihoods"].values()) / 8
        assert len(codec.compress(megapixel, quality=quality)) == pytest.approx(estimate, rel=0.01)


def test_damage_that_no_checksum_sees_is_told_or_gives_other_symbols(codec, photo):
    y = latents(codec, photo[:96, :96])
    data, y_hat = codec.coder.encode(y, QUALITY)
    told = 0
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 0x55
        try:
            assert not torch.equal(codec.coder.decode(bytes(damaged), 6, 6, QUALITY), y_hat) or i > len(data) - 8
        except CorruptSymbols:
            told += 1
    assert told > 0
    with pytest.raises(CorruptSymbols, match="left over"):
        codec.coder.decode(data + b"\1" * 64, 6, 6, QUALITY)
    with pytest.raises(CorruptSymbols, match="32-bit words"):
        codec.coder.decode(data[:-1], 6, 6, QUALITY)


def test_a_scale_nudged_by_one_table_step_ruins_the_rest(codec, photo):
    """Why exactness matters: the same bytes, one prediction off by a little, and what follows is noise."""
    y = latents(codec, photo)
    data, y_hat = codec.coder.encode(y, QUALITY)
    nudged = ganlib.load_codec(TINY).coder
    weight, bias = nudged.h_s.layers[0]
    nudged.h_s.layers[0] = (weight, bias + 2.0**-2)
    try:
        wrong = nudged.decode(data, *y.shape[:2], QUALITY)
        assert (wrong - y_hat).abs().max() > 3
    except CorruptSymbols:
        pass


def test_the_networks_are_told_the_quality_that_training_told_them():
    """In whole numbers as in float32, for every hundredth."""
    hundredths = range(10_001)
    quality = torch.tensor([n / 100 for n in hundredths], dtype=torch.float64).float()
    plane = EntropyModel.quality_plane(torch.zeros(len(hundredths), 1, 1, 1), quality)
    assert plane.flatten().tolist() == [quality_value(n) for n in hundredths]


def test_a_tile_is_no_shorter_than_its_positions_justify(codec, monkeypatch):
    """Zero words at the end are nothing: they are added where the range coder needs fewer, and taken away."""
    y = torch.zeros(24, 24, 32)
    data, y_hat = codec.coder.encode(y, QUALITY)
    assert torch.equal(
        codec.coder.decode(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 4), 24, 24, QUALITY), y_hat
    )
    assert torch.equal(codec.coder.decode(data + bytes(400), 24, 24, QUALITY), y_hat)
    monkeypatch.setattr("ganlib.codec.entropy_coder.least_words", lambda positions: 10 * positions)
    padded, _ = codec.coder.encode(y, QUALITY)
    assert len(padded) == 4 * 10 * 24 * 24 and padded.startswith(data) and not any(padded[len(data) :])
    assert torch.equal(codec.coder.decode(padded, 24, 24, QUALITY), y_hat)
    assert least_words(31) == 0 and least_words(32) == 1 and least_words(64 * 64) == 128
