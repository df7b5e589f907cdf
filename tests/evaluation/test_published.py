"""Curves of others: complete, rising, and each with its source."""

import numpy as np
import pytest

from ganlib.evaluation import published


def test_published_holds_the_systems_of_the_chart():
    table = published.published("kodak")
    assert set(published.PUBLISHED) <= set(table["codec"])
    assert all(label.endswith("(published)") for label in published.PUBLISHED.values())
    assert len(set(published.PUBLISHED.values())) == len(published.PUBLISHED) == 9
    for author in ("Toderici 2017", "Islam 2021", "Song 2021", "Xie 2021", "Zou 2022", "HiFiC", "VTM", "BPG 4:4:4"):
        assert any(author in label for label in published.PUBLISHED.values())


@pytest.mark.parametrize("dataset", ["kodak", "clic2020", "div2k"])
def test_every_published_point_has_numbers_and_a_source(dataset):
    table = published.published(dataset)
    assert set(table["dataset"]) == {dataset}
    assert np.isfinite(table[["bpp", "psnr"]]).all(axis=None)
    assert table["bpp"].between(0, 10, inclusive="neither").all()
    assert table["psnr"].between(20, 50).all()
    assert table["source"].str.startswith("github:").all()
    assert (table["reference"].str.len() > 5).all()


def test_published_points_rise_along_the_rate():
    table = published.published("kodak", published.PUBLISHED)
    assert set(table["codec"]) == set(published.PUBLISHED)
    for _, points in table.groupby("codec"):
        assert (np.diff(points["bpp"]) > 0).all() and (np.diff(points["psnr"]) > 0).all()


@pytest.mark.parametrize(
    "codec, expected",
    [("Toderici 2017 (RNN)", 26.1), ("Song 2021 (Qmap/SFT)", 31.1), ("BPG 4:4:4", 30.5), ("HiFiC", 28.9)],
)
def test_published_values_at_028_bpp(codec, expected):
    points = published.published("kodak", [codec])
    assert np.interp(0.28, points["bpp"], points["psnr"]) == pytest.approx(expected, abs=0.15)


def test_published_says_what_is_not_there(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="kodak, clic2020, div2k"):
        published.published("imagenet")
    with pytest.raises(ValueError, match="on kodak by JPEG XL"):
        published.published("kodak", ["VTM", "JPEG XL"])
    monkeypatch.setattr(published, "PUBLISHED_FILE", tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="install ganlib again"):
        published.published()
