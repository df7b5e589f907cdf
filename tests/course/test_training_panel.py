"""A run in the background, and the panel that starts and stops it."""

import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from PIL import Image

from ganlib.course import background_run
from ganlib.course.background_run import BackgroundRun, reconstruct
from ganlib.course.widgets.base import png
from ganlib.course.widgets.training import DEFAULTS, TrainingPanel, panel_config, training_view
from ganlib.weights import load_weights

STEPS, CROP = 20, 64


@pytest.fixture(scope="module")
def model():
    return load_weights(TINY).model


@pytest.fixture
def run(folder, photo, tmp_path):
    run = BackgroundRun([folder], tmp_path / "run", TINY, photo[:64, :128])
    yield run
    run.stop()
    run.wait()


def config(model, **changes):
    return panel_config(model.config, **DEFAULTS | {"steps": STEPS, "crop": CROP} | changes)


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_reconstruct_is_what_the_codec_decodes(codec, model, photo):
    """The same latents but for the arithmetic of the file, and so nearly the same picture."""
    crop = photo[:128, :128]
    again = reconstruct(model, crop, config(model, lam=model.config.lambda_weight(50.0), realism=0.5))
    decoded = np.asarray(codec.decompress(codec.compress(crop, quality=50), realism=0.5))
    assert abs(again.astype(int) - decoded).mean() < 1


def test_a_run_leaves_everything_on_disk(run, model):
    seen = []
    run.listen(lambda: seen.append(run.state))
    run.start(config(model))
    with pytest.raises(RuntimeError, match="already"):
        run.start(config(model))
    run.wait()
    assert run.error is None and run.state == "idle"
    assert run.log()["step"].tolist() == [5, 10, 15, 20]
    assert seen == ["training"] * 4 + ["idle"]
    assert run.picture("before").shape == run.picture("now").shape == (64, 128, 3)
    assert (run.picture("before") != run.picture("now")).any()
    assert {"checkpoint.pt", "weights.safetensors", "log.csv"} <= {p.name for p in run.out.iterdir()}


def test_pause_holds_and_stop_ends_with_a_checkpoint(run, model):
    run.start(config(model, steps=2000))
    until(lambda: len(run.log()))
    run.pause()
    assert run.state == "pausing"
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


def test_another_object_on_the_same_folder_finds_the_run(run, model, folder, photo):
    run.start(config(model, steps=2000))
    again = BackgroundRun([folder], run.out, TINY, photo[:64, :128])
    assert again.state == "training"
    heard = []
    again.listen(lambda: heard.append(1))
    until(lambda: heard)
    again.stop()
    again.wait()
    assert run.state == "idle" and len(again.log())


def test_after_the_process_has_died_start_goes_on(run, model, monkeypatch):
    run.start(config(model))
    run.wait()
    monkeypatch.setattr(BackgroundRun, "threads", {})
    run.start(config(model, steps=30))
    run.wait()
    assert run.log()["step"].tolist() == [5, 10, 15, 20, 25, 30]


def test_what_ends_a_run_is_kept(run, model, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("no room")

    monkeypatch.setattr(background_run, "train", fail)
    run.start(config(model))
    run.wait()
    assert str(run.error) == "no room" and run.state == "idle"


def test_clear_deletes_the_run_and_never_a_running_one(run, model):
    run.clear()  # nothing there yet
    run.start(config(model, steps=2000))
    with pytest.raises(RuntimeError, match="stop"):
        run.clear()
    run.stop()
    run.wait()
    run.clear()
    assert not run.out.exists() and run.log().empty and run.picture("now") is None


# The panel


@pytest.fixture
def panel(run, model):
    panel = TrainingPanel(run, model.config, steps=STEPS, crop=CROP)
    panel.latest.wait()
    return panel


CONTROLS = {
    "learning_rate": ("lr", 1e-5, 10**-2.5),
    "lam": ("quality_low", 0.0, 100.0),
    "adversarial_weight": ("adversarial_weight", 0.0, 2.0),
    "realism": ("realism_high", 0.0, 1.0),
    "crop": ("crop", 64, 256),
    "steps": ("steps", 20, 2000),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_reaches_the_configuration(panel, name):
    field, low, high = CONTROLS[name]
    control = getattr(panel, name)
    limits = [10**v if name in ("learning_rate", "lam") else v for v in (control.min, control.max)]
    for value, expected in zip(limits, (low, high)):
        control.value = value
        assert getattr(panel.config(), field) == pytest.approx(expected, abs=1e-9)


def test_the_panel_begins_where_the_defaults_are(run, model):
    built, plain = TrainingPanel(run, model.config).config(), panel_config(model.config, **DEFAULTS)
    assert built == plain
    assert plain.quality_low == plain.quality_high == pytest.approx(model.config.quality(DEFAULTS["lam"]))


def test_buttons_start_pause_stop_and_clear(panel, run):
    assert panel.status.value == "press Start" and panel.stop.disabled and not panel.start.disabled
    panel.steps.value = 2000
    panel.start.click()
    until(lambda: "training: step" in panel.status.value and len(run.log()))
    assert panel.start.disabled and not panel.stop.disabled
    panel.pause.click()
    until(lambda: "paused" in panel.status.value)
    assert panel.pause.description == "Go on"
    panel.pause.click()
    until(lambda: "training" in panel.status.value)
    panel.stop.click()
    run.wait()
    until(lambda: "at rest after" in panel.status.value)
    before = panel.image.value
    panel.clear.click()
    until(lambda: panel.status.value == "press Start")
    panel.latest.wait()
    assert panel.image.value != before and panel.fault.value == ""


def test_a_new_panel_shows_the_run_of_the_old_one(panel, run, model):
    panel.start.click()
    run.wait()
    again = TrainingPanel(run, model.config)
    again.latest.wait()
    assert f"at rest after {STEPS} steps" in again.status.value
    blank = png(training_view(pd.DataFrame(columns=["step"]), run.watched))
    assert again.image.value != blank


def test_an_error_of_the_run_is_shown(panel, run, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("<no room>")

    monkeypatch.setattr(background_run, "train", fail)
    panel.start.click()
    run.wait()
    until(lambda: panel.fault.value)
    assert "ValueError" in panel.fault.value and "&lt;no room&gt;" in panel.fault.value


def test_a_picture_that_cannot_be_read_is_told(panel, run):
    run.out.mkdir(exist_ok=True)
    (run.out / "now.png").write_bytes(b"no picture")
    panel.latest.request()
    panel.latest.wait()
    assert "UnidentifiedImageError" in panel.fault.value
    Image.new("RGB", (64, 64)).save(run.out / "now.png")


def test_a_view_of_a_run_that_has_not_begun(photo):
    titles = [ax.get_title(loc="left") for ax in training_view(pd.DataFrame(columns=["step"]), photo[:64, :64]).axes]
    assert "original" in titles and "now" in titles
