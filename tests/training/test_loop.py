"""Training that survives: kills, Ctrl-C, bad files and bad numbers."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import SMALL, rows

import ganlib
from ganlib.training import loop
from ganlib.config import TrainConfig, preset
from ganlib.datasets import Crops, NoImagesError
from ganlib.training.loop import averaging, learning_rate_factor, train


def test_it_learns(folder, tmp_path):
    config = TrainConfig(**SMALL | {"batch": 4, "steps": 60, "warmup": 10, "log_every": 10, "lr": 3e-3})
    train([folder], tmp_path, preset("tiny"), config)
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    data = ganlib.load_codec(tmp_path / "weights.safetensors").compress(folder / "0.png")
    assert len(data) > 100


def test_one_seed_gives_one_log(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train([folder], tmp_path / name, preset("tiny"), TrainConfig(**SMALL, steps=6, seed=seed))
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")
    assert [row["step"] for row in rows(tmp_path / "a")] == ["2", "4", "6"]


def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(folder, tmp_path, monkeypatch):
    config = TrainConfig(**SMALL, steps=8)
    whole = train([folder], tmp_path / "whole", preset("tiny"), config)

    def interrupt(row, run):
        if row["step"] == 4:
            raise KeyboardInterrupt

    train([folder], tmp_path / "parts", preset("tiny"), config, on_log=interrupt)
    assert len(rows(tmp_path / "parts")) == 2
    resumed = train([folder], tmp_path / "parts", preset("tiny"), config)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def start(folder, out, *more):
    command = [sys.executable, "-m", "ganlib", "train", "--data", folder, "--out", out, "--preset", "tiny"]
    command += ["--batch", "1", "--crop", "64", "--precision", "no", "--log-every", "1", *more]
    quiet = dict(stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def heed():  # a shell's background job ignores Ctrl-C, and so would its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen([*map(str, command)], preexec_fn=heed, **quiet)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "training ended before it should"
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.02)


def test_kill_9_costs_no_more_than_the_time_since_the_checkpoint(folder, tmp_path):
    out = tmp_path / "run"
    process = start(folder, out, "--steps", "100000", "--checkpoint-minutes", "0.005")
    wait_for((out / "weights.safetensors").exists, process)
    wait_for(lambda: len(rows(out)) > 5, process)
    process.kill()
    process.wait()
    saved = torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert saved > 0
    config = TrainConfig(batch=1, crop=64, precision="no", log_every=1, steps=saved + 3)
    train([folder], out, preset("tiny"), config)
    assert [int(row["step"]) for row in rows(out)] == list(range(1, saved + 4))


def test_ctrl_c_writes_a_checkpoint_and_ends_well(folder, tmp_path):
    out = tmp_path / "run"
    process = start(folder, out, "--steps", "100000", "--checkpoint-minutes", "1000")
    wait_for(lambda: (out / "log.csv").exists() and len(rows(out)) > 2, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    step = torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert step >= int(rows(out)[-1]["step"]) > 2
    assert ganlib.load_codec(out / "weights.safetensors")


def test_a_step_that_is_not_finite_is_skipped_and_counted(folder, tmp_path, third_is_nan):
    third_is_nan(loop, "rate_distortion")
    model = train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=6))
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1"]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_nothing_is_written_where_there_is_nothing_to_train_on(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("not a picture")
    for name in ("empty", "text", "missing"):
        with pytest.raises(NoImagesError, match=name):
            train([tmp_path / name], tmp_path / "out", preset("tiny"), TrainConfig(**SMALL, steps=1))
    assert not (tmp_path / "out").exists()


def test_another_models_checkpoint_is_refused(folder, tmp_path):
    from dataclasses import replace

    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=1))
    with pytest.raises(ValueError, match="another model"):
        train([folder], tmp_path, replace(preset("tiny"), hyper_width=24), TrainConfig(**SMALL, steps=2))


def test_training_can_begin_with_weights(folder, tmp_path):
    from conftest import TINY

    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=2), init=TINY)
    assert float(rows(tmp_path)[0]["psnr"]) > 20  # an untrained one begins below


def test_hours_are_kept_across_resumes(folder, tmp_path):
    began = time.monotonic()
    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL), hours=3 / 3600)
    assert time.monotonic() - began < 60
    seconds = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["seconds"]
    assert 3 <= seconds < 30
    step = int(rows(tmp_path)[-1]["step"]) if rows(tmp_path) else 0
    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL), hours=3 / 3600)
    assert (int(rows(tmp_path)[-1]["step"]) if rows(tmp_path) else 0) == step


def test_a_save_that_is_killed_leaves_the_last_checkpoint(folder, tmp_path, monkeypatch):
    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=2))
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def dies(state, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(OSError, match="no space"):
        train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=4))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_learning_rate_warms_up_stays_and_decays():
    config = TrainConfig(warmup=10, decay=0.25)
    assert learning_rate_factor(0, 0.0, config) == 0.1
    assert learning_rate_factor(500, 0.5, config) == 1.0
    assert learning_rate_factor(900, 0.875, config) == pytest.approx(0.5)
    assert learning_rate_factor(1000, 1.0, config) == 0.0


def test_average_follows_fast_at_first_and_slowly_later():
    averaged, current = [torch.zeros(1)], [torch.ones(1)]
    averaging(0.99)(averaged, current, torch.tensor(1))
    assert averaged[0].item() == pytest.approx(1 - 2 / 11)
    averaged = [torch.zeros(1)]
    averaging(0.99)(averaged, current, torch.tensor(10**6))
    assert averaged[0].item() == pytest.approx(0.01)


def test_environment_is_left_alone(folder, tmp_path):
    before = dict(os.environ)
    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=1))
    assert {k: v for k, v in os.environ.items() if k in before} == before


def test_crops_keep_to_the_qualities_asked_for(folder):
    drawn = [float(Crops([folder], 64, 0, (30.0, 40.0))[i][1]) for i in range(50)]
    assert 30 <= min(drawn) < 32 and 38 < max(drawn) <= 40
    assert {float(Crops([folder], 64, 0, (30.0, 30.0))[i][1]) for i in range(5)} == {30.0}


@pytest.mark.parametrize("low, high", [(50, 40), (-1, 10), (0, 101)])
def test_qualities_that_do_not_rise_within_range_are_refused(low, high):
    with pytest.raises(ValueError, match="0 to 100"):
        TrainConfig(quality_low=low, quality_high=high)


def test_quality_is_the_inverse_of_lambda():
    config = preset("light")
    assert [round(config.quality(config.lam(q)), 9) for q in (0, 12.5, 100)] == [0, 12.5, 100]
