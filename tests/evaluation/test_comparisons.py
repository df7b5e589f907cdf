"""Pictures before and after: which part is shown, and the original report's four sizes."""

import numpy as np
import pytest

from ganlib.evaluation import baselines, comparisons


def test_busiest_crop_is_where_the_detail_is():
    flat = np.zeros((600, 700, 3), np.uint8)
    flat[300:500, 400:600] = np.random.default_rng(0).integers(0, 255, (200, 200, 3))
    x0, y0, x1, y1 = comparisons.busiest_crop(flat, 200)
    assert x0 <= 450 <= x1 and y0 <= 400 <= y1 and (x1 - x0, y1 - y0) == (200, 200)
    assert comparisons.busiest_crop(flat[:50, :30], 200) == (0, 0, 30, 30)


def test_a_picture_is_reduced_to_a_png_of_the_size_asked_for(photo):
    scaled = comparisons.reduced_to(photo, 100_000)
    assert comparisons.png_bytes(scaled) == pytest.approx(100_000, rel=comparisons.SIZE_TOLERANCE)
    assert scaled.shape[0] == scaled.shape[1]
    whole = comparisons.png_bytes(photo)
    assert (comparisons.reduced_to(photo, whole) == photo).all()
    assert comparisons.reduced_to(photo, 2 * whole) is None


def test_the_four_sizes_of_the_report(codec, photo, monkeypatch):
    monkeypatch.setattr(comparisons, "REPORT_SIZES", ((60_000, 8_700), (250_000, 12_000), (9_000_000, 35_000)))
    monkeypatch.setattr(baselines, "available", lambda: ["JPEG"])
    table, figures = comparisons.four_sizes(codec, {"a": photo[:256, :256], "b": photo}, progress=False)
    assert list(figures) == [60, 250]  # nothing is as large as 9 MB
    ours = table[table["codec"] == "ganlib tiny, realism 1"]
    assert list(ours["image"]) == ["a", "b"] and (ours["bytes"] <= [8_700, 12_000]).all()
    assert np.allclose(ours["png_bytes"], [60_000, 250_000], rtol=0.03)
    jpeg = table[table["codec"] == "JPEG"]
    assert np.allclose(jpeg["bytes"], ours["bytes"], rtol=0.05)
    assert (table["lpips"] > 0).all() and (table["psnr"] < 60).all()
    assert np.allclose(table["ratio"], table["png_bytes"] / table["bytes"], atol=0.06)
