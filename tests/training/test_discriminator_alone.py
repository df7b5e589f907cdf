"""The discriminator that stage two begins with: trained alone, shipped for each model, and of use on new pictures."""

import json
import sys

import pytest
import torch
from conftest import SMALL, TINY
from safetensors import safe_open

from ganlib import datasets
from ganlib.cli import discriminator as command
from ganlib.config import AdversarialConfig
from ganlib.course.starting_points import starting_points
from ganlib.model.discriminator import Discriminator
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.discriminator import DiscriminatorRun, verdicts
from ganlib.training.realism import forget_realism
from ganlib.training.run import digest
from ganlib.weights import DISCRIMINATORS, load_discriminator, load_weights

pytestmark = pytest.mark.usefixtures("accelerator")
MARGIN = 0.1  # of D(x) over D(x_hat), where a discriminator has learnt something


@pytest.fixture(scope="module")
def pictures():
    """The middle 128x128 pixels of each embedded photograph; none of them was trained on."""
    middles = [[slice(n // 2 - 64, n // 2 + 64) for n in p.shape[:2]] for p in datasets.embedded().values()]
    return [pixels[tuple(middle)] for pixels, middle in zip(datasets.embedded().values(), middles)]


def test_each_model_of_the_course_has_one_and_it_is_of_these_weights(tmp_path):
    assert sorted(path.stem for path in DISCRIMINATORS.glob("*.safetensors")) == command.MODELS
    for name in command.MODELS:
        with safe_open(DISCRIMINATORS / f"{name}.safetensors", framework="pt") as file:
            last = json.loads(file.metadata()["stages"])[-1]
        assert last["stage"] == DiscriminatorRun.STAGE
        begun_with = last["configs"][-1]
        assert begun_with["init"] == load_weights(name).fingerprint.hex(), "make discriminators after new weights"
        forget_realism(name, tmp_path / "start.safetensors")
        start = digest(load_weights(tmp_path / "start.safetensors").model)
        assert begun_with.get("init_weights", start) == start, "make discriminators after a new generator"


@pytest.mark.parametrize("name", ["light", "tiny"])
def test_a_shipped_one_tells_new_photographs_from_reconstructions(name, pictures, tmp_path):
    forget_realism(name, tmp_path / "start.safetensors")
    model = load_weights(tmp_path / "start.safetensors").model
    real, fake = verdicts(load_discriminator(name), model, pictures, 40).T
    assert real.mean() - fake.mean() > MARGIN and (real > fake).mean() >= 0.8
    torch.manual_seed(0)
    chance = verdicts(Discriminator(model.config.latent_channels), model, pictures, 40)
    assert abs(chance[:, 0].mean() - chance[:, 1].mean()) < MARGIN / 4


def test_verdicts_are_of_the_files_latents_and_change_nothing(codec, photo):
    torch.manual_seed(0)
    discriminator = Discriminator(codec.model.config.latent_channels).train()
    before = {name: t.clone() for name, t in discriminator.state_dict().items()}
    (found,) = verdicts(discriminator, codec.model, [photo[:70, :130]], 40)
    assert discriminator.training and all(
        torch.equal(t, before[name]) for name, t in discriminator.state_dict().items()
    )
    x = torch.tensor(photo[:64, :128]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        out = codec.model(x, torch.tensor([40.0]), torch.ones(1))
        y_hat = out["y_hat"] * codec.model.inverse_gain(torch.tensor([40.0]))
        expected = [discriminator.eval()(image, y_hat).sigmoid().mean().item() for image in (x, out["x_hat"])]
    assert found.tolist() == pytest.approx(expected, abs=1e-5) and 0 < min(found) and max(found) < 1


def test_a_step_moves_the_discriminator_alone(accelerator, folder):
    weights = load_weights(TINY)
    config = AdversarialConfig(**SMALL)
    run = DiscriminatorRun(weights.model.config, config, accelerator, weights)
    before = [{k: t.clone() for k, t in net.state_dict().items()} for net in (run.model, run.discriminator)]
    torch.manual_seed(0)
    values = run.update(torch.rand(2, 3, 64, 64), torch.tensor([20.0, 40.0]), 1.0)
    assert set(values) == set(DiscriminatorRun.COLUMNS) and values["loss"] == pytest.approx(1.386, abs=0.05)
    assert all(torch.equal(t, before[0][k]) for k, t in run.model.state_dict().items())
    assert not all(torch.equal(t, before[1][k]) for k, t in run.discriminator.state_dict().items())
    run.update(torch.rand(2, 3, 64, 64), torch.tensor([20.0, 40.0]), 0.0)
    assert run.discriminator_optimizer.param_groups[0]["lr"] == 0, "the last steps are small"


def test_the_course_begins_stage_two_with_it(accelerator, tmp_path):
    start = starting_points(tmp_path, ("tiny",))[AdversarialRun, "tiny"]
    config = AdversarialConfig(**SMALL)
    runs = [start.run(start.model_config, config, accelerator, load_weights(start.init)) for _ in range(2)]
    shipped = load_discriminator("tiny").state_dict()
    for run in runs:
        assert isinstance(run, AdversarialRun)
        assert all(torch.equal(t, shipped[name]) for name, t in run.discriminator.state_dict().items())
    assert runs[0].discriminator is not runs[1].discriminator, "no run trains the discriminator of another"


def test_the_command_trains_measures_and_goes_on(folder, tmp_path, monkeypatch, capsys):
    out, runs = tmp_path / "out", tmp_path / "runs"
    options = ["--models", "tiny", "--steps", "2", "--images", str(folder), "--runs", str(runs), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["discriminator", str(folder), *options])
    command.main()
    first = (out / "tiny.safetensors").read_bytes()
    assert "tiny: D(x) 0." in capsys.readouterr().out
    assert load_discriminator(out / "tiny.safetensors").latent_channels == 32
    command.main()  # finished: nothing is trained again
    assert (out / "tiny.safetensors").read_bytes() == first
