"""python -m ganlib train: mistakes end in one line that says what to do, before anything is written."""

import pytest
import torch

from ganlib.__main__ import main
from ganlib.config import preset
from ganlib.model.compression_model import CompressionModel
from ganlib.model.discriminator import Discriminator
from ganlib.weights import load_discriminator, load_weights, save_discriminator, save_weights

pytestmark = pytest.mark.usefixtures("accelerator")
SMALL = ["--preset", "tiny", "--crop", "64", "--batch", "2", "--precision", "no", "--log-every", "1"]


def command(folder, out, *more):
    return main(["train", "--data", str(folder), "--out", str(out), *SMALL, *map(str, more)])


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--hours", "-1"], "--hours -1 must be from 0.0001 to 100,000"),
        (["--hours", "0"], "--hours 0 must be from"),
        (["--hours", "nan"], "--hours nan must be from"),
        (["--steps", "0"], "--steps 0 must be from 1 to 1,000,000,000"),
        (["--steps", "-3"], "--steps -3 must be from 1 to"),
        (["--batch", "0"], "--batch 0 must be from 1 to 4,096"),
        (["--crop", "0"], "--crop 0 must be from 64 to 4,096"),
        (["--crop", "100"], "crop=100 must be a multiple of 64"),
        (["--log-every", "0"], "--log-every 0 must be from 1 to"),
        (["--warmup", "-1"], "--warmup -1 must be from 0 to"),
        (["--decay", "1.5"], "--decay 1.5 must be from 0 to 1"),
        (["--lr", "nan"], "--lr nan must be from 0 to 1"),
        (["--lr", "inf"], "--lr inf must be from 0 to 1"),
        (["--clip", "0"], "--clip 0 must be from 1e-09 to 1,000,000,000"),
        (["--ema", "-0.1"], "--ema -0.1 must be from 0 to 1"),
        (["--seed", "-1"], "--seed -1 must be from 0 to"),
        (["--checkpoint-minutes", "-1"], "--checkpoint-minutes -1 must be from 0 to"),
        (["--quality-high", "101"], "--quality-high 101 must be from 0 to 100\n"),
        (["--precision", "fp8"], "precision='fp8' must be one of"),
        (["--preset", "huge"], "no preset 'huge'"),
        (["--init", "huge"], "no model 'huge'"),
        (["--init", "none.safetensors"], "none.safetensors does not exist"),
        (["--validation", "missing"], "missing does not exist"),
        (["--data", "missing"], "missing does not exist"),
        (["--stage", "adversarial"], "name its weights with init (--init light)"),
        (["--discriminator", "a.safetensors"], "--discriminator: of --stage adversarial only"),
        (["--stage", "adversarial", "--init", "tiny", "--discriminator", "a.safetensors"], "a.safetensors holds no"),
        (["--realism-low", "0.5"], "--realism-low: of --stage adversarial only"),
    ],
)
def test_mistakes(folder, tmp_path, capsys, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    assert command(folder, tmp_path / "out", *flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("ganlib: ") and told in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_run_without_warm_up_and_decay(folder, tmp_path):
    assert command(folder, tmp_path, "--steps", "1", "--warmup", "0", "--decay", "0") == 0


def test_a_finished_run_and_a_changed_one(folder, tmp_path, capsys, caplog):
    assert command(folder, tmp_path, "--steps", "1") == 0
    assert command(folder, tmp_path, "--steps", "1") == 0
    assert "finished already, at step 1" in caplog.text
    assert command(folder, tmp_path, "--steps", "2", "--lr", "0.001") == 1
    assert "was trained with lr=0.01, not 0.001: choose another folder (--out)" in capsys.readouterr().err
    assert command(folder, tmp_path, "--steps", "2", "--lr", "0.001", "--change") == 0
    configs = load_weights(tmp_path / "weights.safetensors").stages[-1]["configs"]
    assert [(config["from_step"], config["lr"]) for config in configs] == [(0, 0.01), (1, 0.001)]


def test_stage_two_with_discriminator_and_validation(folder, tmp_path):
    torch.manual_seed(1)
    model = preset("tiny")
    save_weights(CompressionModel(model), tmp_path / "first.safetensors")
    begun = Discriminator(model.latent_channels)
    save_discriminator(begun, tmp_path / "begun.safetensors")
    flags = ["--stage", "adversarial", "--init", tmp_path / "first.safetensors", "--steps", "1"]
    flags += ["--discriminator", tmp_path / "begun.safetensors", "--discriminator-lr", "0"]
    assert command(folder, tmp_path / "run", *flags, "--validation", folder) == 0
    after = load_discriminator(tmp_path / "run" / "discriminator.safetensors")
    assert all(torch.equal(a.half().float(), b) for a, b in zip(begun.parameters(), after.parameters()))
    assert len((tmp_path / "run" / "validation.csv").read_text().splitlines()) == 4
