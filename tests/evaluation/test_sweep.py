"""The sweep: what it compares, that it goes on where it was stopped, and what it writes."""

import dataclasses
import signal

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL
from matplotlib.text import Text

from ganlib.config import TrainConfig, preset
from ganlib.evaluation import sweep
from ganlib.model.compression_model import CompressionModel
from ganlib.training.rate_distortion import RateDistortionRun

STEPS = 2
PARAMETERS = 214_824  # of preset tiny


@pytest.fixture
def pictures(photo):
    return {"one": photo[:64, :96]}


@pytest.fixture
def configurations():
    config = TrainConfig(**SMALL | {"steps": STEPS})
    make = sweep.Configuration
    return [
        make(sweep.DEFAULT, "none", preset("tiny"), config),
        make("slower", "learning rate", preset("tiny"), dataclasses.replace(config, lr=1e-3)),
    ]


@pytest.fixture
def trained(monkeypatch):
    """Names of the folders that were trained in, in turn."""
    runs, real = [], sweep.train
    monkeypatch.setattr(
        sweep,
        "train",
        lambda stage, data, run, *args, **kw: (runs.append(run.name), real(stage, data, run, *args, **kw)),
    )
    return runs


def test_the_grid_changes_one_factor_at_a_time():
    first, *others = sweep.grid(100)
    assert first.name == sweep.DEFAULT and first.model == preset("tiny")
    assert len({c.name for c in (first, *others)}) == len(others) + 1
    for other in others:
        changed = {
            field.name
            for kind in ("model", "train")
            for field in dataclasses.fields(getattr(first, kind))
            if getattr(getattr(first, kind), field.name) != getattr(getattr(other, kind), field.name)
        }
        allowed = {
            "seed": {"seed"},
            "learning rate": {"lr"},
            "batch": {"batch"},
            "depth": set(sweep.BLOCKS),
            "latent channels": set(sweep.LATENTS),
            "width": set(sweep.WIDTHS),
            "lambda range": {"lambda_low", "lambda_high"},
        }[other.factor]
        assert changed == allowed
    assert {c.train.steps for c in (first, *others)} == {100}
    # every factor is tried to both sides of the default

    def size(c):
        numbers = {
            "learning rate": c.train.lr,
            "batch": c.train.batch,
            "width": sum(c.model.generator_widths),
            "depth": sum(c.model.generator_blocks),
            "latent channels": c.model.latent_channels,
            "lambda range": c.model.lambda_high / c.model.lambda_low,
        }
        return numbers[factor]

    for factor in {c.factor for c in others} - {"seed"}:
        below, above = sorted((c for c in others if c.factor == factor), key=size)
        assert size(below) < size(first) < size(above), factor
    assert sorted(c.factor for c in others) == sorted(
        ["seed", *2 * ["learning rate", "batch", "width", "depth", "latent channels", "lambda range"]]
    )
    for configuration in others:
        CompressionModel(configuration.model)


def test_a_wider_model_codes_as_many_latents():
    wide = sweep.scaled(preset("tiny"), 2, sweep.WIDTHS)
    assert wide.encoder_widths == (32, 48, 64) and wide.latent_channels == preset("tiny").latent_channels
    assert sum(p.numel() for p in CompressionModel(wide).parameters()) > 2 * PARAMETERS


def test_it_writes_table_curves_and_chart(folder, tmp_path, configurations, pictures, trained):
    table = sweep.sweep([folder], tmp_path, STEPS, configurations, pictures, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.csv", "sweep.csv", "sweep.png"]
    assert list(table["name"]) == [sweep.DEFAULT, "slower"] and len(trained) == 2
    points = pd.read_csv(tmp_path / "points.csv")
    assert list(points["quality"]) == [*sweep.QUALITIES] * 2
    assert (points["bpp"] > 0).all() and points["psnr"].between(5, 50).all()
    assert set(points["parameters"]) == {PARAMETERS} and set(points["learning_rate"]) == {1e-3, 1e-2}
    written = pd.read_csv(tmp_path / "sweep.csv")
    assert written[sweep.RATE][0] == 0 and list(written["name"]) == list(table["name"])


def test_what_is_known_is_not_measured_again(folder, tmp_path, configurations, pictures, trained):
    sweep.sweep([folder], tmp_path, STEPS, configurations[:1], pictures, progress=False)
    before = pd.read_csv(tmp_path / "points.csv")
    sweep.sweep([folder], tmp_path, STEPS, configurations, pictures, progress=False)
    assert trained == [f"0-{STEPS}-steps", f"1-{STEPS}-steps"]
    after = pd.read_csv(tmp_path / "points.csv")
    pd.testing.assert_frame_equal(after[: len(before)], before)
    sweep.sweep([folder], tmp_path, STEPS, configurations, pictures, progress=False)
    assert len(trained) == 2
    other = dataclasses.replace(configurations[1].train, lr=2e-3)
    for changed in (
        [dataclasses.replace(c, train=dataclasses.replace(c.train, steps=STEPS + 1)) for c in configurations],
        [configurations[0], dataclasses.replace(configurations[1], train=other)],
    ):
        with pytest.raises(ValueError, match="(steps|learning_rate).*another --out"):
            sweep.sweep([folder], tmp_path, STEPS, changed, pictures, progress=False)


def test_a_run_cut_off_by_ctrl_c_is_not_measured_and_goes_on(folder, tmp_path, configurations, pictures, monkeypatch):
    real, calls = RateDistortionRun.update, []

    def interrupted(self, *args):
        calls.append(self.step)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(self, *args)

    monkeypatch.setattr(RateDistortionRun, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep([folder], tmp_path, STEPS, configurations[:1], pictures, progress=False)
    assert not (tmp_path / "points.csv").exists()
    assert len(sweep.sweep([folder], tmp_path, STEPS, configurations[:1], pictures, progress=False)) == 1
    assert calls == [0, 1]  # the first step was made whole, and once
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["", "name,quality\ndefault,3\n", "\x00", '"'])
def test_a_damaged_record_is_told_and_stays(folder, tmp_path, configurations, pictures, text):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(ValueError, match="points.csv is not the record of this sweep .*choose another --out"):
        sweep.sweep([folder], tmp_path, STEPS, configurations, pictures, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["points.csv"]
    assert (tmp_path / "points.csv").read_text() == text


@pytest.mark.parametrize("steps", [0, -3])
def test_steps_that_make_no_sense_are_refused(folder, tmp_path, steps):
    with pytest.raises(ValueError, match=f"steps={steps} must be from 1 to"):
        sweep.sweep([folder], tmp_path / "out", steps)
    assert not (tmp_path / "out").exists()


def points_of(**factors):
    """Curves that need `factor` times the bits of the default at every PSNR."""
    bpp, psnr = np.array([0.2, 0.3, 0.45, 0.7]), [26.0, 27.5, 29.0, 30.5]
    frames = [
        pd.DataFrame(
            {"name": name, "factor": kind, "steps": STEPS, "quality": range(4), "bpp": factor * bpp, "psnr": psnr}
        )
        for name, (kind, factor) in factors.items()
    ]
    return pd.concat(frames, ignore_index=True)


def test_bd_rate_is_against_the_default():
    table = sweep.compare(points_of(default=("none", 1), again=("seed", 1.02), better=("width", 0.8)))
    assert list(table[sweep.RATE]) == pytest.approx([0, 2, -20], abs=1e-6)
    assert table["psnr at 0.50 bpp"].is_monotonic_increasing is False and table["psnr at 0.50 bpp"].argmax() == 2
    with pytest.raises(ValueError, match="set against it"):
        sweep.compare(points_of(better=("width", 0.8)))


def test_a_curve_that_does_not_rise_has_no_bd_rate_and_is_drawn_all_the_same():
    points = points_of(default=("none", 1), again=("seed", 1.02), broken=("width", 0.8))
    points.loc[points["name"] == "broken", "psnr"] = [26.0, 27.5, 27.0, 26.5]
    assert np.isnan(sweep.compare(points)[sweep.RATE].iloc[2])
    said = " ".join(text.get_text() for text in sweep.chart(points).findobj(Text))
    assert "no common range" in said and "+2.0" in said
    for name in ("default", "again", "broken"):
        assert name in said
