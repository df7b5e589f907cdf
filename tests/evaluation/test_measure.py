"""Measuring: real files, equal bytes, means and their errors."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import ganlib
from ganlib.evaluation import baselines, measure, metrics
from ganlib.evaluation.metrics import bd_rate


@pytest.fixture(scope="module")
def pictures(photo):
    return {"one": photo[:192, :200], "two": photo[200:400, 150:350]}


@pytest.fixture
def two_baselines(monkeypatch):
    """The quick ones."""
    monkeypatch.setattr(baselines, "available", lambda: ["JPEG", "WebP"])


@pytest.mark.parametrize(
    "paths, names",
    [
        (["a/x.png", "b/x.png", "c/x.png", "d/x.png"], ["a/x", "b/x", "c/x", "d/x"]),
        (["x.png", "a/x.png", "a/b/y.v1.png"], ["x", "a/x", "a/b/y.v1"]),
        (["a/one.png", "a/one.jpg", "a/two.png"], ["one.png", "one.jpg", "two.png"]),
        (["one.png", "one.jpg", "one.png.jpg"], ["one.png", "one.jpg", "one.png.jpg"]),
        (["deep/folder/only.png"], ["only"]),
        ([], []),
    ],
)
def test_every_picture_is_measured_under_a_name_of_its_own(paths, names, tmp_path):
    for shade, path in enumerate(paths):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * shade,) * 3).save(tmp_path / path)
    loaded = measure.load_all([tmp_path / path for path in paths])
    assert list(loaded) == names
    for shade, pixels in enumerate(loaded.values()):
        assert pixels.shape == (8, 8, 3) and abs(int(pixels[0, 0, 0]) - 20 * shade) < 3


def test_names_that_are_no_text_are_measured_under_escapes(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / os.fsdecode(b"b\xff.png"))
    assert list(measure.pictures_of(tmp_path)) == ["b\\xff"]


def test_gray_pictures_are_measured_as_gray_files(codec, photo, tmp_path, two_baselines):
    Image.fromarray(photo[:96, :96]).convert("L").save(tmp_path / "a.png")
    pictures = measure.pictures_of(tmp_path)
    data = codec.compress(tmp_path / "a.png", quality=50)
    row = measure.evaluate(codec, pictures, [50], perceptual=True, progress=False).iloc[0]
    assert row["bytes"] == len(data) and row["lpips"] > 0
    assert row["psnr"] == pytest.approx(metrics.psnr(pictures["a"], np.asarray(codec.decompress(data))))
    table, kept = measure.equal_bytes(codec, pictures, 1.6, (0.0,), keep=["a"], progress=False)
    assert len(table) == 3 and {picture.shape for _, picture in kept["a"].values()} == {(96, 96, 3)}
    assert np.isfinite(measure.evaluate_baselines(pictures, {"JPEG": [50], "WebP": [50]}, False)["psnr"]).all()


def test_means_of_a_part_of_the_images_are_told(caplog):
    caplog.set_level("INFO", logger="ganlib")
    table = pd.DataFrame({"codec": "a", "quality": [1] * 4 + [2] * 4, "psnr": 30.0, "frechet": np.nan})
    measure.mean_curves(table.assign(ms_ssim=[0.9, 0.9, 0.9, np.nan] * 2))
    assert caplog.messages == ["ms_ssim: mean of 3 of 4"]


def test_labels_name_the_model(codec):
    assert measure.name_of(codec) == "ganlib tiny"
    assert measure.name_of(codec, 0.5) == "ganlib tiny, realism 0.5"
    assert measure.name_of(ganlib.load_codec("light"), 1.0) == "ganlib light, realism 1"


def test_evaluation_measures_real_files(codec, pictures):
    table = measure.evaluate(codec, pictures, [40], realisms=(0.0, 1.0), progress=False)
    assert list(table["realism"]) == [0.0, 1.0] * 2 and set(table["codec"]) == {"ganlib tiny"}
    data = codec.compress(pictures["two"], quality=40)
    row = table[(table["image"] == "two") & (table["realism"] == 0)].iloc[0]
    assert row["bytes"] == len(data) and row["bpp"] == 8 * len(data) / 40_000
    decoded = np.asarray(codec.decompress(data), float)
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((decoded - pictures["two"]) ** 2)))


def test_evaluation_sees_what_the_metrics_see(codec, photo, monkeypatch):
    monkeypatch.setattr(metrics, "PATCHES_MIN", 2)
    pictures = {"a": photo[:128, :128], "b": photo[128:256, :192]}
    table = measure.evaluate(codec, pictures, [30], realisms=(0.0, 1.0), perceptual=True, progress=False)
    assert len(table) == 4
    row = table[(table["image"] == "b") & (table["realism"] == 1)].iloc[0]
    decoded = {
        name: np.asarray(codec.decompress(codec.compress(pixels, quality=30), realism=1))
        for name, pixels in pictures.items()
    }
    assert row["lpips"] == pytest.approx(metrics.lpips(pictures["b"], decoded["b"]), abs=1e-5)
    assert row["dists"] == pytest.approx(metrics.dists(pictures["b"], decoded["b"]), abs=1e-5)
    both = [np.concatenate([metrics.patch_features(p) for p in of.values()]) for of in (pictures, decoded)]
    assert row["frechet"] == pytest.approx(metrics.frechet_distance(*both), rel=1e-4)
    means = measure.mean_curves(table, by=["realism"])
    assert means["frechet"].iloc[1] == pytest.approx(row["frechet"])


def test_what_is_too_small_for_a_metric_is_nan(codec, photo):
    table = measure.evaluate(codec, {"a": photo[:128, :128]}, [30], perceptual=True, progress=False)
    assert (table[["lpips", "dists"]] > 0).all(axis=None)
    assert table["frechet"].isna().all()  # four patches are no distribution
    small = measure.evaluate(codec, {"a": photo[:40, :40]}, [30], perceptual=True, progress=False)
    assert small[["ms_ssim", "lpips", "dists", "frechet"]].isna().all(axis=None)


def test_equal_bytes_compares_files_of_one_size(codec, photo, two_baselines):
    pictures = {"a": photo[:96, :96], "b": photo[192:288, :96]}
    table, kept = measure.equal_bytes(codec, pictures, 1.6, realisms=(0.0, 1.0), keep=["b"], progress=False)
    ours = ["ganlib tiny, realism 0", "ganlib tiny, realism 1"]
    assert list(table["codec"]) == [*ours, "JPEG", "WebP"] * 2
    assert list(kept) == ["b"] and list(kept["b"]) == [*ours, "JPEG", "WebP"]
    for _, group in table.groupby("image"):
        sizes = group.set_index("codec")["bytes"]
        assert sizes[ours].nunique() == 1 and 8 * sizes[ours[0]] <= 1.6 * 96 * 96
        assert sizes["JPEG"] == pytest.approx(sizes[ours[0]], rel=0.05)
    data = codec.compress(pictures["b"], target_bpp=1.6)
    n_bytes, picture = kept["b"][ours[1]]
    assert n_bytes == len(data) and (picture == np.asarray(codec.decompress(data, realism=1))).all()
    row = table[(table["image"] == "b") & (table["codec"] == "WebP")].iloc[0]
    assert row["psnr"] == pytest.approx(metrics.psnr(pictures["b"], kept["b"]["WebP"][1]))


def test_a_picture_that_takes_too_many_bytes_is_left_out_and_told(codec, photo, two_baselines, caplog):
    small = photo[:16, :16]  # of which the header alone takes more
    table, kept = measure.equal_bytes(
        codec, {"small": small, "a": photo[:96, :96]}, 1.6, realisms=(0.0,), keep=["small", "a"], progress=False
    )
    assert set(table["image"]) == {"a"} == set(kept) and "small takes more than 1.6 bpp" in caplog.text
    with pytest.raises(ValueError, match="no picture can be coded at 1.6 bpp"):
        measure.equal_bytes(codec, {"small": small}, 1.6, progress=False)


def test_the_shipped_model_looks_more_natural_at_realism_1_than_at_0(photo):
    pictures = {"face": photo[:256, 128:384]}
    table = measure.evaluate(
        ganlib.load_codec("light"), pictures, [50], (0.0, 1.0), with_ms_ssim=False, perceptual=True, progress=False
    )
    faithful, natural = table["lpips"]
    assert natural < 0.9 * faithful
    assert table["psnr"][0] > table["psnr"][1]


@pytest.mark.parametrize("names", [["JPEG", "WebP"], ["JPEG", "HEIC"]])
def test_baselines_are_those_that_are_asked_for_and_there(names, photo, two_baselines):
    coded = measure.baselines_at_size(photo[:64, :64], 500, names)
    assert list(coded) == [name for name in names if name in ("JPEG", "WebP")]


def test_means_have_standard_errors():
    table = pd.DataFrame({"codec": list("aaaab"), "quality": 1, "psnr": [30, 32, 34, 36, 20], "frechet": 5.0})
    means = measure.mean_curves(table, standard_errors=True)
    assert list(means.columns) == ["codec", "quality", "psnr", "frechet", "psnr_sem"]
    assert list(means["psnr"]) == [33, 20] and list(means["frechet"]) == [5, 5]
    assert means["psnr_sem"][0] == pytest.approx(np.std([30, 32, 34, 36], ddof=1) / 2)
    assert np.isnan(means["psnr_sem"][1])  # one image tells nothing about others
    assert "psnr_sem" not in measure.mean_curves(table)


def test_bd_rates_are_of_one_codec_against_each_other_one():
    bpp, psnr = np.array([0.1, 0.2, 0.4, 0.8]), np.array([26.0, 29.0, 32.0, 35.0])
    curves = {"ours": (bpp, psnr), "costly": (2 * bpp, psnr), "elsewhere": (bpp, psnr + 20)}
    table = pd.concat([pd.DataFrame({"codec": name, "bpp": x, "psnr": y}) for name, (x, y) in curves.items()])
    rates = measure.bd_rates(table, "ours")
    assert list(rates["codec"]) == ["costly", "elsewhere"]
    assert rates["bd_rate_percent"][0] == pytest.approx(bd_rate(2 * bpp, psnr, bpp, psnr)) == pytest.approx(-50)
    assert np.isnan(rates["bd_rate_percent"][1])
    twice = pd.concat([table, table.iloc[[0, 1]]])  # two qualities that gave the same files
    assert measure.bd_rates(twice, "ours").equals(rates)


def test_psnr_at_a_rate_is_interpolated_and_never_extrapolated():
    curve = pd.DataFrame({"bpp": [0.4, 0.1, 0.2], "psnr": [32.0, 28.0, 30.0]})
    assert measure.psnr_at(curve, [0.2, 0.2 * 2**0.5]).tolist() == pytest.approx([30.0, 31.0])
    assert np.isnan(measure.psnr_at(curve, [0.05, 0.5])).all()
