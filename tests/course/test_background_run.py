"""A run in a thread of its own, or in the cell that calls it; whatever happens, its folder tells the truth."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import filelock
import numpy as np
import pytest
import torch
from conftest import TINY, until
from jupyter_client.manager import start_new_kernel

from ganlib.course import background_run
from ganlib.course.background_run import BackgroundRun, reconstruct
from ganlib.course.run_settings import run_config
from ganlib.course.starting_points import StartingPoint
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.realism import forget_realism
from ganlib.weights import load_weights

STEPS, CROP = 10, 64  # a row of the log every 5 steps


@pytest.fixture(scope="module")
def start():
    return StartingPoint(AdversarialRun, load_weights(TINY).model.config, TINY)


@pytest.fixture
def run(folder, photo, tmp_path, start):
    run = BackgroundRun([folder], tmp_path / "run", start, photo[:64, :128])
    yield run
    run.stop()
    run.wait()


def config(**changes):
    return run_config(AdversarialRun, **{"steps": STEPS, "crop": CROP, "batch": 2} | changes)


def test_reconstruct_is_what_the_codec_decodes(codec, start, photo):
    """The same latents but for the arithmetic of the file, and so nearly the same picture."""
    crop = photo[:128, :128]
    again = reconstruct(start.model(), crop, config(quality_low=(50.0, 50.0), realism_low=(0.5, 0.5)))
    decoded = np.asarray(codec.decompress(codec.compress(crop, quality=50), realism=0.5))
    assert abs(again.astype(int) - decoded).mean() < 1


def test_a_run_leaves_everything_on_disk(run):
    seen = []
    run.listen(lambda: seen.append(run.state))
    run.start(config())
    with pytest.raises(RuntimeError, match="already"):
        run.start(config())
    with pytest.raises(RuntimeError, match="background"):
        run.run_here(config())
    run.wait()
    assert run.error is None and run.state == "idle"
    assert run.log()["step"].tolist() == [5, 10]
    assert seen == ["training"] * 2 + ["idle"]
    assert run.picture("before").shape == run.picture("now").shape == (64, 128, 3)
    assert (run.picture("before") != run.picture("now")).any()
    assert {"checkpoint.pt", "weights.safetensors", "log.csv"} <= {p.name for p in run.out.iterdir()}
    assert run.configs()[0]["adversarial_weight"] == 1.0 and run.preset() == "tiny"


def test_pause_holds_and_stop_ends_with_a_checkpoint(run):
    run.start(config(steps=2000))
    until(lambda: len(run.log()))
    run.pause()
    assert run.state in ("pausing", "paused")
    until(lambda: run.state == "paused")
    held = len(run.log())
    time.sleep(1.0)
    assert len(run.log()) == held
    run.pause()
    assert run.state == "training"
    until(lambda: len(run.log()) > held)
    run.stop()
    run.wait()
    stopped = int(run.log()["step"].max())
    assert stopped < 2000 and run.error is None
    progress = torch.load(run.out / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["step"] == stopped


def test_another_object_on_the_same_folder_finds_the_run(run, folder, photo, start):
    run.start(config(steps=2000))
    again = BackgroundRun([folder], run.out, start, photo[:64, :128])
    assert again.state == "training"
    heard = []
    again.listen(lambda: heard.append(1))
    until(lambda: heard)
    again.stop()
    again.wait()
    assert run.state == "idle" and len(again.log())


def test_after_the_process_has_died_start_goes_on_and_the_step_is_noted(run, monkeypatch):
    run.start(config())
    run.wait()
    monkeypatch.setattr(BackgroundRun, "threads", {})
    run.start(config(steps=15))
    run.wait()
    assert run.log()["step"].tolist() == [5, 10, 15]
    assert [(c["from_step"], c["steps"]) for c in run.configs()] == [(0, 10), (10, 15)]


def test_another_configuration_is_refused_unless_it_is_asked_for(run):
    run.run_here(config())
    other = replace(config(steps=15), adversarial_weight=0.0)
    run.start(other)
    run.wait()
    assert isinstance(run.error, ValueError) and "adversarial_weight" in str(run.error)
    assert run.configs()[-1]["adversarial_weight"] == 1.0 and len(run.configs()) == 1
    run.start(other, change=True)
    run.wait()
    assert [c["adversarial_weight"] for c in run.configs()] == [1.0, 0.0]


def test_run_here_ends_where_the_configuration_says_and_then_does_nothing(run):
    run.run_here(config())
    written = (run.out / "log.csv").read_text()
    assert run.log()["step"].tolist() == [5, 10] and run.thread is None
    run.run_here(config())
    assert (run.out / "log.csv").read_text() == written


def test_an_interrupted_cell_leaves_no_thread_and_goes_on_when_it_is_run_again(run, monkeypatch):
    keep, count = BackgroundRun._keep, []

    def interrupted(self, name, pixels):
        keep(self, name, pixels)
        count.append(name)
        if len(count) == 2:  # before, now at step 5
            raise KeyboardInterrupt

    monkeypatch.setattr(BackgroundRun, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt, match="run the cell again"):
        run.run_here(config())
    assert run.thread is None and run.log()["step"].tolist() == [5]
    run.run_here(config())
    assert run.log()["step"].tolist() == [5, 10]


def test_stage_one_from_nothing(folder, photo, tmp_path, start):
    begin = StartingPoint(RateDistortionRun, start.model_config)
    run = BackgroundRun([folder], tmp_path / "one", begin, photo[:64, :128])
    run.run_here(run_config(RateDistortionRun, steps=5, crop=64, batch=2))
    assert {"bpp", "psnr", "lpips"} <= set(run.log().columns) and run.picture("before") is not None


def test_weights_without_realism_answer_every_realism_alike(tmp_path, photo):
    path = tmp_path / "forgetful.safetensors"
    crop, model = photo[:64, :64], StartingPoint(AdversarialRun, forget_realism(TINY, path), path).model()
    ends = [reconstruct(model, crop, config(realism_low=(r, r))) for r in (0.0, 1.0)]
    assert (ends[0] == ends[1]).all()


def test_what_ends_a_run_is_kept(run, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("no room")

    monkeypatch.setattr(background_run, "train", fail)
    run.start(config())
    run.wait()
    assert str(run.error) == "no room" and run.state == "idle"


def test_two_kernels_never_write_one_folder(run):
    run.out.mkdir()
    lock = run.out / ".lock"
    other = ["import filelock, sys", "lock = filelock.FileLock(sys.argv[1])", "lock.acquire()",
             "print('held', flush=True)", "sys.stdin.read()"]  # fmt: skip
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    kernel = subprocess.Popen([sys.executable, "-c", "\n".join(other), lock], **pipes)
    try:
        assert kernel.stdout.readline().strip() == b"held"
        run.start(config())
        run.wait()
        assert isinstance(run.error, ValueError) and "another process" in str(run.error)
        assert [path.name for path in run.out.iterdir()] == [".lock"]
        with pytest.raises(RuntimeError, match="another kernel"):
            run.clear()
    finally:
        kernel.kill()
        kernel.wait()
    run.run_here(config(steps=5))  # the system has freed the lock
    assert len(run.log()) == 1
    filelock.FileLock(lock, timeout=0).acquire().lock.release()


def test_clear_deletes_the_run_and_never_a_running_one(run):
    run.clear()  # nothing there yet
    run.start(config(steps=2000))
    with pytest.raises(RuntimeError, match="stop"):
        run.clear()
    run.stop()
    run.wait()
    run.clear()
    assert not run.out.exists() and run.log().empty and run.picture("now") is None and run.configs() == []


def test_configuration_on_disk_is_what_was_trained(run):
    run.run_here(config(steps=5))
    on_disk = json.loads((run.out / "config.json").read_text())
    (settings,) = on_disk["train"]
    assert run.configs() == [{"stage": "adversarial"} | settings] and on_disk["model"]["name"] == run.preset()


def test_the_stop_button_of_a_notebook_ends_the_cell_and_leaves_no_thread(tmp_path, folder):
    """In a kernel: the cell is interrupted, says so, and run again it goes on to the end."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:

        def say(code):
            return client.execute_interactive(code, timeout=600, output_hook=lambda message: None)["content"]

        prepared = say(
            "import threading\nimport numpy as np\n"
            "from ganlib.course.background_run import BackgroundRun\n"
            "from ganlib.course.starting_points import StartingPoint\n"
            "from ganlib.course.run_settings import run_config\n"
            "from ganlib.training.adversarial import AdversarialRun\n"
            "from ganlib.weights import load_weights\n"
            f"start = StartingPoint(AdversarialRun, load_weights({str(TINY)!r}).model.config, {str(TINY)!r})\n"
            "black = np.zeros((64, 64, 3), np.uint8)\n"
            f"run = BackgroundRun([{str(folder)!r}], {str(tmp_path / 'run')!r}, start, black)\n"
            "config = lambda steps: run_config(AdversarialRun, steps=steps, crop=64, batch=2)\n"
        )
        assert prepared["status"] == "ok", prepared
        client.execute("run.run_here(config(100_000))")
        until(lambda: (tmp_path / "run" / "now.png").exists())
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=600)["content"]
        assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt"
        step = "reached = int(run.log()['step'].max()); assert run.thread is None and 0 < reached < 100_000"
        assert say(step)["status"] == "ok"
        again = say("run.run_here(config(reached + 10)); assert run.log()['step'].max() >= reached + 5")
        assert again["status"] == "ok", again
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
