"""How the cited models learn: losses, maps, a run that resumes, and `make cited`."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from conftest import SMALL
from safetensors.torch import load_file
from small_models import NAMES, RECURRENTS, small_config

import ganlib
from ganlib import cited
from ganlib.__main__ import main
from ganlib.cited.layers import MASK_SHARE, Gate
from ganlib.cited.presets import TRAINING
from ganlib.cited.training import MapRun, RecurrentRun, TransformRun, draw_maps
from ganlib.cli import cited as command
from ganlib.codec.pixel_tensors import to_tensor
from ganlib.config import TrainConfig, preset
from ganlib.training.loop import train
from ganlib.training.losses import balance
from ganlib.training.run import set_learning_rate
from ganlib.weights import load_weights

CONFIG = TrainConfig(**SMALL, steps=4, perceptual_weight=0.0)


def run_of(name, accelerator, **changes):
    config = small_config(name)
    return cited.run_class(config.family)(config, dataclasses.replace(CONFIG, **changes), accelerator)


def batch(n=2, seed=0):
    """Pictures of a colour each, with a little noise, and a quality each."""
    torch.manual_seed(seed)
    return torch.rand(n, 3, 1, 1) * 0.8 + 0.1 * torch.rand(n, 3, 64, 64), torch.linspace(10, 90, n)


def test_each_family_has_its_run():
    kinds = [cited.run_class(preset(name).family) for name in cited.NAMES]
    assert kinds == [TransformRun, RecurrentRun, RecurrentRun, MapRun, TransformRun, TransformRun]


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_on_one_batch_lower_the_loss(name, accelerator):
    run = run_of(name, accelerator, lr=1e-2 if name in RECURRENTS else 3e-3)
    x, quality = batch()
    losses = []
    for _ in range(15):
        torch.manual_seed(0)
        values = run.update(x, quality, 1.0)
        assert set(values) == set(run.COLUMNS)
        losses.append(values["loss"])
    assert losses[-1] < 0.95 * losses[1]


@pytest.mark.parametrize("name", ["toderici", "song", "xie"])
def test_parts_of_a_batch_add_up_to_the_batch(name, accelerator):
    totals = []
    for parts in (1, 2):
        run = run_of(name, accelerator, accumulate=parts)
        run.model.eval()  # no noise
        x, quality = batch(4)
        torch.manual_seed(1)
        inputs = (x,) if name == "toderici" else (x, quality)
        totals.append(sum(loss.item() for loss, _ in run.losses(*inputs)))
    assert math.isclose(*totals, rel_tol=1e-5)


def test_the_residual_loss_is_the_mean_error_after_each_pass(accelerator):
    run = run_of("toderici", accelerator)
    run.model.eval()
    x, _ = batch()
    ((loss, values),) = run.losses(x)
    with torch.no_grad():
        passes = run.model(x)
    assert math.isclose(loss.item(), np.mean([(p - x).abs().mean() for p in passes]), rel_tol=1e-5)
    mse = (passes[-1] - x).square().mean(dim=(1, 2, 3))
    assert math.isclose(values["psnr_last"].item(), (-10 * mse.log10()).mean().item(), rel_tol=1e-5)


def test_every_second_map_is_even_and_none_leaves_the_range():
    torch.manual_seed(0)
    maps = draw_maps(torch.tensor([0.0, 50.0, 100.0, 90.0]), 2, 3)
    assert maps.shape == (4, 1, 2, 3) and maps.min() >= 0 and maps.max() <= 100
    assert maps[0].unique().tolist() == [0] and maps[2].unique().tolist() == [100]
    assert maps[1].std() > 5 and maps[3].std() > 5


def test_on_an_even_map_song_is_trained_as_ours_is(accelerator, monkeypatch):
    """balance * (R + lambda * 255^2 * MSE); and where the map is uneven, an error counts by its region's lambda."""
    run = run_of("song", accelerator)
    run.model.eval()
    x, quality = batch()
    config = small_config("song")
    monkeypatch.setattr("ganlib.cited.training.SPREAD", 0.0)
    ((loss, values),) = run.losses(x, quality)
    with torch.no_grad():
        out = run.model(x, quality)
    weight = config.lambda_weight(quality)
    mse = (out["x_hat"] - x).square().mean(dim=(1, 2, 3))
    bits = sum(-part.log2().sum(dim=(1, 2, 3)) for part in out["likelihoods"].values()) / 64**2
    expected = (balance(weight) * (bits + weight * 255**2 * mse)).mean()
    assert torch.allclose(loss, expected, rtol=1e-4)


class Given(torch.nn.Module):
    """A model whose result is given."""

    def __init__(self, config, x_hat):
        super().__init__()
        self.config, self.x_hat = config, x_hat

    def forward(self, x, quality):
        return {"x_hat": self.x_hat, "likelihoods": {"y": torch.ones(1, 1, 1, 1)}}


def test_an_error_weighs_as_much_as_its_regions_lambda(accelerator, monkeypatch):
    run = run_of("song", accelerator)
    quality_map = torch.tensor([[[[20.0, 80.0]]]])
    monkeypatch.setattr("ganlib.cited.training.draw_maps", lambda *args: quality_map)
    x, losses = torch.zeros(1, 3, 64, 128), []
    for region in (slice(0, 64), slice(64, 128)):
        x_hat = x.clone()
        x_hat[..., region] = 0.1
        run.model = Given(small_config("song"), x_hat)
        losses += [loss.item() for loss, _ in run.losses(x, torch.tensor([50.0]))]
    low, high = small_config("song").lambda_weight(quality_map).flatten().tolist()
    assert math.isclose(losses[1] / losses[0], high / low, rel_tol=1e-4)


@pytest.mark.parametrize("name", ["islam", "song"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(name, folder, tmp_path):
    config = small_config(name)
    run = cited.run_class(config.family)
    train(run, [folder], tmp_path / "whole", config, CONFIG, progress=False)

    def stop(row, run):
        if row["step"] == 2:
            raise KeyboardInterrupt

    train(run, [folder], tmp_path / "parts", config, CONFIG, on_log=stop, progress=False)
    train(run, [folder], tmp_path / "parts", config, CONFIG, progress=False)
    whole, parts = (load_file(tmp_path / out / "weights.safetensors") for out in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)


def test_weights_of_a_run_load_and_code(folder, tmp_path, photo):
    for name in ("toderici", "xie"):
        config = small_config(name)
        train(cited.run_class(config.family), [folder], tmp_path / name, config, CONFIG, progress=False)
        codec = ganlib.load_codec(tmp_path / name / "weights.safetensors")
        assert codec.model.config == config
        assert codec.decompress(codec.compress(photo[:50, :60])).size == (60, 50)


@pytest.mark.parametrize("name", ["xie", "zou"])
def test_gates_learn_more_slowly_than_attention_in_them(name, accelerator):
    """The share of each weight's learning rate: that of the innermost module that says one."""
    run = run_of(name, accelerator)
    set_learning_rate(run.optimizer, 1e-2)
    rates = {id(p): group["lr"] for group in run.optimizer.param_groups for p in group["params"]}
    assert len(rates) == sum(1 for _ in run.model.parameters())
    for weight_name, weight in run.model.named_parameters():
        slow = ".mask." in weight_name and ".mask.0." not in weight_name  # mask.0 is zou's attention
        assert rates[id(weight)] == (MASK_SHARE * 1e-2 if slow else 1e-2), weight_name
    assert len(set(rates.values())) == 2


@pytest.mark.parametrize("name", ["song", "zou-stf"])
def test_others_learn_at_one_rate(name, accelerator):
    (group,) = run_of(name, accelerator).optimizer.param_groups
    assert group["share"] == 1


@torch.no_grad()
@pytest.mark.parametrize("name", ["xie", "zou"])
def test_gates_of_the_shipped_weights_are_neither_shut_nor_open_everywhere(name, photo):
    """What is behind a gate that training has shut, as zou's attention, takes no part in the model."""
    model, seen = ganlib.load_codec(name).model, []
    for gate in (module for module in model.modules() if isinstance(module, Gate)):
        gate.mask.register_forward_hook(lambda mask, inputs, result: seen.append(torch.sigmoid(result)))
    model(to_tensor(photo[:256, :256]), torch.tensor([50.0]), torch.zeros(1))
    assert len(seen) == {"xie": 2, "zou": 4}[name]
    for opened in seen:
        assert ((opened > 1e-3) & (opened < 1 - 1e-3)).float().mean() > 0.1


def test_recompute_is_refused(accelerator):
    with pytest.raises(ValueError, match="recompute"):
        run_of("zou", accelerator, recompute=True)


def test_the_command_line_trains_by_preset(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ganlib.config.MORE_PRESETS, "toderici", small_config("toderici"))
    few = ["--steps", "2", "--batch", "2", "--crop", "64", "--precision", "no"]
    train_it = ["train", "--preset", "toderici", "--data", str(folder), "--out", str(tmp_path), *few]
    assert main(train_it) == 0
    assert ganlib.load_codec(tmp_path / "weights.safetensors").model.config.family == "toderici"
    goes_on = ["train", "--init", str(tmp_path / "weights.safetensors"), *train_it[3:]]
    for command_line in (train_it, goes_on):
        capsys.readouterr()
        assert main([*command_line, "--stage", "adversarial"]) == 1
        assert capsys.readouterr().err == "ganlib: 'toderici' has one stage: leave out --stage\n"
        assert main([*command_line, "--validation", str(folder)]) == 1
        assert "'toderici' has no estimate of a rate to validate: leave out" in capsys.readouterr().err
    assert main(["info", "--model", str(tmp_path / "weights.safetensors")]) == 0


def test_one_budget_for_all():
    assert inspect.signature(command.train_one).parameters["configs"].default == TRAINING
    assert all(config.perceptual_weight == 0 for config in TRAINING)
    assert TRAINING[-1].crop >= 256  # so that hyper-latents have neighbours on all sides


def test_make_cited_trains_each_once(folder, tmp_path, monkeypatch):
    """And goes on with what was stopped; weights are shipped once the last run is finished."""
    monkeypatch.setitem(ganlib.config.MORE_PRESETS, "xie", small_config("xie"))
    shipped, out, trained = tmp_path / "shipped", tmp_path / "run", []
    shipped.mkdir()
    configs = CONFIG, dataclasses.replace(CONFIG, steps=2, batch=1, crop=128)

    def stopping(stage, folders, run, *args, **more):
        trained.append(run.name)
        train(stage, folders, run, *args, **more)
        if trained == ["1"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        command.train_one("xie", [folder], out, configs, shipped)
    assert not list(shipped.iterdir())
    for _ in range(2):
        command.train_one("xie", [folder], out, configs, shipped)
        assert trained == ["1", "2"]
    with pytest.raises(ValueError, match="other settings: choose another folder"):
        command.train_one("xie", [folder], out, (configs[0], dataclasses.replace(configs[1], lr=0.5)), shipped)
    weights = load_weights(shipped / "xie.safetensors")
    assert [(stage["steps"], stage["configs"][0]["crop"]) for stage in weights.stages] == [(4, 64), (2, 128)]
    assert (shipped / "xie.safetensors").read_bytes() == (out / "2" / "weights.safetensors").read_bytes()
