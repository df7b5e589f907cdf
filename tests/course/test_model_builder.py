"""The model builder: its pure functions, and the panel without a browser."""

import numpy as np
import pytest
from conftest import until
from PIL import Image

from ganlib.course import architecture
from ganlib.course.architecture import Architecture, costs, slice_sizes, trial, trial_training, trials, trials_chart
from ganlib.course.widgets import model_builder
from ganlib.course.widgets.model_builder import ModelBuilder
from ganlib.model.compression_model import CompressionModel, macs_per_pixel

STEPS = 2
SMALL = dict(depth=0, width=8, latent_channels=16, slices=2)
pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture
def builder(folder, photo, tmp_path):
    panel = ModelBuilder([folder], tmp_path, {"photo": photo[:128, :128]}, STEPS)
    panel.trying.pause = 0
    for name, value in SMALL.items():
        panel.controls[name].value = value
    panel.designing.wait(), panel.trying.wait()
    return panel


@pytest.mark.parametrize("channels", [16, 32, 250])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_slices_sum_up_and_grow(channels, count):
    sizes = slice_sizes(channels, count)
    assert len(sizes) == count and sum(sizes) == channels and list(sizes) == sorted(sizes)
    assert all(b >= 1.5 * a for a, b in zip(sizes, sizes[1:]))


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="3 latent channels cannot be cut into 3 slices"):
        slice_sizes(3, 3)


def test_costs_are_those_of_the_model_and_grow_with_it():
    model = CompressionModel(Architecture().config())
    found = costs(model, side=128)
    assert sum(found.parameters.values()) + 2 * model.log_gain.numel() == sum(p.numel() for p in model.parameters())
    assert found.kmacs == pytest.approx({part: macs / 1000 for part, macs in macs_per_pixel(model).items()})
    assert found.table().loc["all", "parameters"] == sum(found.parameters.values())
    # x and x_hat are there at the end, in float32
    assert found.peak_mb > 2 * 3 * 128 * 128 * 4 / 1e6
    deeper = costs(CompressionModel(Architecture(depth=2).config()), side=128)
    assert deeper.latent_sees > found.latent_sees and deeper.pixel_sees > found.pixel_sees
    assert deeper.kmacs["g_a"] > found.kmacs["g_a"] and deeper.kmacs["entropy"] == found.kmacs["entropy"]
    bare = costs(CompressionModel(Architecture(hyperprior=False, checkerboard=False).config()), side=128)
    assert bare.parameters["entropy"] < found.parameters["entropy"] and bare.kmacs["g_a"] == found.kmacs["g_a"]


def test_costs_follow_the_sliders_at_once(builder):
    first = builder.price.value, builder.drawing.value
    assert "kMAC/pixel" in first[0] and "MB" in first[0] and first[1].startswith("<svg")
    builder.controls["hyperprior"].value = False
    builder.designing.wait()
    assert (
        builder.price.value != first[0] and "entropy.h_a" in first[1] and "entropy.h_a" not in builder.drawing.value
    )
    assert builder.fault.value == ""


def test_a_trial_becomes_a_curve_beside_the_others(builder, folder, photo, tmp_path):
    builder.train.click()
    assert builder.train.disabled
    until(lambda: "done" in builder.state.value, 120)
    assert builder.trouble.value == "" and builder.progress.value == STEPS and not builder.train.disabled
    builder.controls["checkerboard"].value = False
    builder.train.click()
    until(lambda: len(trials(tmp_path)["name"].unique()) == 2, 120)
    builder.trying.wait()
    points = trials(tmp_path)
    assert list(points["quality"]) == 2 * list(architecture.QUALITIES) and (points["bpp"] > 0).all()
    assert all(name in builder.chart.value for name in points["name"])
    drawn = trials_chart(points)
    assert len(drawn.axes[0].get_lines()) == 2

    again = ModelBuilder([folder], tmp_path, {"photo": photo[:128, :128]}, STEPS)  # a page that is loaded anew
    again.trying.wait()
    assert all(name in again.chart.value for name in points["name"])


def test_a_trial_that_is_stopped_goes_on(folder, photo, tmp_path):
    builder = ModelBuilder([folder], tmp_path, {"photo": photo[:128, :128]}, 400)
    for name, value in SMALL.items():
        builder.controls[name].value = value
    builder.train.click()
    until(lambda: builder.progress.value > 0, 120)
    builder.stop.click()
    until(lambda: "stopped at step" in builder.state.value, 60)
    assert trials(tmp_path).empty and not builder.train.disabled
    run = trial(builder.architecture, [folder], tmp_path)
    assert 0 < run.log()["step"].max() < 400
    run.run_here(trial_training(int(run.log()["step"].max()) + 2))  # what is on disk is gone on from


def test_errors_are_shown(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(model_builder, "measure_trial", lambda run, pictures: 1 / 0)
    builder.train.click()
    until(lambda: "ZeroDivisionError" in builder.trouble.value, 120)
    builder.data = [tmp_path / "nowhere"]
    builder.train.click()
    until(lambda: "NoImagesError" in builder.trouble.value)


def test_a_folder_of_small_pictures_will_do(tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "small.png")
    assert trial(Architecture(**SMALL), [tmp_path], tmp_path / "runs").watched.shape == (64, 64, 3)
