"""Decoded pictures as image files: what a format does not hold is left out with a warning, and nothing else."""

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers itself
import pytest
from PIL import Image, ImageCms

from ganlib.codec import image_io, image_output
from ganlib.codec.image_io import ImageError
from ganlib.codec.large_images import WRITERS, Strips

pillow_heif.register_heif_opener()
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = {
    "garbage": b"Exif\0\0what is this",
    "empty": b"Exif\0\0",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x01",
    "huge": b"Exif\0\0II*\0\x08\0\0\0" + bytes(70_000),
    "type": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\xff\xff\x01\0\0\0AAAA\0\0\0\0",
    "count": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\xff\xff\xff\xffAAAA\0\0\0\0",
}


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    monkeypatch.setattr(image_io, "LARGE", 1 if request.param == "large" else 2**62)
    return request.param


@pytest.fixture
def write(tmp_path, photo):
    """Writes 40x60 pixels with metadata, and opens what has been written."""

    def written(suffix, gray=False, **metadata):
        pixels = photo[:40, :60, 0] if gray else photo[:40, :60]
        strips = Strips(60, 40, 1 if gray else 3, iter([pixels[:30], pixels[30:]]), **metadata)
        path = tmp_path / "part of any name"
        image_output.write(path, strips, suffix, "a.gic")
        image = Image.open(path)
        image.load()
        assert np.abs(np.asarray(image.convert("L" if gray else "RGB"), float) - pixels).mean() < 8
        return image

    return written


def camera():
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    exif.get_ifd(0x8769)[0x829A] = 0.5
    return exif.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".TIF", ".jpg", ".webp", ".avif", ".heic", ".jxl"])
def test_metadata_are_kept(write, size, suffix, caplog):
    image = write(suffix, icc=ICC, exif=camera(), dpi=(300.0, 150.0))
    assert image.info["icc_profile"] == ICC or suffix == ".jxl"  # which writes its own
    if suffix == ".TIF" and size == "large":
        assert "EXIF is left out" in caplog.text
    else:
        exif = image.getexif()
        assert exif[0x0110] == "a camera" and exif.get_ifd(0x8769)[0x829A] == 0.5 and not caplog.text
    if suffix in (".png", ".TIF", ".jpg"):
        assert image_io.load(image).dpi == pytest.approx((300, 150), rel=1e-3)


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".gif", ".jp2", ".tga"])
def test_what_a_format_does_not_hold_is_told(write, suffix, caplog):
    write(suffix, icc=ICC, exif=camera(), dpi=(300.0, 150.0))
    assert "a.gic: exif and icc_profile left out, which" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif", ".heic", ".jxl", ".bmp"])
@pytest.mark.parametrize("exif", EXIF)
def test_damaged_metadata_are_left_out(write, size, suffix, exif):
    image = write(suffix, exif=EXIF[exif], icc=b"no profile", dpi=(1e9, 1e-9))
    assert image.size == (60, 40)


def test_the_loss_of_damaged_metadata_is_told(write, size, caplog):
    write(".jpg", exif=EXIF["garbage"])
    assert "a.gic: its EXIF is damaged and is left out" in caplog.text
    caplog.clear()
    write(".bmp", dpi=(300.0, 150.0))
    assert not caplog.text


def test_metadata_that_pillow_refuses_are_left_out_one_by_one(write, caplog):
    large = Image.Exif()
    large[0x0110] = "a camera" * 10_000  # more than a JPEG holds
    image = write(".jpg", exif=large.tobytes(), icc=ICC, dpi=(300.0, 150.0))
    assert image.info["icc_profile"] == ICC and image.info["dpi"] == (300, 150)
    assert "a.gic: exif cannot be written and is left out" in caplog.text
    caplog.clear()
    image = write(".jpg", exif=camera(), icc=ICC, dpi=(1e6, 1e6))
    assert image.info["icc_profile"] == ICC and image.getexif()[0x0110] == "a camera"
    assert (
        image_io.load(image).dpi is None
        and "a.gic: a density of 1e+06 x 1e+06 dots an inch is left out" in caplog.text
    )


def test_gray_pictures(write, size):
    for suffix in (".png", ".tif", ".jpg", ".webp", ".avif"):
        write(suffix, gray=True)


@pytest.mark.parametrize("suffix", ["", ".doc", ".psd", ".mpg", ".eps"])
def test_formats_that_nothing_writes(write, suffix):
    with pytest.raises(ImageError, match=f"no image format is called '{suffix}'; .png loses nothing"):
        write(suffix)


def test_a_gic_file_is_not_decompressed_to_another(write):
    with pytest.raises(ImageError, match=".gic is what is decompressed: name a picture; .png loses nothing"):
        write(".GIC")


def test_errors_that_metadata_are_not_to_blame_for(tmp_path):
    wide = Strips(20_000, 1, 3, iter([np.zeros((1, 20_000, 3), np.uint8)]), exif=camera())
    with pytest.raises(ValueError, match="16383"):
        image_output.write(tmp_path / "a", wide, ".webp", "a.gic")


def test_large_pictures_are_written_strip_by_strip_where_that_is_possible(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, "LARGE", 1)
    written = []
    monkeypatch.setattr(image_output.large_images, "write", lambda *args: written.append(args[2]))
    for suffix in (*WRITERS, ".webp"):
        image_output.write(tmp_path / "a", Strips(512, 512, 3, iter([photo])), suffix, "a.gic")
    assert written == list(WRITERS)


@pytest.mark.parametrize("suffix", [".webp", ".jpg", ".gif", ".xbm"])
def test_sizes_and_modes_that_a_format_does_not_hold_are_told(tmp_path, suffix):
    strips = Strips(70_000, 2, 3, iter([np.zeros((2, 70_000, 3), np.uint8)]))
    with pytest.raises(ImageError, match="does not hold a RGB picture of 70000x2 pixels .*: .png does"):
        image_output.write(tmp_path / "a", strips, suffix, "a.gic")


@pytest.mark.parametrize("suffix", [".ico", ".icns"])
def test_icons_of_another_size_are_refused(tmp_path, photo, suffix):
    strips = Strips(300, 200, 3, iter([photo[:200, :300]]))
    with pytest.raises(ImageError, match="does not hold a picture of 300x200 pixels: .png does"):
        image_output.write(tmp_path / "a", strips, suffix, "a.gic")


def test_a_format_of_few_colours_is_told(write, caplog):
    write(".gif")
    assert "a.gic: GIF holds no more than 256 colours" in caplog.text
    caplog.clear()
    write(".gif", gray=True)
    assert not caplog.text
