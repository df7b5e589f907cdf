"""The tables in data/report agree with each other: each was measured with one and the same weights."""

import numpy as np
import pandas as pd
import pytest

from ganlib import cited
from ganlib.config import DATA
from ganlib.evaluation import ablation, measure, report, sweep
from ganlib.weights import load_weights

REPORT = DATA / "report"
KODAK = REPORT / "kodak"
ROUNDED = 2e-4  # tables have four digits behind the point


def test_sizes_are_the_pictures_that_perception_is_the_mean_of():
    sizes, perception = pd.read_csv(KODAK / "sizes.csv"), pd.read_csv(KODAK / "perception.csv").set_index("codec")
    assert len(sizes) == 24
    for metric in ("psnr", "lpips"):
        means = sizes.filter(like=f"{metric}, ").mean().rename(lambda name: name.removeprefix(f"{metric}, "))  # noqa: B023
        assert sorted(means.index) == sorted(perception.index)
        pd.testing.assert_series_equal(
            means.sort_index(), perception[metric].sort_index(), atol=ROUNDED, rtol=0, check_names=False
        )
    ours = perception.filter(like="ganlib light", axis=0)["bytes"]
    assert len(ours) >= 3 and np.allclose(ours, sizes["gic_bytes"].mean(), atol=0.01)


def test_curves_and_summary_are_those_of_the_points():
    points, curves = pd.read_csv(KODAK / "points.csv"), pd.read_csv(KODAK / "curves.csv")
    assert (points.groupby(["codec", "quality"])["image"].count() == 24).all()
    columns = ["codec", "quality", "bpp", "psnr"]
    expected = measure.mean_curves(points)
    pd.testing.assert_frame_equal(curves[columns], expected[columns], atol=ROUNDED, rtol=0, check_dtype=False)
    summary = pd.read_csv(KODAK / "summary.csv").set_index("codec")
    table = report.summary_table(expected, "ganlib light").set_index("codec")
    for column in table:
        assert np.allclose(summary.loc[table.index, column], table[column], atol=0.01, equal_nan=True), column


def test_the_faithful_end_is_as_good_in_both_tables():
    """Interpolated at 0.28 bpp, the curve of equal qualities lies near the pictures of equal rates."""
    perception, summary = (pd.read_csv(KODAK / name).set_index("codec") for name in ("perception.csv", "summary.csv"))
    at_equal_rate, at_equal_quality = (
        perception.loc["ganlib light, realism 0", "psnr"], summary.loc["ganlib light", "psnr at 0.28 bpp"]
    )  # fmt: skip
    assert 0 < at_equal_rate - at_equal_quality < 0.5


def test_the_sweep_is_of_today_s_default():
    points, table = pd.read_csv(REPORT / "sweep" / "points.csv"), pd.read_csv(REPORT / "sweep" / "sweep.csv")
    grid = sweep.grid()
    assert sorted(table["name"]) == sorted(c.name for c in grid)
    sweep.measured(REPORT / "sweep" / "points.csv", grid)  # raises where one was another configuration
    pd.testing.assert_frame_equal(table, sweep.compare(points), atol=1e-3, rtol=1e-3, check_dtype=False)


def test_the_ablation_is_the_mean_of_its_points():
    points, table = (pd.read_csv(REPORT / "ablation" / f"{name}.csv") for name in ("points", "table"))
    measured = table.drop(columns="judge")
    expected = ablation.table(points, {})
    pd.testing.assert_frame_equal(measured, expected[measured.columns], atol=1e-4, rtol=1e-3, check_dtype=False)
    # the judge was examined on every third of the 24 pictures of 768x512, in crops side by side, each with its copy
    answers = 24 // ablation.HELD_OUT * (768 // ablation.CROP) * (512 // ablation.CROP) * 2
    right = table["judge"] * answers
    assert np.allclose(right, right.round(), atol=0.003) and table["judge"].between(0.5, 1).all()


def test_the_cited_models_were_measured_with_their_shipped_weights():
    tables = {path.stem: pd.read_csv(path) for path in (REPORT / "cited" / "points").glob("*.csv")}
    assert tables.keys() == {*cited.NAMES, "JPEG"}
    for name in cited.NAMES:
        assert set(tables[name]["weights"]) == {load_weights(name).fingerprint.hex()}, name
    assert len({mark for table in tables.values() for mark in table["pictures"]}) == 1
    curves = pd.read_csv(REPORT / "cited" / "curves.csv")
    expected = measure.mean_curves(pd.concat(tables.values(), ignore_index=True))
    columns, by = ["codec", "quality", "bpp", "psnr", "ms_ssim", "lpips"], ["codec", "quality"]
    ours, theirs = (t[columns].sort_values(by, ignore_index=True) for t in (curves, expected))
    pd.testing.assert_frame_equal(ours, theirs, atol=ROUNDED, rtol=0, check_dtype=False)


@pytest.mark.parametrize("folder", ["kodak", "megapixel"])
def test_every_table_of_results_names_the_model(folder):
    for path in (REPORT / folder).glob("*.csv"):
        assert "ganlib light" in path.read_text(), path
