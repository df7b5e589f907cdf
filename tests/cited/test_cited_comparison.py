"""The comparison of the miniatures: curves, table and pictures from the bytes of files."""

import numpy as np
import pandas as pd
import pytest
from small_models import small_codec

import ganlib
from ganlib.config import preset
from ganlib.evaluation import baselines
from ganlib.evaluation import cited as comparison
from ganlib.evaluation.metrics import bits_per_pixel, lpips, psnr


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


def test_everything_is_written(codecs, pictures, tmp_path):
    written = comparison.write_comparison(codecs, pictures, tmp_path, "two photographs", shown=1, progress=False)
    names = {"curves.csv", "table.csv", "psnr.png", "ms_ssim.png", "lpips.png", "equal_bytes_left.png"}
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
