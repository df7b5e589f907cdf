"""The comparison of the miniatures: curves, table and pictures from the bytes of files."""

import numpy as np
import pandas as pd
import pytest
from small_models import small_codec

import ganlib
from ganlib.config import preset
from ganlib.evaluation import baselines
from ganlib.evaluation import cited as comparison
from ganlib.evaluation.cited_chart import SYSTEMS
from ganlib.evaluation.metrics import bits_per_pixel, lpips, psnr
from ganlib.evaluation.published import published


@pytest.fixture(autouse=True)
def short_ladders(monkeypatch):
    monkeypatch.setattr(comparison, "LADDER", (0, 30, 60, 100))
    monkeypatch.setattr(comparison, "JPEG_LADDER", (10, 30, 60, 80))


@pytest.fixture(scope="module")
def codecs(codec):
    """The fixture model in the place of `mini`, and two of the others."""
    return {"mini": codec, "toderici": small_codec("toderici"), "xie": small_codec("xie")}


@pytest.fixture(scope="module")
def pictures(photo):
    return {"left": photo[100:292, 100:292], "right": photo[200:392, 300:492]}


def test_a_recurrent_curve_has_a_point_for_each_pass(codecs):
    assert comparison.qualities(codecs["mini"]) == comparison.qualities(codecs["xie"]) == comparison.LADDER
    assert comparison.qualities(codecs["toderici"]) == [0.0, 50.0, 100.0]


def test_rows_are_measured_on_real_files(codecs, pictures):
    table = comparison.measure("toderici", codecs["toderici"], {"left": pictures["left"]}, progress=False)
    pixels = pictures["left"]
    data = codecs["toderici"].compress(pixels, 50)
    decoded = np.asarray(codecs["toderici"].decompress(data))
    row = table[table["quality"] == 50].iloc[0]
    assert (row["bytes"], row["bpp"]) == (len(data), bits_per_pixel(len(data), 192, 192))
    assert (row["psnr"], row["lpips"]) == (psnr(pixels, decoded), lpips(pixels, decoded))
    jpeg = comparison.measure("JPEG", None, {"left": pixels}, progress=False)
    assert list(jpeg["bytes"]) == [len(baselines.encode("JPEG", pixels, q)) for q in comparison.JPEG_LADDER]


def test_small_pictures_have_no_ms_ssim_and_no_lpips(codecs, photo):
    row = comparison.row_of("xie", "tiny", photo[:40, :40], 100, photo[:40, :40])
    assert np.isnan(row["ms_ssim"]) and np.isnan(row["lpips"]) and row["psnr"] == np.inf


def test_what_is_measured_is_not_measured_again(codecs, pictures, tmp_path, monkeypatch):
    first = comparison.measure_all({"mini": codecs["mini"]}, pictures, tmp_path, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["JPEG.csv", "mini.csv"]
    called = []
    real = comparison.measure
    monkeypatch.setattr(comparison, "measure", lambda name, *args: called.append(name) or real(name, *args))
    again = comparison.measure_all({"mini": codecs["mini"]}, pictures, tmp_path, progress=False)
    assert not called
    pd.testing.assert_frame_equal(first, again, check_dtype=False, atol=1e-4)
    comparison.measure_all({"mini": codecs["xie"]}, pictures, tmp_path, progress=False)  # other weights
    assert called == ["mini"]
    other = pictures | {"right": pictures["left"]}  # as many pictures, of the same names
    comparison.measure_all({"mini": codecs["xie"]}, other, tmp_path, progress=False)
    assert called == ["mini", "mini", "JPEG"]


def test_quick_curves_take_what_is_known_and_measure_the_rest(codecs, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "POINTS", tmp_path)
    two = {name: codecs[name] for name in ("mini", "toderici")}
    quick = comparison.quick_curves(two, pictures, progress=False)
    assert quick["psnr"].notna().all() and quick["lpips"].isna().all()
    assert list(quick["quality"]) == [0, 60, 0.0, 100.0, 10, 60]
    comparison.measure_all({"mini": codecs["mini"]}, pictures, tmp_path, progress=False)
    known = comparison.quick_curves(two, pictures, progress=False)
    assert known["codec"].value_counts().to_dict() == {"mini": 4, "JPEG": 4, "toderici": 2}
    assert known["psnr"].notna().all()


def test_the_chart_says_what_is_measured_and_what_was_published(codecs, pictures):
    curves = comparison.quick_curves(codecs, pictures, progress=False)
    left, right = comparison.chart(curves, pictures, "two photographs").axes
    assert "Measured here" in left.get_title(loc="left") and "2 images, two photographs" in left.get_title(loc="left")
    assert "Published" in right.get_title(loc="left") and "Kodak" in right.get_title(loc="left")
    assert len(left.get_lines()) == len(codecs) + 1 and len(right.get_lines()) == 6  # five papers and JPEG
    assert left.get_ylim() == right.get_ylim() and left.get_xlim() == right.get_xlim()
    drawn = left.get_lines()[1]  # toderici, in one colour on both sides
    assert drawn.get_color() == right.get_lines()[0].get_color() == SYSTEMS["toderici"][1]
    expected = curves[curves["codec"] == "toderici"]
    assert np.allclose(drawn.get_ydata(), expected["psnr"]) and np.allclose(drawn.get_xdata(), expected["bpp"])
    paper = published("kodak", ["Toderici 2017 (RNN)"])
    assert np.allclose(right.get_lines()[0].get_ydata(), paper.sort_values("bpp")["psnr"])


def test_everything_is_written(codecs, pictures, tmp_path):
    written = comparison.write_comparison(codecs, pictures, tmp_path, "two photographs", shown=1, progress=False)
    names = {"curves.csv", "table.csv", "psnr.png", "ms_ssim.png", "lpips.png", "cited.png"}
    names |= {"equal_bytes_left.png"}
    assert set(written) == names and all(path.stat().st_size > 0 for path in written.values())
    table = pd.read_csv(tmp_path / "table.csv").set_index("codec")
    assert list(table.index) == list(codecs)
    assert table.loc["mini", "encoding time / mini's"] == table.loc["mini", "decoding time / mini's"] == 1
    assert table.loc["toderici", "passes"] == 3
    assert table.loc["toderici", "kMAC/pixel, all passes"] == pytest.approx(
        3 * table.loc["toderici", "kMAC/pixel"], rel=1e-3
    )
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert set(curves["codec"]) == {*codecs, "JPEG"}
    xie = curves[curves["codec"] == "xie"]
    assert xie["bpp"].is_monotonic_increasing


def test_pictures_at_equal_bytes_are_no_larger_than_ours(codecs, pictures):
    decoded = comparison.equal_bytes(codecs, pictures["left"], bpp=2.0)
    target = decoded["mini"][0]
    assert all(n_bytes <= target for name, (n_bytes, _) in decoded.items() if name != "JPEG")
    assert all(picture.shape == (192, 192, 3) for _, picture in decoded.values())


def test_weights_that_are_not_there_are_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ganlib.weights, "SHIPPED", tmp_path)
    assert comparison.load_miniatures() == {}
    assert "left out zou" in caplog.text
    assert preset("mini").family == ""
