"""The measure on photographs that are not trained on: what it says, where it is written, what it leaves alone."""

import csv

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY
from PIL import Image

import ganlib
from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.datasets import NoImagesError
from ganlib.evaluation.metrics import lpips
from ganlib.training import validation
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import train
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.validation import QUALITIES, SIDE, Validation
from ganlib.weights import load_weights

TINY_CONFIG = load_weights(TINY).model.config
pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, photo):
    """Two photographs, one of them gray."""
    path = tmp_path_factory.mktemp("held")
    Image.fromarray(photo[:300, :400]).save(path / "a.png")
    Image.fromarray(photo[200:, 100:400]).convert("L").save(path / "b.png")
    return path


@pytest.fixture
def run(accelerator):
    return RateDistortionRun(TINY_CONFIG, TrainConfig(**SMALL), accelerator, load_weights(TINY))


@pytest.fixture
def small_crops(monkeypatch):
    """For tests of when it is measured: one of 64 pixels costs a ninth of one of 192."""
    monkeypatch.setattr(validation, "SIDE", 64)


def written(out):
    with open(out / "validation.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_agrees_with_whole_files(run, held_out, codec):
    """bpp and PSNR as of files of the same crops, but for what a file says of itself; LPIPS at realism 1."""
    rows = Validation(held_out).measure(run)
    assert [row["quality"] for row in rows] == list(QUALITIES)
    crops = []
    for name in ("a.png", "b.png"):
        pixels = np.array(Image.open(held_out / name).convert("RGB"))
        top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
        crops.append(pixels[top : top + SIDE, left : left + SIDE])
    for row in rows:
        files = [codec.compress(crop, quality=row["quality"]) for crop in crops]
        bpp = np.mean([8 * len(data) / SIDE**2 for data in files])
        assert row["bpp"] < bpp < row["bpp"] + 8 * 100 / SIDE**2  # a hundred bytes of header at the most
        decoded = [np.asarray(codec.decompress(data)) for data in files]
        errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(crops, decoded)]
        assert row["psnr"] == pytest.approx(np.mean(10 * np.log10(255**2 / np.array(errors))), abs=0.02)
        weight = TINY_CONFIG.lambda_weight(row["quality"])
        balanced = (0.005 / weight) ** 0.5 * (row["bpp"] + weight * np.mean(errors))
        assert row["loss"] == pytest.approx(balanced, rel=1e-3)
        natural = [lpips(a, np.asarray(codec.decompress(data, realism=1.0))) for a, data in zip(crops, files)]
        assert row["lpips"] == pytest.approx(np.mean(natural), abs=1e-3)


def test_it_leaves_the_run_as_it_was(run, held_out):
    run.model.train()
    generator, before = torch.get_rng_state(), [t.clone() for t in (*run.model.state_dict().values(),)]
    measured = Validation(held_out)
    assert measured.measure(run) == measured.measure(run)
    assert torch.equal(torch.get_rng_state(), generator) and run.model.training
    assert all(map(torch.equal, run.model.state_dict().values(), before))
    assert all(p.grad is None for p in run.average.parameters())


@pytest.mark.parametrize("stage, config", [(RateDistortionRun, TrainConfig), (AdversarialRun, AdversarialConfig)])
def test_each_checkpoint_is_measured_and_a_resumed_run_goes_on(
    folder, held_out, tmp_path, small_crops, stage, config
):
    config = config(**SMALL, steps=4, checkpoint_minutes=0.0)

    def stop(row, run):
        if row["step"] == 2:
            raise KeyboardInterrupt

    def go(out, on_log=None):
        train(
            stage, [folder], out, TINY_CONFIG, config, init=TINY, on_log=on_log, validation=held_out, progress=False
        )
        return [{name: value for name, value in row.items() if name != "seconds"} for row in written(out)]

    whole = go(tmp_path / "whole")
    # after each step, and once more at the end
    assert [row["step"] for row in whole] == [step for step in "12344" for _ in QUALITIES]
    stopped = go(tmp_path / "parts", stop)
    assert stopped[-1]["step"] == "2"
    parts = go(tmp_path / "parts")
    assert {tuple(row.values()) for row in parts} == {tuple(row.values()) for row in whole}
    assert ganlib.load_codec(tmp_path / "whole" / "weights.safetensors")


def test_rows_beyond_the_checkpoint_are_undone(folder, held_out, tmp_path, small_crops):
    config = TrainConfig(**SMALL, steps=2)
    train(RateDistortionRun, [folder], tmp_path, TINY_CONFIG, config, validation=held_out, progress=False)
    with open(tmp_path / "validation.csv", "a") as file:
        file.write("3,1.0,50.0,1.0,20.0,0.5,2.0\n")
    config = TrainConfig(**SMALL, steps=4)
    train(RateDistortionRun, [folder], tmp_path, TINY_CONFIG, config, validation=held_out, progress=False)
    assert [row["step"] for row in written(tmp_path)] == [step for step in "24" for _ in QUALITIES]
    seconds = [float(row["seconds"]) for row in written(tmp_path)]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_small_photographs_are_mirrored_and_a_folder_without_any_is_refused(tmp_path, photo):
    Image.fromarray(photo[:50, :300]).save(tmp_path / "small.png")
    (crop,) = Validation(tmp_path).crops
    assert crop.shape == (SIDE, SIDE, 3)
    left = (300 - SIDE) // 2
    assert np.array_equal(crop[:50], photo[:50, left : left + SIDE])
    assert np.array_equal(crop[50:100], photo[49::-1, left : left + SIDE])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError):
        Validation(tmp_path / "empty")
