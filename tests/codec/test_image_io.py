"""What the codec takes, what it refuses, and that nothing is dropped silently."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from ganlib.codec.image_inspection import ORIENTATION
from ganlib.codec.image_io import ImageError, load, to_pil


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    buffer.seek(0)
    return Image.open(buffer)


@pytest.fixture
def rgb(photo):
    return Image.fromarray(photo[:40, :60])


@pytest.mark.parametrize(
    ("mode", "remedy"),
    [("RGBA", "transparency"), ("LA", "transparency"), ("I;16", "8 bits"), ("I", "8 bits"), ("CMYK", "CMYK")],
)
def test_what_would_lose_something_is_refused_with_a_remedy(rgb, mode, remedy):
    image = Image.fromarray(np.full((8, 9), 40_000, np.uint16)) if mode == "I;16" else rgb.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(128)
    with pytest.raises(ImageError, match=f"(?s){remedy}.*convert"):
        load(image)
    assert load(image, convert=True).pixels.dtype == np.uint8


def test_transparent_palette_is_transparency(rgb, tmp_path):
    rgb.quantize(16).save(tmp_path / "a.png", transparency=3)
    with pytest.raises(ImageError, match="a.png: transparency"):
        load(tmp_path / "a.png")


def test_conversions_are_right():
    sixteen = np.array([[0, 65535, 32768, 257]], np.uint16)
    assert load(Image.fromarray(sixteen), convert=True).pixels.tolist() == [[0, 255, 128, 1]]
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert load(clear, convert=True).pixels.tolist() == [[[255, 255, 255], [10, 20, 30]]]
    with pytest.raises(ImageError, match="floating-point"):
        load(Image.new("F", (3, 3)), convert=True)


def test_animation_is_refused_or_its_first_frame_taken(rgb, tmp_path):
    rgb.save(tmp_path / "a.gif", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)])
    with pytest.raises(ImageError, match="3 frames"):
        load(tmp_path / "a.gif")
    assert load(tmp_path / "a.gif", convert=True).pixels.shape == (40, 60, 3)


def test_palette_and_bilevel_are_exact(rgb):
    palette = rgb.quantize(16)
    assert np.array_equal(load(palette).pixels, np.asarray(palette.convert("RGB")))
    assert set(np.unique(load(rgb.convert("1")).pixels)) == {0, 255}


def test_unreadable_files(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match="text.png cannot be read"):
        load(tmp_path / "text.png")
    with pytest.raises(ImageError, match="does not exist"):
        load(tmp_path / "missing.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-40])
    with pytest.raises(ImageError, match="cut.png"):
        load(tmp_path / "cut.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_cleared(codec, photo, orientation):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = orientation, "a camera"
    camera = encoded(Image.fromarray(photo[:64, :96]), "JPEG", exif=exif, quality=95)
    decoded = codec.decompress(codec.compress(camera, quality=90))
    assert decoded.size == ((96, 64) if orientation < 5 else (64, 96))
    kept = decoded.getexif()
    assert kept.get(ORIENTATION) in (None, 1) and kept[0x010F] == "a camera"
    # a viewer that applies EXIF sees our picture as it saw the camera's
    upright = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}[orientation]
    expected = camera.copy()
    for method in upright:
        expected = expected.transpose(Image.Transpose(method))
    assert np.abs(np.asarray(decoded, float) - np.asarray(expected, float)).mean() < 12


def test_profiles_survive_and_can_be_left_out(codec, rgb):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = encoded(rgb, "PNG", icc_profile=profile)
    assert codec.decompress(codec.compress(image)).info["icc_profile"] == profile
    bare = codec.decompress(codec.compress(image, metadata=False))
    assert "icc_profile" not in bare.info


def test_density_is_where_pillow_looks_for_it(rgb):
    image = to_pil(np.asarray(rgb), dpi=(300.0, 150.0))
    assert image.info == {"dpi": (300.0, 150.0)} and load(image).dpi == (300.0, 150.0)


def test_the_picture_that_is_given_stays_what_it_is(rgb):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "a camera"
    camera = encoded(rgb, "JPEG", exif=exif)
    before = np.asarray(camera).copy(), dict(camera.getexif()), dict(camera.info)
    load(camera)
    assert np.array_equal(np.asarray(camera), before[0])
    assert (dict(camera.getexif()), dict(camera.info)) == before[1:]


def test_arrays_of_another_kind_are_refused(photo):
    for wrong, message in [
        (photo.astype(float), "uint8"),
        (photo[None], "shape"),
        (photo[:, :, :2], "shape"),
        (photo[:0], "shape"),
    ]:
        with pytest.raises(ImageError, match=message):
            load(wrong)
    assert load(photo[:, :, :1]).pixels.ndim == 2
