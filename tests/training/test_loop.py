"""Training that survives: kills, Ctrl-C, bad files and bad numbers."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from conftest import SMALL, TINY, files_at_most, rows

import ganlib
from ganlib.config import TrainConfig, preset
from ganlib.datasets import NoImagesError
from ganlib.training import rate_distortion
from ganlib.training.loop import interrupts_between_steps, learning_rate_factor, train
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.run import MovingAverage, draw_realism, optimizer_step
from ganlib.weights import load_weights

TINY_PRESET = preset("tiny")


def step_of(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)["progress"]["step"]


def interrupt_at(step, monkeypatch):
    """Ctrl-C in the middle of a step, the first time that a run gets there."""
    update, pending = RateDistortionRun.update, [1]

    def interrupted(self, *args):
        if self.step == step and pending:
            pending.clear()
            signal.raise_signal(signal.SIGINT)
        return update(self, *args)

    monkeypatch.setattr(RateDistortionRun, "update", interrupted)


def test_it_learns(folder, tmp_path):
    config = TrainConfig(**SMALL | {"batch": 4, "steps": 60, "warmup": 10, "log_every": 10, "lr": 3e-3})
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, config)
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    data = ganlib.load_codec(tmp_path / "weights.safetensors").compress(folder / "0.png")
    assert len(data) > 100


def test_one_seed_gives_one_log(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = TrainConfig(**SMALL, steps=6, seed=seed)
        train(RateDistortionRun, [folder], tmp_path / name, TINY_PRESET, config)
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")
    assert [row["step"] for row in rows(tmp_path / "a")] == ["2", "4", "6"]


@pytest.mark.parametrize("last", [3, 4, 5])  # a row of the log is due after step 4
def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(folder, tmp_path, monkeypatch, last):
    config = TrainConfig(**SMALL | {"log_every": 4}, steps=8)
    whole = train(RateDistortionRun, [folder], tmp_path / "whole", TINY_PRESET, config)
    interrupt_at(last - 1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(RateDistortionRun, [folder], tmp_path / "parts", TINY_PRESET, config)
    assert step_of(tmp_path / "parts") == last  # the step under way was made whole
    resumed = train(RateDistortionRun, [folder], tmp_path / "parts", TINY_PRESET, config)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_run_that_is_stopped_at_a_row_goes_on_too(folder, tmp_path):
    config = TrainConfig(**SMALL, steps=4)
    whole = train(RateDistortionRun, [folder], tmp_path / "whole", TINY_PRESET, config)

    def stop(row, run):
        assert row["step"] == run.step == 2
        raise KeyboardInterrupt

    train(RateDistortionRun, [folder], tmp_path / "parts", TINY_PRESET, config, on_log=stop)
    assert step_of(tmp_path / "parts") == 2
    resumed = train(RateDistortionRun, [folder], tmp_path / "parts", TINY_PRESET, config)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))


def start(folder, out, *more, ctrl_c=signal.SIG_DFL):
    command = [sys.executable, "-m", "ganlib", "train", "--data", folder, "--out", out, "--preset", "tiny"]
    command += ["--batch", "1", "--crop", "64", "--precision", "no", "--log-every", "1", *more]
    quiet = dict(stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def heed():  # a shell's background job ignores Ctrl-C, and so would its children
        signal.signal(signal.SIGINT, ctrl_c)

    return subprocess.Popen([*map(str, command)], preexec_fn=heed, **quiet)


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "training ended before it should"
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.02)


def test_kill_9_costs_no_more_than_the_time_since_the_checkpoint(folder, tmp_path):
    out = tmp_path / "run"
    process = start(folder, out, "--steps", "100000", "--checkpoint-minutes", "0.005")
    try:
        wait_for((out / "checkpoint.pt").exists, process)
        wait_for(lambda: len(rows(out)) > 5, process)
        config = TrainConfig(batch=1, crop=64, precision="no", log_every=1, steps=100_000)
        with pytest.raises(ValueError, match="another process is training in .*run.*: choose another folder"):
            train(RateDistortionRun, [folder], out, TINY_PRESET, config)
    finally:
        process.kill()
        process.wait()
    saved = step_of(out)
    assert saved > 0
    assert ganlib.load_codec(out / "weights.safetensors")
    config = replace(config, steps=saved + 3)  # the dead process holds no lock
    train(RateDistortionRun, [folder], out, TINY_PRESET, config)
    assert [int(row["step"]) for row in rows(out)] == list(range(1, saved + 4))


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_who_is_stopped_writes_a_checkpoint_and_says_so(folder, tmp_path, name, status):
    out = tmp_path / "run"
    ctrl_c = signal.SIG_DFL if name == "SIGINT" else signal.SIG_IGN  # a background job of a shell ignores it
    process = start(folder, out, "--steps", "100000", "--checkpoint-minutes", "1000", ctrl_c=ctrl_c)
    wait_for(lambda: (out / "log.csv").exists() and len(rows(out)) > 2, process)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=600) == status  # whatever was to follow, as in `make weights`, must not
    assert step_of(out) == int(rows(out)[-1]["step"]) > 2
    assert ganlib.load_codec(out / "weights.safetensors")


def test_only_the_first_ctrl_c_waits_for_the_step():
    with pytest.raises(KeyboardInterrupt), interrupts_between_steps() as received:
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_and_what_has_no_handler_are_left_alone():
    seen = []

    def work():
        with interrupts_between_steps() as received:
            seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    kept = signal.SIG_DFL, []
    assert seen == [(signal.default_int_handler, *kept), (signal.SIG_IGN, *kept)]


def test_a_signal_that_waited_does_afterwards_what_its_handler_does():
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with interrupts_between_steps() as received:
            signal.raise_signal(signal.SIGTERM)
            assert not calls
        signal.raise_signal(*received)
        assert calls == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_weights_it_begins_with_are_not_overwritten(folder, tmp_path):
    before = (tmp_path / "weights.safetensors").write_bytes(TINY.read_bytes())
    config = load_weights(TINY).model.config
    with pytest.raises(ValueError, match="would overwrite the weights that it begins with: choose another folder"):
        train(
            RateDistortionRun, [folder], tmp_path, config, TrainConfig(**SMALL), init=tmp_path / "weights.safetensors"
        )
    assert len((tmp_path / "weights.safetensors").read_bytes()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_a_step_that_is_not_finite_is_skipped_and_counted(folder, tmp_path, third_is_nan):
    third_is_nan(rate_distortion, "rate_distortion")
    model = train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL, steps=6))
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1"]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_step_adds_up_its_parts_clips_and_moves_if_all_is_finite(accelerator):
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def losses(*slopes):
        for slope in slopes:
            yield (weight * torch.tensor(slope)).sum(), {"parts": torch.tensor(1.0)}

    assert optimizer_step(optimizer, accelerator, losses([1.0, 2.0], [2.0, 2.0]), clip=1e9) == {"loss": 0, "parts": 2}
    assert weight.tolist() == [-3, -4]
    optimizer_step(optimizer, accelerator, losses([3.0, 4.0]), clip=0.5)  # gradients of before are gone
    assert weight.tolist() == pytest.approx([-3.3, -4.4])
    for bad in (float("nan"), float("inf")):
        before = weight.tolist()
        assert optimizer_step(optimizer, accelerator, losses([1.0, 1.0], [bad, 0.0]), clip=1.0) is None
        assert weight.tolist() == before


def test_columns_without_a_value_are_left_out_of_the_mean(folder, tmp_path):
    """Of four images two are at realism 0 and two above; with one image a step, each step has one column of two."""
    config = TrainConfig(**SMALL | {"batch": 1, "log_every": 1}, steps=4)
    train(RateDistortionRun, [folder], tmp_path / "each", TINY_PRESET, config)
    each = [(float(row["psnr"]), float(row["lpips"])) for row in rows(tmp_path / "each")]
    assert [(psnr == psnr, lpips == lpips) for psnr, lpips in each] == [(True, False)] * 2 + [(False, True)] * 2
    train(RateDistortionRun, [folder], tmp_path / "all", TINY_PRESET, replace(config, log_every=4))
    (row,) = rows(tmp_path / "all")
    assert float(row["psnr"]) == pytest.approx((each[0][0] + each[1][0]) / 2, abs=1e-4)
    assert float(row["lpips"]) == pytest.approx((each[2][1] + each[3][1]) / 2, abs=1e-4)


def test_nothing_is_written_where_there_is_nothing_to_train_on(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("not a picture")
    config = TrainConfig(**SMALL, steps=1)
    for name in ("empty", "text", "missing"):
        with pytest.raises(NoImagesError, match=name):
            train(RateDistortionRun, [tmp_path / name], tmp_path / "out", TINY_PRESET, config)
    with pytest.raises(NoImagesError, match="missing"):
        train(RateDistortionRun, [folder], tmp_path / "out", TINY_PRESET, config, validation=tmp_path / "missing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("hours", [-1, 0, 0.0, float("nan"), float("inf"), 1e7])
def test_hours_that_make_no_sense_are_refused(folder, tmp_path, hours):
    with pytest.raises(ValueError, match="hours=.* must be above 0, and at most 100,000"):
        train(RateDistortionRun, [folder], tmp_path / "out", TINY_PRESET, TrainConfig(**SMALL), hours=hours)
    assert not (tmp_path / "out").exists()


def test_training_can_begin_with_weights(folder, tmp_path):
    model = load_weights(TINY).model.config
    train(RateDistortionRun, [folder], tmp_path, model, TrainConfig(**SMALL, steps=2), init=TINY)
    assert float(rows(tmp_path)[0]["psnr"]) > 20  # an untrained one begins below
    told = r"tiny holds another model than preset 'light' \(.*latent_channels=32, not 256.*: leave out --preset"
    with pytest.raises(ValueError, match=told):
        train(RateDistortionRun, [folder], tmp_path / "b", preset("light"), TrainConfig(**SMALL, steps=2), init=TINY)


def test_hours_are_kept_across_resumes(folder, tmp_path):
    began = time.monotonic()
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL), hours=1 / 3600)
    assert time.monotonic() - began < 60
    progress = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]
    assert 1 <= progress["seconds"] < 30
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL), hours=1 / 3600)
    assert step_of(tmp_path) == progress["step"]
    more = (progress["seconds"] + 0.1) / 3600
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL), hours=more)
    assert step_of(tmp_path) > progress["step"]


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(folder, tmp_path):
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL, steps=2))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    for name, most in (("checkpoint.pt", len(before) // 2), ("weights.safetensors", 10_000)):
        with files_at_most(most), pytest.raises(OSError, match=f"/{name} cannot be written: File too large"):
            train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL, steps=4))
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "checkpoint.pt", "config.json", "log.csv", "weights.safetensors",
    ]  # fmt: skip


def test_weights_that_are_gone_are_written_again(folder, tmp_path, caplog):
    weights = []
    for _ in range(2):
        train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL, steps=1))
        weights.append(load_weights(tmp_path / "weights.safetensors"))
        (tmp_path / "weights.safetensors").unlink()
    first, again = weights
    assert "finished already" in caplog.text
    assert first.fingerprint == again.fingerprint and first.stages == again.stages


def test_learning_rate_warms_up_stays_and_decays():
    config = TrainConfig(warmup=10, decay=0.25)
    assert learning_rate_factor(0, 0.0, config) == 0.1
    assert learning_rate_factor(500, 0.5, config) == 1.0
    assert learning_rate_factor(900, 0.875, config) == pytest.approx(0.5)
    assert learning_rate_factor(1000, 1.0, config) == 0.0


def test_without_warm_up_or_decay_the_rate_stays():
    config = TrainConfig(warmup=0, decay=0.0)
    assert [learning_rate_factor(step, step / 10, config) for step in (0, 5, 9)] == [1, 1, 1]
    assert learning_rate_factor(0, 0.0, TrainConfig(warmup=0, decay=1.0)) == 1.0
    assert learning_rate_factor(5, 0.5, TrainConfig(warmup=0, decay=1.0)) == 0.5


def test_a_run_without_warm_up_and_decay(folder, tmp_path):
    config = TrainConfig(**SMALL | {"warmup": 0, "decay": 0.0}, steps=2)
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, config)
    assert [float(row["learning_rate"]) for row in rows(tmp_path)] == [config.lr]


def test_average_follows_fast_at_first_and_slowly_later():
    model = torch.nn.BatchNorm1d(1)  # weights and buffers
    average = MovingAverage(model, 0.99)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.running_mean.fill_(5.0)
    average.update_parameters(model)
    assert average.module.weight.item() == 2.0  # the first one is copied
    assert average.module.running_mean.item() == 5.0  # buffers are not averaged
    model.weight.data.fill_(0.0)
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(2 * 2 / 11)
    average.n_averaged.fill_(10**6)
    average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(2 * 2 / 11 * 0.99)


def test_averaging_leaves_frozen_weights_alone_to_the_last_bit():
    """Or else stage two would change the sign of a zero, and with it the fingerprint that files name."""
    model = torch.nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.fill_(-0.0)
    model.weight.requires_grad_(False)
    average = MovingAverage(model, 0.99)
    for step in range(100):
        model.bias.data.fill_(step)
        average.update_parameters(model)
    assert average.module.weight.signbit().all() and 0 < average.module.bias[0] < 99
    model.requires_grad_(False)  # as where a discriminator learns alone
    average.update_parameters(model)
    assert average.module.weight.signbit().all()


def test_environment_is_left_alone(folder, tmp_path):
    before = dict(os.environ)
    train(RateDistortionRun, [folder], tmp_path, TINY_PRESET, TrainConfig(**SMALL, steps=1))
    assert {k: v for k, v in os.environ.items() if k in before} == before


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("turns", [(0.0, 1.0, None, None), rate_distortion.REALISM])
def test_four_images_in_a_row_hold_both_ends_and_what_lies_between(batch, turns):
    torch.manual_seed(0)
    drawn = torch.cat([draw_realism(turns, step, batch, "cpu") for step in range(40)])
    fours = drawn.unfold(0, 4, 1).sort(dim=1).values  # wherever the four begin
    ends = turns.count(0.0)
    assert (fours[:, :ends] == 0).all() and (fours[:, 3] == 1).all()
    assert ((fours[:, ends:3] > 0) & (fours[:, ends:3] < 1)).all()
    between = drawn[(drawn > 0) & (drawn < 1)]
    assert len(between.unique()) == len(between) and between.min() < 0.2 and between.max() > 0.8


def test_realism_goes_on_where_the_last_batch_ended():
    turns = (0.0, 1.0, None, None)
    assert draw_realism(turns, 0, 2, "cpu").tolist() == [0, 1]
    assert all(0 < r < 1 for r in draw_realism(turns, 1, 2, "cpu").tolist())
    assert draw_realism(turns, 2, 2, "cpu").tolist() == [0, 1]


def test_realism_keeps_within_the_bounds_asked_for():
    drawn = torch.cat([draw_realism((0.25, 0.5, None, None), step, 4, "cpu") for step in range(20)])
    assert drawn[0] == 0.25 and drawn[1] == 0.5
    assert drawn.min() == 0.25 and drawn.max() == 0.5
    assert draw_realism((1.0, 1.0, None, None), 0, 4, "cpu").tolist() == [1, 1, 1, 1]
