"""Weights files: what goes in comes out, and what is not one is told."""

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file

import ganlib
from ganlib.config import preset
from ganlib.model.integer_layers import TABLE_TOTAL, ExactConv2d
from ganlib.model.compression_model import CompressionModel
from ganlib.weights import find_weights, fingerprint, load_weights, save_weights


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = CompressionModel(preset("tiny"))
    save_weights(model, tmp_path / "m.safetensors", note="untrained")
    return model, tmp_path / "m.safetensors"


def test_round_trip_in_half_precision(saved):
    model, path = saved
    loaded, tables, _, note = load_weights(path)
    assert loaded.config == model.config and note == "untrained" and not loaded.training
    half = CompressionModel(model.config)
    half.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    expected = half.state_dict()
    for name, layer in half.named_modules():
        if isinstance(layer, ExactConv2d):  # these are stored as the coder uses them
            expected |= dict(zip((f"{name}.weight", f"{name}.bias"), layer.rounded()))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert all(
        torch.equal(p, r)
        for layer in loaded.modules() if isinstance(layer, ExactConv2d)
        for p, r in zip((layer.weight, layer.bias), layer.rounded())
    )  # fmt: skip
    assert tables["y"].shape == (64, 511) and tables["z"].shape == (8, 127)
    assert all((t.sum(dim=1) == TABLE_TOTAL).all() and t.min() >= 1 for t in tables.values())


def test_tables_are_those_of_the_likelihoods(saved):
    """A table's bits are the model's own estimate."""
    from ganlib.model.entropy_model import gaussian_likelihood, index_to_scale

    model, path = saved
    _, tables, _, _ = load_weights(path)
    p = gaussian_likelihood(torch.tensor([3.0]), index_to_scale(torch.tensor([40.0])))
    assert tables["y"][40, 255 + 3] / TABLE_TOTAL == pytest.approx(p.item(), rel=1e-3)
    z = model.entropy.prior(torch.full((1, 8, 1, 1), 2.0))[0, 5].item()
    assert tables["z"][5, 63 + 2] / TABLE_TOTAL == pytest.approx(z, rel=1e-2)


def test_fingerprint_covers_what_steers_decoding_and_nothing_else():
    tensors = load_file(TINY)
    mark = fingerprint(tensors)
    for name in tensors:
        changed = dict(tensors)
        changed[name] = tensors[name] + 1
        steers = name.startswith(("entropy.h_s", "entropy.contexts", "tables.", "log_inverse_gain"))
        assert (fingerprint(changed) != mark) == steers, name


def test_a_generator_trained_further_decodes_old_files(tmp_path, codec, photo):
    model, tables, _, _ = load_weights(TINY)
    with torch.no_grad():
        model.g_s.leave[1].bias += 0.05
    save_weights(model, tmp_path / "further.safetensors", tables=tables)
    data = codec.compress(photo[:64, :64])
    ganlib.load_codec(tmp_path / "further.safetensors").decompress(data)


def test_what_is_no_weights_file_is_told(tmp_path, saved):
    with pytest.raises(ganlib.WeightsError, match="no model 'heavy'"):
        ganlib.load_codec("heavy")
    with pytest.raises(ganlib.WeightsError, match="does not exist"):
        ganlib.load_codec(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ganlib.WeightsError, match="text.safetensors"):
        ganlib.load_codec(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ganlib.WeightsError, match="other.safetensors"):
        ganlib.load_codec(tmp_path / "other.safetensors")
    whole = saved[1].read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ganlib.WeightsError, match="cut.safetensors"):
        ganlib.load_codec(tmp_path / "cut.safetensors")


def test_shipped_weights_load_and_keep_their_size():
    path = find_weights("light")
    assert path.stat().st_size <= 16 * 2**20
    codec = ganlib.load_codec()
    assert codec.model.config == preset("light")


def test_shipped_weights_are_a_good_codec(photo):
    """Not a measurement: a guard that the file in data/weights/ is the trained one."""
    import numpy as np

    from ganlib.evaluation.metrics import psnr

    codec = ganlib.load_codec("light")
    data = codec.compress(photo, target_bpp=0.3)
    assert psnr(photo, np.asarray(codec.decompress(data))) > 29
