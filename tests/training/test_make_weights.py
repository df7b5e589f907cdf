"""make weights: one or both stages from a cold start, which the same command goes on with, and files to ship."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from ganlib.__main__ import main
from ganlib.cli import ship
from ganlib.training import loop, validation
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights

ROOT = Path(__file__).parents[2]
SMALL = "--batch 2 --crop 64 --precision no --log-every 1"

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make, with which the tests are run in CI")


def outside_of_make():
    """The environment without what `make test` leaves in it: a make inside of make says where it is."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def commands_of(**variables):
    """Words of each command that make would run."""
    # the environment that the tests run in is not made anew
    command = ["make", "-n", "-o", ".venv/ready", "weights", *(f"{name}={v}" for name, v in variables.items())]
    lines = subprocess.run(
        command, cwd=ROOT, env=outside_of_make(), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [shlex.split(line) for line in lines[1:]]  # what comes first asks for DATA


def make(folder, tmp_path, seconds, only=None):
    """The commands that make would run, or the first of them, in this process: each start would load torch anew.

    Args:
        seconds: of stage one and of stage two, in all.
    """
    (tmp_path / "weights").mkdir(exist_ok=True)
    variables = {
        "BIN": ".", "DATA": folder, "RUNS": tmp_path / "runs", "WEIGHTS": tmp_path / "weights", "PRESET": "tiny",
        "HOURS_ONE": seconds[0] / 3600, "HOURS_TWO": seconds[1] / 3600, "VALIDATION": folder, "FLAGS": SMALL,
    }  # fmt: skip
    commands = commands_of(**variables)
    assert [words[0] for words in commands] == ["./python"] * 3
    for words in commands[:only]:
        if words[:3] == ["./python", "-m", "ganlib"]:
            assert main(words[3:]) == 0
        else:
            assert words[:3] == ["./python", "-m", "ganlib.cli.ship"]
            ship.main(words[3:])


def progress(tmp_path, stage):
    return torch.load(tmp_path / "runs" / stage / "checkpoint.pt", weights_only=True)["progress"]


@needs_make
def test_both_stages_go_on_and_end_with_shipped_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "SIDE", 64)  # what is measured is tested elsewhere
    make(folder, tmp_path, (0.5, 0.5), only=1)  # and then something came between
    one = progress(tmp_path, "rate-distortion")
    assert one["step"] > 0 and not (tmp_path / "runs" / "adversarial").exists()
    make(folder, tmp_path, (one["seconds"] + 0.5, 0.5))
    longer, two = (progress(tmp_path, stage) for stage in ("rate-distortion", "adversarial"))
    assert longer["step"] > one["step"] and two["step"] > 0
    make(folder, tmp_path, (one["seconds"] + 0.5, two["seconds"] + 0.5))
    assert progress(tmp_path, "rate-distortion") == longer
    assert progress(tmp_path, "adversarial")["step"] > two["step"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["tiny.safetensors"]  # stage two keeps latents
    weights = load_weights(tmp_path / "weights" / "tiny.safetensors")
    assert [stage["stage"] for stage in weights.stages] == ["rate-distortion", "adversarial"]
    assert [stage["configs"][-1]["folders"] for stage in weights.stages] == [[folder.name]] * 2
    assert all((tmp_path / "runs" / stage["stage"] / "validation.csv").exists() for stage in weights.stages)


@needs_make
def test_several_processes_train_as_one_command():
    one, two, copied = commands_of(BIN="bin", DATA="photographs", HOURS_TWO=1, PROCESSES=2)
    alone = commands_of(BIN="bin", DATA="photographs", HOURS_TWO=1)
    for words, single in zip((one, two), alone):
        assert words[:3] == ["bin/torchrun", "--nproc-per-node", "2"] and single[0] == "bin/python"
        assert words[3:] == single[1:]
    assert copied == alone[2]


@needs_make
def test_without_hours_for_it_stage_two_is_left_out():
    """In the last six tenths of stage one the learning rate falls, unless FLAGS, which come last, say otherwise."""
    train, ship = commands_of(BIN="bin", DATA="photographs", RUNS="runs", WEIGHTS="weights", FLAGS="--decay 0.3")
    assert train[-4:] == ["--decay", "0.6", "--decay", "0.3"] and "adversarial" not in train
    assert ship[-2:] == ["runs/rate-distortion/weights.safetensors", "weights/light.safetensors"]


@needs_make
def test_without_data_it_says_how(tmp_path):
    command = ["make", "-o", ".venv/ready", "weights"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and 'make weights DATA="DIR..." [HOURS_ONE=16] [HOURS_TWO=N]' in done.stdout


@needs_make
def test_the_shipped_file_came_from_the_published_command(folder, monkeypatch):
    """The command in data/weights/README.md, with today's configuration, is what the file of `light` records."""
    text = (ROOT / "data" / "weights" / "README.md").read_text(encoding="utf-8")
    (published,) = re.findall(r'^    make weights DATA=".*$', text, flags=re.MULTILINE)
    variables = dict(word.split("=", 1) for word in shlex.split(published)[2:])
    train, _ = commands_of(**variables | {"BIN": "bin", "DATA": folder})
    called = []
    monkeypatch.setattr(loop, "train", lambda *args, **more: called.append((args, more)))
    assert main(train[3:]) == 0
    (stage, _, _, model, config, hours, init), _ = called[0]
    weights = load_weights("light")
    (recorded,) = weights.stages
    (made,) = recorded["configs"]
    assert (stage, recorded["stage"]) == (RateDistortionRun, RateDistortionRun.STAGE)
    assert (model, init, hours) == (weights.model.config, made["init"], made["hours"]) and init is None
    expected = asdict(config)
    del expected["checkpoint_minutes"]  # saves the weights, does not change them
    assert {name: made[name] for name in expected} == expected
    assert len(variables["DATA"].split()) == len(made["folders"]) and made["processes"] == 1
