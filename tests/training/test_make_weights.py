"""make weights: both stages from a cold start, gone on with after a kill, and copied to where they are shipped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ganlib.weights import load_discriminator, load_weights

ROOT = Path(__file__).parents[2]
SMALL = "--batch 2 --crop 64 --precision no --log-every 1 --checkpoint-minutes 0.005"

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make, with which the tests are run in CI")


def make(folder, tmp_path, hours, **options):
    (tmp_path / "weights").mkdir(exist_ok=True)
    variables = {
        "BIN": Path(sys.executable).parent, "DATA": folder,
        "RUNS": tmp_path / "runs", "WEIGHTS": tmp_path / "weights",
        "PRESET": "tiny", "HOURS_ONE": hours[0], "HOURS_TWO": hours[1], "VALIDATION": folder, "FLAGS": SMALL,
    }  # fmt: skip
    # the environment that the tests run in is not made anew
    command = ["make", "-o", ".venv/ready", "weights", *(f"{name}={value}" for name, value in variables.items())]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, **options)


def progress(tmp_path, stage):
    return torch.load(tmp_path / "runs" / stage / "checkpoint.pt", weights_only=True)["progress"]


@needs_make
def test_both_stages_resume_and_end_with_shipped_files(folder, tmp_path):
    process = make(folder, tmp_path, (1, 1), start_new_session=True)
    try:
        end = time.monotonic() + 180
        while not (tmp_path / "runs" / "rate-distortion" / "checkpoint.pt").exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    killed = progress(tmp_path, "rate-distortion")
    assert killed["step"] > 0 and not (tmp_path / "runs" / "adversarial").exists()
    seconds = [killed["seconds"] + 1, 1]
    assert make(folder, tmp_path, [part / 3600 for part in seconds]).wait(timeout=300) == 0
    assert progress(tmp_path, "rate-distortion")["step"] > killed["step"]
    assert sorted(path.name for path in (tmp_path / "weights").iterdir()) == [
        "discriminator.safetensors", "tiny.safetensors",
    ]  # fmt: skip
    weights = load_weights(tmp_path / "weights" / "tiny.safetensors")
    assert [stage["stage"] for stage in weights.stages] == ["rate-distortion", "adversarial"]
    assert [stage["configs"][-1]["folders"] for stage in weights.stages] == [[folder.name]] * 2
    assert load_discriminator(tmp_path / "weights" / "discriminator.safetensors").latent_channels == 32
    assert all((tmp_path / "runs" / stage["stage"] / "validation.csv").exists() for stage in weights.stages)


@needs_make
def test_without_data_it_says_how(tmp_path):
    command = ["make", "-o", ".venv/ready", "weights"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and 'make weights DATA="DIR..." [HOURS_ONE=16] [HOURS_TWO=4]' in done.stdout
