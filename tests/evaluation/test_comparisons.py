"""Pictures before and after: which part is shown, and the original report's four sizes."""

import numpy as np
import pytest
from PIL import Image

from ganlib.codec.image_io import as_rgb
from ganlib.evaluation import baselines, comparisons
from ganlib.evaluation.plots import GAP, save


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


def test_crops_show_the_middle_of_each_picture_pixel_for_pixel(photo, tmp_path):
    pictures = {"wide": photo[:60, :100], "gray": photo[:40, :40, 0], "small": photo[10:30, :12]}
    decoded = {name: {"ours": (9, 255 - as_rgb(pixels)), "other": (9, photo)} for name, pixels in pictures.items()}
    figure = comparisons.middle_crops(pictures, decoded, ["ours"], side=40)
    with Image.open(save(figure, tmp_path / "crops.png")) as image:
        seen = np.asarray(image.convert("RGB"))
    cell, top = 40 + GAP, seen.shape[0] - 2 * (40 + GAP)
    assert seen.shape[1] == GAP + 4 * cell  # two pictures a row, each beside its reconstruction
    expected = [photo[10:50, 30:70], photo[:40, :40, :1].repeat(3, 2)]
    for column, pixels in enumerate(shown for x in expected for shown in (x, 255 - x)):
        left = GAP + column * cell
        assert (seen[top : top + 40, left : left + 40] == pixels).all()
    second = seen[top + cell :]
    assert (second[:20, GAP : GAP + 12] == pictures["small"]).all()
    assert (second[20:] == 255).all() and (second[:, GAP + 12 : GAP + cell] == 255).all()


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
