"""Baselines: their settings, equal inputs and equal bytes, sizes met, and what is said where one is missing."""

import dataclasses
import functools
import importlib.util
import io
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFile, features

from ganlib.evaluation import baselines
from ganlib.evaluation.metrics import psnr

PLUGINS = {"JPEG XL": "pillow_jxl", "HEIC": "pillow_heif"}
# There may be no wheel of a plugin for every platform; a plugin that is installed must work.
NAMES = [name for name in baselines.CODECS if name not in PLUGINS or importlib.util.find_spec(PLUGINS[name])]


@pytest.fixture(scope="module")
def photo():
    return skimage.data.coffee()[80:272, 150:406]  # 192 x 256 pixels of cup and spoon


@pytest.fixture(scope="module")
def small(photo):
    return photo[60:116, 90:162]


def test_every_codec_is_here():
    assert list(baselines.CODECS) == ["JPEG", "JPEG 2000", "WebP", "AVIF", "JPEG XL", "HEIC"]
    assert baselines.available() == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(56, 72), (31, 17), (1, 1)])
def test_round_trip_keeps_the_size(name, height, width, small):
    data = baselines.encode(name, small[:height, :width], baselines.CODECS[name].ladder[-1])
    assert isinstance(data, bytes)
    image = baselines.decode(data)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert image.flags.writeable


@pytest.mark.parametrize("name", NAMES)
def test_gray_pictures_make_no_larger_files_than_three_equal_channels(name):
    gray = skimage.data.camera()[:200, :200]
    quality = baselines.CODECS[name].ladder[3]
    points = baselines.rd_points(name, gray, [quality]).iloc[0]
    colour = baselines.rd_points(name, np.dstack([gray] * 3), [quality]).iloc[0]
    assert points["psnr"] == pytest.approx(colour["psnr"], abs=0.2) and points["psnr"] > 25
    assert points["bytes"] <= (0.95 if name == "JPEG" else 1) * colour["bytes"]
    data = baselines.encode(name, gray, quality)
    assert len(data) == points["bytes"] and baselines.decode(data).shape == (200, 200, 3)
    assert abs(len(baselines.at_size(name, gray, len(data))[0]) - len(data)) < 0.02 * len(data)


SIGNATURES = {
    "JPEG": b"\xff\xd8\xff",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "WebP": b"WEBP",
    "AVIF": b"ftypavif",
    "JPEG XL": b"\xff\x0a",
    "HEIC": b"ftypheix",  # HEVC's range extensions, which 4:4:4 is one of
}


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_they_are_called(name, small):
    data = baselines.encode(name, small, baselines.CODECS[name].ladder[3])
    assert SIGNATURES[name] in data[:16]


@pytest.mark.parametrize("name", NAMES)
def test_psnr_and_size_rise_with_quality(name, photo):
    table = baselines.rd_points(name, photo, baselines.CODECS[name].ladder[1::3])
    assert (np.diff(table["psnr"]) > 0.3).all()
    assert (np.diff(table["bytes"]) > 0).all()
    assert table["psnr"].iloc[0] > 22 and table["psnr"].iloc[-1] > 33


@pytest.mark.parametrize("name", NAMES)
def test_equal_inputs_give_equal_bytes(name, photo):
    quality = baselines.CODECS[name].ladder[5]
    view = np.asfortranarray(photo)  # another layout in memory, the same picture
    assert baselines.encode(name, photo, quality) == baselines.encode(name, view, quality)


def test_avif_does_not_depend_on_the_number_of_cores(photo):
    """With its own choice of threads libaom's bytes follow the machine; ours are those of one thread."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "AVIF", quality=50, speed=4, max_threads=1)
    assert baselines.encode("AVIF", photo, 50) == file.getvalue()


def test_numpy_numbers_are_qualities(small):
    for name, quality in [("JPEG", np.int64(50)), ("AVIF", np.float64(50)), ("WebP", 50.0)]:
        assert baselines.encode(name, small, quality) == baselines.encode(name, small, 50)


def test_heic_has_all_of_the_chroma(small):
    if "HEIC" not in NAMES:
        pytest.skip("no pillow-heif on this platform")
    assert Image.open(io.BytesIO(baselines.encode("HEIC", small, 40))).info["chroma"] == 444


def test_jpeg_is_the_smaller_of_baseline_and_progressive(photo):
    sizes = {}
    for progressive in (False, True):
        file = io.BytesIO()
        options = {"subsampling": "4:2:0", "optimize": True, "progressive": progressive}
        Image.fromarray(photo).save(file, "JPEG", quality=90, **options)
        sizes[progressive] = len(file.getvalue())
    assert sizes[True] < sizes[False]
    assert len(baselines.encode("JPEG", photo, 90)) == sizes[True]
    tiny = baselines.encode("JPEG", photo[:24, :24], 30)
    assert not Image.open(io.BytesIO(tiny)).info.get("progressive")


def test_jpeg_has_half_the_chroma(small):
    layers = Image.open(io.BytesIO(baselines.encode("JPEG", small, 95))).layer
    assert [(h, v) for _, h, v, *_ in layers] == [(2, 2), (1, 1), (1, 1)]


def test_jpeg_of_extreme_noise_fits_the_buffer():
    """The picture that Pillow's own buffer is too small for; its limit is as before afterwards."""
    noise = 255 * np.random.default_rng(0).integers(0, 2, (400, 400, 3), dtype=np.uint8)
    with pytest.raises(OSError, match="broken data stream|encoder error"):
        Image.fromarray(noise).save(io.BytesIO(), "JPEG", quality=94, optimize=True, subsampling="4:2:0")
    before = ImageFile.MAXBLOCK
    assert baselines.decode(baselines.encode("JPEG", noise, 94)).shape == noise.shape
    assert ImageFile.MAXBLOCK == before


def test_jpeg_2000_has_the_settings_of_lossy_coding(photo):
    """At an equal rate it stands well above Pillow's defaults, which have no colour transform."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG2000", quality_mode="rates", quality_layers=[24.0])
    data, _ = baselines.at_size("JPEG 2000", photo, len(file.getvalue()))
    assert psnr(photo, baselines.decode(data)) > psnr(photo, baselines.decode(file.getvalue())) + 1.5


@pytest.fixture
def coded_once(monkeypatch, small):
    """baselines.encode on the small picture, which codes at each quality only once."""
    once = functools.cache(lambda name, quality: ENCODE(name, small, quality))
    monkeypatch.setattr(baselines, "encode", lambda name, image, quality: once(name, quality))


ENCODE = baselines.encode


@pytest.mark.parametrize("name, high", [("JPEG", 100), ("WebP", 100), ("AVIF", 60)])
def test_at_size_is_the_nearest_of_all_qualities(name, high, small, coded_once, monkeypatch):
    codec = dataclasses.replace(baselines.CODECS[name], high=high)
    monkeypatch.setitem(baselines.CODECS, name, codec)
    sizes = {q: len(baselines.encode(name, small, q)) for q in range(int(codec.low), high + 1)}
    least, greatest = min(sizes.values()), max(sizes.values())
    for target in np.geomspace(least + 60, greatest - 60, 6).astype(int):
        data, quality = baselines.at_size(name, small, target)
        assert abs(len(data) - target) == min(abs(size - target) for size in sizes.values())
        assert len(data) == sizes[quality]
        assert data == ENCODE(name, small, quality)


def test_at_size_prefers_full_resolution_in_jpeg_xl(photo):
    """Below quality 19 libjxl halves the resolution: files grow again, and look worse at the same size."""
    if "JPEG XL" not in NAMES:
        pytest.skip("no pillow-jxl-plugin on this platform")
    halved, whole = (baselines.encode("JPEG XL", photo, quality) for quality in (17, 19))
    assert len(halved) > len(whole)
    assert psnr(photo, baselines.decode(halved)) < psnr(photo, baselines.decode(whole)) - 0.5
    data, quality = baselines.at_size("JPEG XL", photo, len(halved))
    assert quality >= 19 and len(data) == pytest.approx(len(halved), rel=0.05)
    data, quality = baselines.at_size("JPEG XL", photo, len(whole) - 200)  # which full resolution does not reach
    assert quality < 17 and len(data) == pytest.approx(len(whole) - 200, rel=0.05)


def test_at_size_is_the_nearest_of_the_rates_around(small):
    data, rate = baselines.at_size("JPEG 2000", small, 900)
    around = [len(baselines.encode("JPEG 2000", small, rate + step / 1000)) for step in range(-60, 61)]
    assert abs(len(data) - 900) == min(abs(size - 900) for size in around)
    assert data == baselines.encode("JPEG 2000", small, rate)


@pytest.mark.parametrize("name", NAMES)
def test_at_size_comes_within_five_per_cent(name, photo):
    target = photo.shape[0] * photo.shape[1] // 16  # 0.5 bpp
    data, _ = baselines.at_size(name, photo, target)
    assert len(data) == pytest.approx(target, rel=0.05)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "AVIF"])
def test_targets_out_of_reach_give_the_nearest_end(name, small):
    codec = baselines.CODECS[name]
    smallest, _ = baselines.at_size(name, small, 1)
    greatest, _ = baselines.at_size(name, small, 10**8)
    assert 1 < len(smallest) <= len(baselines.encode(name, small, codec.low))
    assert len(baselines.encode(name, small, codec.high)) <= len(greatest) < 10**8


@pytest.mark.parametrize("name", NAMES)
def test_rd_points_count_the_file(name, small):
    qualities = baselines.CODECS[name].ladder[4:6]
    table = baselines.rd_points(name, small, qualities)
    assert list(table.columns) == ["codec", "quality", "bytes", "bpp", "psnr"]
    assert list(table["quality"]) == list(qualities)
    for row in table.itertuples():
        data = baselines.encode(name, small, row.quality)
        assert (row.codec, row.bytes) == (name, len(data))
        assert row.bpp == pytest.approx(8 * len(data) / (56 * 72))
        assert row.psnr == psnr(small, baselines.decode(data))


def test_the_ladders_cover_the_chart(photo):
    for name in NAMES:
        ladder = baselines.CODECS[name].ladder
        assert len(ladder) > 10 and (np.diff(ladder) > 0).all()
        table = baselines.rd_points(name, photo, [ladder[0], ladder[-1]])
        assert table["bpp"].min() < 0.3 and table["bpp"].max() > 1.2


def test_errors_say_what_to_do(small):
    with pytest.raises(ValueError, match="choose one of JPEG, JPEG 2000, WebP, AVIF, JPEG XL, HEIC"):
        baselines.encode("GIF", small, 50)
    for name, quality in [("JPEG", 0), ("JPEG", 101), ("WebP", 50.5), ("AVIF", -1), ("JPEG 2000", 0)]:
        with pytest.raises(ValueError, match="give a"):
            baselines.encode(name, small, quality)
    with pytest.raises(ValueError, match="give a"):
        baselines.encode("JPEG", small, float("nan"))
    for image in (small[..., :2], small[0, 0], small / 255, Image.fromarray(small)):
        with pytest.raises(ValueError, match="convert"):
            baselines.encode("JPEG", image, 50)
    with pytest.raises(ValueError, match="target_bytes"):
        baselines.at_size("JPEG", small, 0)
    with pytest.raises(ValueError, match="no file of JPEG, "):
        baselines.decode(b"no picture at all")


def test_other_formats_are_not_decoded(small):
    file = io.BytesIO()
    Image.fromarray(small).save(file, "PNG")
    with pytest.raises(ValueError):
        baselines.decode(file.getvalue())


def test_a_codec_that_pillow_lacks_is_named(monkeypatch, small):
    real = features.check
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif" and real(feature))
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # what import finds of a package that is not installed
    assert baselines.available() == [name for name in NAMES if name not in ("AVIF", "JPEG XL")]
    for name, package in (("AVIF", "pillow"), ("JPEG XL", "pillow-jxl-plugin")):
        for call in (lambda: baselines.encode(name, small, 50), lambda: baselines.at_size(name, small, 900)):  # noqa: B023
            with pytest.raises(baselines.MissingCodecError, match=f"{name} here: pip install.*{package}, or.*WebP"):
                call()
