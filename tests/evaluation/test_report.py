"""The report: every table and chart is there, and says what was measured."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ganlib.evaluation import comparisons, measure, report


@pytest.fixture(scope="module")
def pictures(photo):
    return {"one": photo[:192, :200], "two": photo[200:400, 150:350]}


@pytest.fixture
def folder(tmp_path, pictures):
    path = tmp_path / "images"
    path.mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(path / f"{name}.png")
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few points: AVIF takes its time."""
    ladders = {"JPEG": (2, 5, 10, 30), "JPEG 2000": (0.3, 0.6, 1, 1.5), "WebP": (5, 30, 60, 80), "AVIF": (30, 60)}
    monkeypatch.setattr(measure, "LADDER", (0, 30, 60, 100))
    points = measure.anchors.rd_points
    monkeypatch.setattr(measure.anchors, "rd_points", lambda c, p, q=None: points(c, p, q or ladders[c]))
    monkeypatch.setattr(report, "REPORT_BPP", 0.6)  # the fixture model does not go lower on such small crops


def test_everything_is_written_and_agrees(codec, folder, tmp_path, pictures):
    written = report.write_report(codec, tmp_path / "out", folder, crops=1, progress=False)
    assert set(written) == {
        "sizes.csv",
        "perception.csv",
        "points.csv",
        "curves.csv",
        "curves.png",
        "summary.csv",
        "before_after_one.png",
        "realism_one.png",
    }  # no picture is large enough for the four sizes
    sizes = pd.read_csv(written["sizes.csv"])
    assert list(sizes["png_bytes"]) == [(folder / f"{name}.png").stat().st_size for name in pictures]
    assert np.allclose(sizes["ratio"], sizes["png_bytes"] / sizes["gic_bytes"], atol=0.06)
    assert (8 * sizes["gic_bytes"] / (sizes["width"] * sizes["height"]) <= 0.6).all()
    perception = pd.read_csv(written["perception.csv"]).set_index("codec")
    assert {"JPEG", "AVIF", "ganlib light, realism 0", "ganlib light, realism 1"} < set(perception.index)
    assert perception.loc["JPEG", "lpips"] == pytest.approx(sizes["lpips, JPEG"].mean(), abs=1e-4)
    points = pd.read_csv(written["points.csv"])
    assert set(points["codec"]) == {"ganlib light", "JPEG", "JPEG 2000", "WebP", "AVIF"}
    curves = pd.read_csv(written["curves.csv"])
    ours = points[(points["codec"] == "ganlib light") & (points["quality"] == 30)]
    mean = curves[(curves["codec"] == "ganlib light") & (curves["quality"] == 30)]
    assert mean["psnr"].item() == pytest.approx(ours["psnr"].mean(), abs=1e-3)
    summary = pd.read_csv(written["summary.csv"])
    assert np.isfinite(summary.set_index("codec").loc["JPEG", "our BD-rate, %"])
    assert np.isnan(summary.set_index("codec").loc["AVIF", "our BD-rate, %"])  # two points are no curve
    with Image.open(written["curves.png"]) as chart:
        assert chart.width > 600


def test_evaluation_measures_real_files(codec, pictures):
    table = measure.evaluate(codec, pictures, [40], realisms=(0.0, 1.0), progress=False)
    assert list(table["realism"]) == [0.0, 1.0] * 2
    data = codec.compress(pictures["two"], quality=40)
    row = table[(table["image"] == "two") & (table["realism"] == 0)].iloc[0]
    assert row["bytes"] == len(data) and row["bpp"] == 8 * len(data) / 40_000
    decoded = np.asarray(codec.decompress(data), float)
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((decoded - pictures["two"]) ** 2)))


def test_psnr_at_a_rate_is_interpolated_and_never_extrapolated():
    curve = pd.DataFrame({"bpp": [0.4, 0.1, 0.2], "psnr": [32.0, 28.0, 30.0]})
    assert measure.psnr_at(curve, [0.2, 0.2 * 2**0.5]).tolist() == pytest.approx([30.0, 31.0])
    assert np.isnan(measure.psnr_at(curve, [0.05, 0.5])).all()


def test_busiest_crop_is_where_the_detail_is():
    flat = np.zeros((600, 700, 3), np.uint8)
    flat[300:500, 400:600] = np.random.default_rng(0).integers(0, 255, (200, 200, 3))
    x0, y0, x1, y1 = comparisons.busiest_crop(flat, 200)
    assert x0 <= 450 <= x1 and y0 <= 400 <= y1 and (x1 - x0, y1 - y0) == (200, 200)
    assert comparisons.busiest_crop(flat[:50, :30], 200) == (0, 0, 30, 30)


def test_images_of_one_name_are_both_kept(folder, photo):
    Image.fromarray(photo[:64, :64]).save(folder / "one.jpg")
    assert len(measure.load_all(sorted(folder.iterdir()))) == 3


def test_parts_are_written_alone_and_unknown_ones_refused(codec, folder, tmp_path):
    written = report.write_report(codec, tmp_path / "out", folder, crops=1, parts=["sizes"], progress=False)
    assert set(written) == {"sizes.csv", "perception.csv", "before_after_one.png", "realism_one.png"}
    with pytest.raises(ValueError, match="choose from sizes, curves, four-sizes"):
        report.write_report(codec, tmp_path / "none", folder, parts=["pictures"])
    assert not (tmp_path / "none").exists()


def test_a_picture_is_reduced_to_a_png_of_the_size_asked_for(photo):
    scaled = comparisons.reduced_to(photo, 100_000)
    assert comparisons.png_bytes(scaled) == pytest.approx(100_000, rel=comparisons.SIZE_TOLERANCE)
    assert scaled.shape[0] == scaled.shape[1]
    whole = comparisons.png_bytes(photo)
    assert (comparisons.reduced_to(photo, whole) == photo).all()
    assert comparisons.reduced_to(photo, 2 * whole) is None


def test_the_four_sizes_of_the_report(codec, photo, monkeypatch):
    monkeypatch.setattr(comparisons, "REPORT_SIZES", ((60_000, 8_700), (250_000, 12_000), (9_000_000, 35_000)))
    table, figures = comparisons.four_sizes(codec, {"a": photo[:256, :256], "b": photo}, progress=False)
    assert list(figures) == [60, 250]  # nothing is as large as 9 MB
    ours = table[table["codec"] == "ganlib light, realism 1"]
    assert list(ours["image"]) == ["a", "b"] and (ours["bytes"] <= [8_700, 12_000]).all()
    assert np.allclose(ours["png_bytes"], [60_000, 250_000], rtol=0.03)
    jpeg = table[table["codec"] == "JPEG"]
    assert np.allclose(jpeg["bytes"], ours["bytes"], rtol=0.05)
    assert (table["lpips"] > 0).all() and (table["psnr"] < 60).all()
    assert np.allclose(table["ratio"], table["png_bytes"] / table["bytes"], atol=0.06)
