"""Weights files: what goes in comes out, and what is not one is told, in little time and memory."""

import json
import re
import shutil
import time
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import FIXTURES, TINY, files_at_most
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ganlib
from ganlib.config import DATA, preset
from ganlib.evaluation.metrics import lpips, psnr
from ganlib.model.compression_model import CompressionModel
from ganlib.model.discriminator import Discriminator
from ganlib.model.entropy_model import gaussian_likelihood, index_to_scale
from ganlib.model.integer_layers import TABLE_TOTAL, ExactConv2d
from ganlib.weights import (
    EARLIER,
    WeightsError,
    _shipped_fingerprints,
    find_weights,
    fingerprint,
    load_weights,
    save_discriminator,
    save_weights,
    shipped_models,
    shipped_with,
)

STAGES = [{"stage": "rate-distortion", "steps": 7, "seconds": 3.5, "seed": 0}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    model, path = CompressionModel(preset("tiny")), tmp_path_factory.mktemp("weights") / "m.safetensors"
    save_weights(model, path, stages=STAGES)
    return model, path


@pytest.fixture
def forged(saved, tmp_path):
    """Writes the saved file anew, with other tensors or other metadata (None leaves an entry out)."""

    def write(tensors=(), **metadata):
        with safe_open(saved[1], "pt") as file:
            metadata = file.metadata() | metadata
        path = tmp_path / "forged.safetensors"
        kept = {name: text for name, text in metadata.items() if text is not None}
        save_file(load_file(saved[1]) | dict(tensors), path, metadata=kept)
        return path

    return write


def test_a_full_disk_is_told(saved, tmp_path):
    begun = Discriminator(32)
    for save, part in ((save_weights, saved[0]), (save_discriminator, begun)):
        with files_at_most(1000), pytest.raises(OSError, match="/a.safetensors cannot be written: File too large"):
            save(part, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_from_before_a_model_could_do_without_its_parts_still_loads(saved, forged):
    with safe_open(saved[1], "pt") as file:
        config = json.loads(file.metadata()["config"])
    del config["hyperprior"], config["checkerboard"]
    assert load_weights(forged(config=json.dumps(config))).model.config == saved[0].config
    with pytest.raises(WeightsError, match="contexts"):  # what is said must be what is there
        load_weights(forged(config=json.dumps(config | {"checkerboard": False})))
    with pytest.raises(WeightsError, match="entropy.contexts.0.0.weight"):
        load_weights(forged(config=json.dumps(config | {"hyperprior": False})))


def test_round_trip_in_half_precision(saved):
    model, path = saved
    weights = load_weights(path)
    loaded = weights.model
    assert weights.name == "m" and list(weights.stages) == STAGES
    assert loaded.config == model.config and not loaded.training
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
    tables = weights.tables
    assert tables["y"].shape == (64, 511) and tables["z"].shape == (8, 127)
    assert all((t.sum(dim=1) == TABLE_TOTAL).all() and t.min() >= 1 for t in tables.values())


def test_tables_are_those_of_the_likelihoods(saved):
    """A table's bits are the model's own estimate."""
    model, path = saved
    tables = load_weights(path).tables
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
    weights = load_weights(TINY)
    with torch.no_grad():
        weights.model.g_s.leave[1].bias += 0.05
    save_weights(weights.model, tmp_path / "further.safetensors", tables=weights.tables)
    data = codec.compress(photo[:64, :64])
    brighter = ganlib.load_codec(tmp_path / "further.safetensors", precision="no").decompress(data)
    assert np.asarray(brighter).mean() == pytest.approx(np.asarray(codec.decompress(data)).mean() + 12.75, abs=0.5)


def test_what_is_no_weights_file_is_told(tmp_path, saved):
    for name in ("heavy", "a" * 300, "", "../weights/tiny"):
        with pytest.raises(ganlib.WeightsError, match=f"no model '{name}'"):
            ganlib.load_codec(name)
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hyper_width": 1000}, "should have shape"),
        ({"encoder_blocks": [32, 32, 32]}, "should have shape"),
        ({"hyper_width": 10**9}, "hyper_width"),
        ({"hyper_width": "wide"}, "hyper_width"),
        ({"lambda_low": 0}, "lambda_low"),
        ({"lambda_low": float("nan")}, "lambda_low"),
        ({"slices": [32, -32, 32]}, "slices"),
        ({"colour": 1}, "no field colour"),
    ],
)
def test_a_configuration_that_is_not_its_own_is_told_before_it_is_built(forged, values, message):
    config = json.loads(json.dumps(preset("tiny").__dict__)) | values
    path, began = forged(config=json.dumps(config)), time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ganlib.WeightsError, match=message):
            load_weights(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 20  # building it would take minutes


@pytest.mark.parametrize("config", [None, "", "[]", "3", "null", "{", '{"slices": 5}', "[" * 100_000])
def test_a_configuration_of_another_type_is_told(forged, config):
    with pytest.raises(ganlib.WeightsError, match="configuration|slices"):
        load_weights(forged(config=config))


def with_value(position, value):
    def change(tensor):
        tensor.view(-1)[position] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tables.y", with_value(0, 0), "positive"),
        ("tables.y", with_value(0, -5), "positive"),
        ("tables.z", with_value(3, 2**20), "sum to 16777216"),
        ("tables.z", lambda t: t.long(), "int32"),
        ("tables.z", lambda t: t[:, :-1].contiguous(), "shape"),
        ("g_s.enter.weight", with_value(7, float("nan")), "finite"),
        ("entropy.h_s.0.bias", with_value(0, float("inf")), "finite"),
        ("log_gain", lambda t: t.int(), "float16"),
        ("entropy.h_s.0.bias", lambda t: t.bfloat16(), "float16"),
    ],
)
def test_tables_and_numbers_are_checked(saved, forged, name, change, message):
    with pytest.raises(ganlib.WeightsError, match=message):
        ganlib.load_codec(forged({name: change(load_file(saved[1])[name])}))


def test_stages_of_another_kind_are_left_out(forged):
    assert load_weights(forged(stages="[{")).stages == ()
    assert load_weights(forged(stages='[1, {"stage": "x"}]')).stages == ({"stage": "x"},)


def test_shipped_weights_load_and_keep_their_size():
    assert {"light", "tiny"} <= set(shipped_models())
    assert find_weights("light").stat().st_size <= 18 * 2**20
    for name in shipped_models():
        weights = load_weights(name)
        assert weights.model.config.name == name
        assert shipped_with(weights.fingerprint) == name
    assert shipped_with(b"8 others") is None
    assert find_weights("light").is_relative_to(DATA)


def test_files_of_an_earlier_version_s_weights_decode(tmp_path, monkeypatch, codec):
    """By their fingerprint, whatever model is asked; the list of models names today's alone."""
    monkeypatch.setattr("ganlib.weights.EARLIER", tmp_path)
    data = (FIXTURES / "golden.gic").read_bytes()
    light = ganlib.load_codec("light")
    _shipped_fingerprints.cache_clear()
    with pytest.raises(ganlib.BitstreamError, match="made with weights"):
        light.decompress(data)
    shutil.copyfile(TINY, tmp_path / "tiny-0.9.safetensors")
    _shipped_fingerprints.cache_clear()
    try:
        assert shipped_with(codec.fingerprint) == "tiny-0.9" and "tiny-0.9" not in shipped_models()
        assert np.array_equal(np.asarray(light.decompress(data)), np.asarray(codec.decompress(data)))
    finally:
        _shipped_fingerprints.cache_clear()


@pytest.mark.parametrize("path", sorted(EARLIER.glob("*.safetensors")), ids=lambda path: path.stem)
def test_every_earlier_model_s_files_decode(path, photo):
    """The folder's files themselves: NAME-VERSION, the last version that shipped them."""
    earlier, today = ganlib.load_codec(path), ganlib.load_codec("tiny")
    name, version = re.fullmatch(r"(.+?)-(\d+\.\d+\.\d+)(?:-\d+)?", path.stem).groups()  # -2: the second of a version
    assert name in shipped_models() and shipped_with(earlier.fingerprint) == path.stem
    assert [int(n) for n in version.split(".")] < [int(n) for n in ganlib.__version__.split(".")]
    data = earlier.compress(photo[:70, :90])
    assert np.array_equal(np.asarray(today.decompress(data)), np.asarray(earlier.decompress(data)))


def test_shipped_weights_are_a_good_codec(photo):
    """Not a measurement: a guard that the file in data/weights/ is the trained one."""
    codec = ganlib.load_codec("light")
    data = codec.compress(photo, target_bpp=0.3)
    faithful, natural = (np.asarray(codec.decompress(data, realism=r)) for r in (0.0, 1.0))
    assert psnr(photo, faithful) > 29 and psnr(photo, natural) < psnr(photo, faithful)
    assert lpips(photo, natural) < 0.8 * lpips(photo, faithful)


def test_shipped_weights_cover_low_and_high_rates(photo):
    codec, pixels = ganlib.load_codec("light"), photo[..., 0].size
    lowest, highest = (codec.compress(photo, quality=q) for q in (0, 100))
    assert 8 * len(lowest) / pixels < 0.08
    assert 8 * len(highest) / pixels > 1.2 and psnr(photo, np.asarray(codec.decompress(highest))) > 35.5
    assert 0.1 < 8 * len(codec.compress(photo, target_bpp=0.12)) / pixels <= 0.12
