"""The report: every table and chart is there, and says what was measured."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ganlib.evaluation import baselines, cited, measure, report


@pytest.fixture(scope="module")
def pictures(photo):
    return {"one": photo[:144, :150], "two": photo[200:344, 150:310]}


@pytest.fixture
def folder(tmp_path, pictures):
    path = tmp_path / "images"
    path.mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(path / f"{name}.png")
    return path


@pytest.fixture(autouse=True)
def short(codec, monkeypatch):
    """Few points, few baselines and one miniature: AVIF takes its time."""
    ladders = {"JPEG": (2, 5, 10, 30), "WebP": (5, 30, 60, 80), "AVIF": (30, 60)}
    monkeypatch.setattr(measure, "LADDER", (0, 30, 60, 100))
    monkeypatch.setattr(baselines, "available", lambda: list(ladders))
    points = baselines.rd_points
    monkeypatch.setattr(baselines, "rd_points", lambda c, p, q=None: points(c, p, q or ladders[c]))
    monkeypatch.setattr(cited, "load_miniatures", lambda: {"mini": codec})
    monkeypatch.setattr(cited, "LADDER", (0, 50, 100))
    monkeypatch.setattr(cited, "JPEG_LADDER", (20,))
    monkeypatch.setattr(report, "REPORT_BPP", 0.8)  # the fixture model does not go lower on such small crops


def test_everything_is_written_and_agrees(codec, folder, tmp_path, pictures):
    written = report.write_report(codec, tmp_path / "out", folder, progress=False)
    assert set(written) == {
        "sizes.csv",
        "perception.csv",
        "points.csv",
        "curves.csv",
        "curves.png",
        "summary.csv",
        "crops.png",
        *(f"{kind}_{name}.png" for kind in ("before_after", "realism") for name in pictures),
        "cited.csv",
        "cited.png",
    }  # no picture is large enough for the four sizes
    sizes = pd.read_csv(written["sizes.csv"])
    assert list(sizes["png_bytes"]) == [(folder / f"{name}.png").stat().st_size for name in pictures]
    assert np.allclose(sizes["ratio"], sizes["png_bytes"] / sizes["gic_bytes"], atol=0.06)
    assert (8 * sizes["gic_bytes"] / (sizes["width"] * sizes["height"]) <= 0.8).all()
    perception = pd.read_csv(written["perception.csv"]).set_index("codec")
    assert {"JPEG", "AVIF", "ganlib tiny, realism 0", "ganlib tiny, realism 1"} < set(perception.index)
    assert (perception["dists"] > 0).all()
    assert perception.loc["JPEG", "lpips"] == pytest.approx(sizes["lpips, JPEG"].mean(), abs=1e-4)
    points = pd.read_csv(written["points.csv"])
    assert set(points["codec"]) == {"ganlib tiny", "JPEG", "WebP", "AVIF"}
    curves = pd.read_csv(written["curves.csv"])
    ours = points[(points["codec"] == "ganlib tiny") & (points["quality"] == 30)]
    mean = curves[(curves["codec"] == "ganlib tiny") & (curves["quality"] == 30)]
    assert mean["psnr"].item() == pytest.approx(ours["psnr"].mean(), abs=1e-3)
    assert mean["psnr_sem"].item() == pytest.approx(ours["psnr"].sem(), abs=1e-3)
    summary = pd.read_csv(written["summary.csv"])
    assert np.isfinite(summary.set_index("codec").loc["JPEG", "our BD-rate, %"])
    assert np.isnan(summary.set_index("codec").loc["AVIF", "our BD-rate, %"])  # two points are no curve
    for name in ("curves.png", "cited.png"):
        with Image.open(written[name]) as chart:
            assert chart.width > 600
    miniatures = pd.read_csv(written["cited.csv"])
    assert list(miniatures["codec"].unique()) == ["mini", "JPEG"] and miniatures["psnr"].notna().all()


def test_without_the_miniatures_their_part_is_left_out(codec, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cited, "load_miniatures", dict)
    assert report.write_report(codec, tmp_path / "out", folder, parts=["cited"], progress=False) == {}


def test_parts_are_written_alone_and_pictures_of_one_name_have_figures_of_their_own(
    codec, tmp_path, photo, monkeypatch
):
    monkeypatch.setattr(report, "REPORT_BPP", 4.0)
    monkeypatch.setattr(baselines, "available", lambda: ["JPEG"])
    for place, pixels in (("left", photo[:64, :64]), ("right", photo[200:264, 200:264])):
        (tmp_path / "images" / place).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "images" / place / "same.png")
    written = report.write_report(codec, tmp_path / "out", tmp_path / "images", ["sizes"], progress=False)
    figures = [f"{kind}_{place}/same.png" for place in ("left", "right") for kind in ("before_after", "realism")]
    assert list(written) == ["sizes.csv", "perception.csv", "crops.png", *figures]
    assert all(path.is_file() for path in written.values())
    assert list(pd.read_csv(written["sizes.csv"])["image"]) == ["left/same", "right/same"]


def test_where_nothing_can_be_written_nothing_is_measured(codec, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(report.measure, "equal_bytes", None)
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotADirectoryError):
        report.write_report(codec, tmp_path / "file", folder, parts=["sizes"], progress=False)


def test_unknown_parts_are_refused_before_anything_is_measured(codec, folder, tmp_path):
    with pytest.raises(ValueError, match="choose from sizes, curves, four-sizes, cited"):
        report.write_report(codec, tmp_path / "none", folder, parts=["pictures"])
    assert not (tmp_path / "none").exists()
