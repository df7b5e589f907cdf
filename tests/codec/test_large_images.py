"""Large files, read and written strip by strip: the same pictures as Pillow's, and the same refusals."""

import io
import os
import signal
import threading

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, ImageOps

import ganlib
from ganlib.codec import image_io, large_images, mapped_arrays
from ganlib.codec.large_images import Strips

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch):
    monkeypatch.setattr(image_io, "LARGE", 1)
    monkeypatch.setattr(mapped_arrays, "LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(large_images, "ROWS", 50)


def exif(orientation=None):
    tags = Image.Exif()
    tags[0x010E] = "a lighthouse"
    if orientation:
        tags[0x0112] = orientation
    return tags


def same(path, monkeypatch):
    """Reads a file strip by strip and with Pillow, and checks that metadata agree; gives both arrays."""
    large = image_io.load(path)
    assert isinstance(large.pixels if large.pixels.base is None else _owner(large.pixels), np.memmap)
    with monkeypatch.context() as patch:
        patch.setattr(image_io, "LARGE", 2**62)
        small = image_io.load(path)
    assert (large.icc, large.exif) == (small.icc, small.exif)
    assert large.pixels.shape == small.pixels.shape
    return np.asarray(large.pixels).astype(int), small.pixels.astype(int)


def _owner(array):
    while not isinstance(array, np.memmap) and array.base is not None:
        array = array.base
    return array


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_reads_as_pillow_does(photo, tmp_path, monkeypatch, mode, suffix):
    path = tmp_path / f"a{suffix}"
    profile = {} if mode == "L" else {"icc_profile": ICC}
    Image.fromarray(photo[:123, :211]).convert(mode).save(path, **profile)
    ours, theirs = same(path, monkeypatch)
    assert np.array_equal(ours, theirs)


def test_reads_jpeg_as_pillow_does_within_rounding(photo, tmp_path, monkeypatch):
    Image.fromarray(photo[:123, :211]).save(tmp_path / "a.jpg", icc_profile=ICC, exif=exif())
    ours, theirs = same(tmp_path / "a.jpg", monkeypatch)
    assert np.abs(ours - theirs).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(photo, tmp_path, monkeypatch, orientation):
    path = tmp_path / "a.png"
    Image.fromarray(photo[:60, :90]).save(path, exif=exif(orientation))
    ours, theirs = same(path, monkeypatch)
    assert np.array_equal(ours, theirs)
    assert np.array_equal(ours, np.asarray(ImageOps.exif_transpose(Image.open(path))))


def test_exif_of_a_tiff_does_not_tell_how_it_was_stored(photo, tmp_path, monkeypatch):
    Image.fromarray(photo[:40, :50]).save(tmp_path / "a.tif", exif=exif(), icc_profile=ICC)
    same(tmp_path / "a.tif", monkeypatch)
    kept = Image.Exif()
    kept.load(image_io.load(tmp_path / "a.tif").exif)
    assert dict(kept) == {0x010E: "a lighthouse"}


def test_what_would_be_lost_is_refused_here_too(photo, tmp_path):
    small = Image.fromarray(photo[:40, :50])
    rgba = small.copy()
    rgba.putalpha(128)
    rgba.save(tmp_path / "alpha.png")
    Image.fromarray(photo[:40, :50, 0].astype(np.uint16) * 256).save(tmp_path / "deep.png")
    small.convert("CMYK").save(tmp_path / "cmyk.jpg")
    small.save(tmp_path / "pages.tif", save_all=True, append_images=[small])
    for path in tmp_path.iterdir():
        with pytest.raises(ganlib.ImageError, match=path.name):
            image_io.load(path)


def test_what_libvips_does_not_know_is_left_to_pillow(photo, tmp_path):
    Image.fromarray(photo[:40, :50]).save(tmp_path / "a.png")
    Image.fromarray(photo[:40, :50]).convert("CMYK").save(tmp_path / "a.tif")
    (tmp_path / "a.txt").write_text("no picture")
    with open(tmp_path / "a.png", "rb") as file, large_images.reading(file) as samples:
        assert (samples.height, samples.width, samples.bands) == (40, 50, 3)
        assert np.array_equal(np.concatenate(list(samples)), photo[:40, :50])
    with open(tmp_path / "a.tif", "rb") as file, large_images.reading(file) as samples:
        assert samples is None
    with open(tmp_path / "a.txt", "rb") as file, pytest.raises(large_images.UnreadableError):
        with large_images.reading(file):
            pass


def test_an_open_file_keeps_its_place(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        head = file.read(100)
        with large_images.reading(file) as samples:
            next(iter(samples))
        assert head + file.read() == (tmp_path / "a.png").read_bytes()


def test_open_files_and_their_names_are_left_to_pillow(photo, tmp_path):
    Image.fromarray(photo[:40, :50]).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        assert np.array_equal(image_io.load(file).pixels, photo[:40, :50])
    named = io.BytesIO((tmp_path / "a.png").read_bytes())
    named.name = "upload.png"
    assert np.array_equal(image_io.load(named).pixels, photo[:40, :50])


def test_a_file_cut_short_is_refused(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ganlib.ImageError, match="a.png"):
        image_io.load(tmp_path / "a.png")


def test_more_pixels_than_pillow_reads(photo, tmp_path, monkeypatch):
    Image.fromarray(photo).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert image_io.load(tmp_path / "a.png").pixels.shape == (512, 512, 3)


def in_strips(pixels, **metadata):
    channels = 3 if pixels.ndim == 3 else 1
    rows = (pixels[top : top + 37] for top in range(0, len(pixels), 37))
    return Strips(pixels.shape[1], pixels.shape[0], channels, rows, **metadata)


@pytest.mark.parametrize("suffix", sorted(large_images.WRITERS))
@pytest.mark.parametrize("gray", [False, True])
def test_writes_what_comes(photo, tmp_path, suffix, gray):
    pixels = photo[:123, :211, 0] if gray else photo[:123, :211]
    path = tmp_path / f"a{suffix}"
    large_images.write(path, in_strips(pixels, icc=None if gray else ICC), suffix)
    back = Image.open(path)
    assert back.info.get("icc_profile") == (None if gray else ICC)
    assert back.mode == ("L" if gray else "RGB")
    assert np.abs(np.asarray(back).astype(int) - pixels).mean() <= (3 if suffix.startswith(".j") else 0)


@pytest.mark.parametrize("suffix", sorted(large_images.WRITERS))
def test_exif_is_kept_or_its_loss_is_told(photo, tmp_path, suffix, caplog):
    large_images.write(tmp_path / f"a{suffix}", in_strips(photo[:50, :60], exif=exif().tobytes()), suffix)
    kept = Image.open(tmp_path / f"a{suffix}").getexif().get(0x010E) == "a lighthouse"
    assert kept != ("EXIF is left out" in caplog.text) and kept != suffix.startswith(".t")


def test_a_failure_of_the_strips_or_of_the_disk_is_told(photo, tmp_path):
    def failing():
        yield photo[:100]
        raise ganlib.BitstreamError("tile 3 is damaged")

    with pytest.raises(ganlib.BitstreamError, match="tile 3"):
        large_images.write(tmp_path / "a.png", Strips(512, 512, 3, failing()), ".png")
    with pytest.raises(FileNotFoundError):
        large_images.write(tmp_path / "none" / "a.png", in_strips(photo), ".png")
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left"):
            large_images.write("/dev/full", in_strips(photo), ".png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_density_is_written(photo, tmp_path, suffix):
    large_images.write(tmp_path / f"a{suffix}", in_strips(photo, dpi=(300.0, 150.0)), suffix)
    assert Image.open(tmp_path / f"a{suffix}").info["dpi"] == pytest.approx((300, 150), rel=1e-4)
    assert image_io.load(tmp_path / f"a{suffix}").dpi == pytest.approx((300, 150), rel=1e-4)


@pytest.mark.parametrize("suffix", sorted(large_images.WRITERS))
def test_ctrl_c_ends_the_writing(tmp_path, suffix):
    """It comes while libvips calls back, where an exception would be printed and forgotten."""
    pixels = np.random.default_rng(0).integers(0, 256, (4000, 2000, 3)).astype(np.uint8)
    calls, killed, release, set_kill = [], threading.Event(), mapped_arrays.release, pyvips.Image.set_kill

    def interrupting(*arrays):
        calls.append(threading.current_thread())
        if len(calls) == 2:  # the first call is of into()
            os.kill(os.getpid(), signal.SIGINT)
            assert killed.wait(60), "nothing stops the writing"
        return release(*arrays)

    def killing(image, kill):
        set_kill(image, kill)
        killed.set()

    strips = Strips(pixels.shape[1], len(pixels), 3, iter([pixels]))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mapped_arrays, "release", interrupting)
        patch.setattr(pyvips.Image, "set_kill", killing)
        large_images.write(tmp_path / f"a{suffix}", strips, suffix)
    assert calls[1] is not threading.main_thread()
    with pytest.raises(OSError), Image.open(tmp_path / f"a{suffix}") as image:
        image.load()


def test_into_an_array_of_another_shape_is_refused(photo):
    for wrong in (np.zeros((512, 511, 3), np.uint8), np.zeros((512, 512), np.uint8), np.zeros(photo.shape, int)):
        with pytest.raises(ValueError, match="shape"):
            in_strips(photo).into(wrong)


def test_into_an_array_once_some_strips_are_gone_is_refused(photo):
    strips = in_strips(photo)
    next(iter(strips))
    with pytest.raises(ValueError, match="have been taken already"):
        strips.into()
    whole = in_strips(photo)
    assert np.array_equal(whole.into(), photo)
    with pytest.raises(ValueError, match="have been taken already"):
        whole.into()
