"""The training panel: every setting reaches the run, a run shows its own settings, and nothing is overwritten."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, until
from PIL import Image

from ganlib.config import preset
from ganlib.course import background_run
from ganlib.course.background_run import BackgroundRun
from ganlib.course.run_settings import SETTINGS, defaults, differences, in_words, run_config, shown, values_of
from ganlib.course.starting_points import StartingPoint
from ganlib.course.widgets import training
from ganlib.course.widgets.base import png
from ganlib.course.widgets.training import TrainingPanel
from ganlib.course.widgets.training_chart import WIDTH, training_view
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights

STEPS, CROP = 20, 64
TWO, ONE = AdversarialRun, RateDistortionRun


@pytest.fixture(scope="module")
def starts():
    tiny = load_weights(TINY).model.config
    return {(TWO, "tiny"): StartingPoint(TWO, tiny, TINY), (ONE, "tiny"): StartingPoint(ONE, tiny),
            (ONE, "light"): StartingPoint(ONE, preset("light"))}  # fmt: skip


@pytest.fixture
def make(folder, photo, tmp_path, starts):
    made = []

    def panel(runs=None):
        """With a copy of these runs, or with those that the test has made."""
        if runs:
            shutil.copytree(runs, tmp_path / "runs")
        made.append(TrainingPanel([folder], tmp_path / "runs", starts, photo[:64, :128], steps=STEPS, crop=CROP))
        made[-1].latest.wait()
        return made[-1]

    yield panel
    for panel in made[:1]:
        for out in list(BackgroundRun.threads):
            if out.parent == panel.folder.resolve():
                panel.run_of(out.name).stop()
                panel.run_of(out.name).wait()


@pytest.fixture(scope="module")
def finished(folder, photo, starts, tmp_path_factory):
    """Runs of which one is finished: what a panel finds that is opened later."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    panel = TrainingPanel([folder], runs, starts, photo[:64, :128], steps=STEPS, crop=CROP)
    panel.start.click()
    finish(panel)
    assert panel.fault.value == "" and panel.names() == ["run 1"]
    return runs


def finish(panel):
    until(lambda: panel._active() is None)
    panel.latest.request()
    panel.latest.wait()


def ends(setting):
    """Least and greatest value of a slider, as its widget takes them."""
    low, high = setting.low, setting.high
    if setting.kind == "log":
        low, high = 10.0**low, 10.0**high
    return [(low, low), (high, high)] if setting.kind == "range" else [low, high]


@pytest.mark.parametrize("stage", [ONE, TWO])
def test_every_slider_reaches_the_configuration_from_end_to_end(make, stage):
    panel = make()
    panel.stage.value = stage
    assert set(panel.controls) == set(defaults(stage))
    for setting in SETTINGS:
        if setting.key not in panel.controls:
            continue
        before = panel.controls[setting.key].value
        for value in ends(setting):
            panel.controls[setting.key].value = value
            config = panel.config()
            expected = value if isinstance(value, tuple) else (value,)
            assert tuple(getattr(config, field) for field in setting.fields) == pytest.approx(expected, abs=1e-9)
        panel.controls[setting.key].value = before


def test_every_field_that_changes_a_picture_has_a_slider():
    for stage in (ONE, TWO):
        fields = set(vars(run_config(stage)))
        covered = {field for setting in SETTINGS for field in setting.fields}
        # no other picture
        free = {"precision", "accumulate", "recompute", "compile", "checkpoint_minutes", "log_every"}
        assert fields - covered == free


def test_settings_go_to_disk_and_back():
    config = run_config(TWO, quality_low=(10, 60), adversarial_weight=1.5)
    assert run_config(TWO, **values_of(vars(config))) == config
    assert "qualities 10 to 60" in in_words(vars(config)) and "weight of -log D 1.5" in in_words(vars(config))
    with pytest.raises(TypeError, match="adversarial_weight"):
        run_config(ONE, adversarial_weight=1.0)
    assert shown(SETTINGS[0], 200) == "steps 200"


def on_disk(stage, **values):
    """A configuration as BackgroundRun.configs() reads it from disk."""
    return {"stage": stage.STAGE} | vars(run_config(stage, **values))


def test_differences_name_what_differs_and_nothing_else():
    settings = ((0.4, 1e-3), (0.0, 1e-3), (0.4, 1e-4))
    a, b, c = (on_disk(TWO, adversarial_weight=weight, lr=rate) for weight, rate in settings)
    assert differences({"a": a}) == {"a": ""}
    assert differences({"a": a, "b": b}) == {"a": "weight of -log D 0.4", "b": "weight of -log D 0"}
    assert "learning rate 0.0001" in differences({"a": a, "c": c})["c"]
    assert "stage one" in differences({"a": a, "one": on_disk(ONE)})["one"]


def test_start_pause_stop_with_the_sliders_locked(make):
    panel = make()
    assert panel.status.value.startswith("at rest") and panel.stop.disabled and not panel.start.disabled
    panel.controls["steps"].value = 2000
    panel.start.click()
    until(lambda: "training: step" in panel.status.value and "step 0" not in panel.status.value)
    assert panel.start.disabled and not panel.stop.disabled
    assert all(control.disabled for control in (*panel.controls.values(), panel.stage, panel.preset))
    panel.pause.click()
    until(lambda: "paused" in panel.status.value)
    assert panel.pause.description == "Go on"
    panel.pause.click()
    until(lambda: "training" in panel.status.value)
    panel.stop.click()
    finish(panel)
    assert panel.status.value.startswith("at rest") and not panel.controls["steps"].disabled
    assert panel.fault.value == "" and len(panel.pictures.children) == 3


def test_moved_sliders_begin_a_run_of_their_own_and_change_no_other(make, finished):
    panel = make(finished)
    first = panel.run_of("run 1")
    written = (first.out / "config.json").read_text(), (first.out / "log.csv").read_text()
    panel.controls["adversarial_weight"].value = 0.0
    panel.start.click()
    finish(panel)
    assert panel.names() == ["run 1", "run 2"] and panel.chosen.value == "run 2"
    assert ((first.out / "config.json").read_text(), (first.out / "log.csv").read_text()) == written
    assert panel.run_of("run 2").configs()[0]["adversarial_weight"] == 0
    assert panel.beside.value == ("run 1", "run 2") and "weight of -log D 0," in panel.facts.value
    panel.chosen.value = "run 1"
    panel.latest.wait()
    assert "weight of -log D 1," in panel.facts.value, "a run shows its own settings, wherever the sliders stand"


def test_a_name_that_is_taken_or_none_is_refused(make, finished):
    panel = make(finished)
    for name, word in (("run 1", "already"), ("../x", "no name"), ("", "no name")):
        panel.name.value = name
        panel.start.click()
        assert word in panel.fault.value
    assert panel.names() == ["run 1"]


def test_continue_goes_on_with_the_runs_own_settings_and_is_marked(make, finished, monkeypatch):
    panel = make(finished)
    panel.go_on.click()
    assert "set `steps` higher" in panel.fault.value
    panel.controls["adversarial_weight"].value = 1.5  # not of this run
    panel.controls["steps"].value = 40
    panel.go_on.click()
    finish(panel)
    assert panel.run.log()["step"].max() == 40
    assert [(c["from_step"], c["adversarial_weight"]) for c in panel.run.configs()] == [(0, 1.0), (20, 1.0)]
    panel.controls["steps"].value = 60
    panel.changed.value = True
    panel.go_on.click()
    finish(panel)
    weights = [(c["from_step"], c["adversarial_weight"]) for c in panel.run.configs()]
    assert weights == [(0, 1.0), (20, 1.0), (40, 1.5)]
    assert "from step 40:" in panel.facts.value
    seen = {}
    blank = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(training, "training_view", lambda logs, **more: seen.update(more) or blank)
    panel.latest.request()
    panel.latest.wait()
    assert seen["marks"] == {"run 1": [20, 40]}


def test_settings_can_be_copied_from_a_run(make):
    panel = make()
    panel.controls["realism_low"].value = (0.2, 0.6)
    panel.start.click()
    finish(panel)
    panel.stage.value = ONE
    panel.copy.click()
    assert panel.stage.value is TWO and panel.controls["realism_low"].value == pytest.approx((0.2, 0.6))


def test_stage_one_has_no_adversary_and_can_be_started(make):
    panel = make()
    panel.stage.value = ONE
    assert panel.preset.options == ("tiny", "light") and "adversarial_weight" not in panel.controls
    panel.controls["steps"].value, panel.controls["crop"].value, panel.controls["batch"].value = 20, 64, 2
    panel.start.click()
    finish(panel)
    assert panel.fault.value == "" and "bpp" in panel.run.log().columns and panel.run.preset() == "tiny"


def test_a_new_panel_shows_the_runs_of_the_old_one(make):
    panel = make()
    panel.controls["steps"].value = 2000
    panel.start.click()
    until(lambda: panel._active() and len(panel._active().log()))
    again = make()
    assert again.chosen.value == "run 1" and "of 2000" in again.status.value
    until(lambda: again._active().log()["step"].max() >= 10)
    again.stop.click()
    finish(again)
    third = make()
    assert third.names() == ["run 1"] and third.facts.value and third.name.value == "run 2"


def test_delete_removes_the_chosen_run(make, finished):
    panel = make(finished)
    panel.delete.click()
    panel.latest.wait()
    assert panel.names() == [] and panel.chosen.value is None and panel.facts.value == ""


def test_an_error_of_the_run_is_shown(make, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("<no room>")

    panel = make()
    monkeypatch.setattr(background_run, "train", fail)
    panel.start.click()
    finish(panel)
    assert "ValueError" in panel.fault.value and "&lt;no room&gt;" in panel.fault.value


def test_a_picture_that_cannot_be_read_is_reported(make, finished):
    panel = make(finished)
    (panel.run.out / "now.png").write_bytes(b"no picture")
    panel.latest.request()
    panel.latest.wait()
    assert "UnidentifiedImageError" in panel.fault.value
    Image.new("RGB", (64, 64)).save(panel.run.out / "now.png")


# The chart


def log_of(columns, rows=4):
    return pd.DataFrame({name: np.linspace(0.2, 0.8, rows) for name in columns} | {"step": np.arange(rows) * 5})


def test_a_view_of_a_run_that_has_not_begun(photo):
    view = training_view(pd.DataFrame(columns=["step"]), photo[:64, :64])
    assert "original" in {text.get_text() for text in view.texts}


def test_a_view_lays_runs_over_each_other_with_a_legend_and_their_marks(photo):
    two = ("psnr", "lpips", "d_loss", "adversarial", "d_real", "d_fake")
    logs = {"a": log_of(two), "b": log_of(two), "one": log_of(("psnr", "lpips", "bpp"))}
    view = training_view(logs, photo[:64, :64], photo[1:65, :64], photo[2:66, :64], marks={"a": [10]})
    titles = [ax.get_title(loc="left") for ax in view.axes]
    assert sum(map(bool, titles)) == 5 and "D(x); dashed: D(x_hat)" in titles
    by_title = dict(zip(titles, view.axes))
    assert len(by_title["D(x); dashed: D(x_hat)"].lines) == 2 * 2 + 1 + 1  # two runs, a mark, one half
    assert len(by_title["PSNR of the training crops (dB)"].lines) == 3 + 1
    assert [text.get_text() for text in view.legends[0].get_texts()] == ["a", "b", "one"]


def test_pictures_of_a_view_are_one_to_one(photo):
    pixels = photo[:64, :128]
    view = training_view(pd.DataFrame(columns=["step"]), pixels, pixels, photo[64:128, :128])
    drawn = np.asarray(Image.open(io.BytesIO(png(view))).convert("RGB"))
    assert drawn.shape[1] == WIDTH
    assert any((drawn[y : y + 64, 10:138] == pixels).all() for y in range(len(drawn) - 63))
