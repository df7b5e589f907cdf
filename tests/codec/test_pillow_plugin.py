"""Pillow's own habits with .gic files: lazy opening, verify, thumbnail, BytesIO, incremental parsing, save."""

import io
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import TINY, mean_squared_error
from PIL import Image, ImageFile, ImageOps, ImageSequence, UnidentifiedImageError
from test_image_io import ORIENTATION

import ganlib
from ganlib.codec.codec import Codec, shipped_codec
from ganlib.codec.image_io import Picture
from ganlib.codec.pillow_plugin import GicImageFile

EXIF = Image.Exif()
EXIF[0x010E] = "a lighthouse"


@pytest.fixture(scope="module")
def tiny():
    """A shipped model, small and fast."""
    return shipped_codec("tiny")


@pytest.fixture(scope="module")
def picture(photo):
    return Picture(photo[100:190, 180:300], b"a profile", EXIF.tobytes(), (300.0, 72.009))


@pytest.fixture(scope="module")
def data(tiny, picture):
    return tiny.compress(picture, quality=70)


@pytest.fixture
def path(data, tmp_path):
    (tmp_path / "a.gic").write_bytes(data)
    return tmp_path / "a.gic"


@pytest.fixture
def no_decoding(monkeypatch):
    monkeypatch.setattr(Codec, "decompress", None)


def test_opening_reads_the_header_and_no_pixel(path, no_decoding):
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("GIC", "RGB", (120, 90))
        assert image.info == {"icc_profile": b"a profile", "exif": EXIF.tobytes(), "dpi": (300.0, 72.009)}
        assert image.getexif()[0x010E] == "a lighthouse"
        assert image.get_format_mimetype() == "image/x-gic" and image.filename == str(path)
        assert image.fp.tell() < 250


def test_of_a_large_file_only_the_beginning_is_read(tiny, photo):
    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1):
            data = super().read(size)
            self.count += len(data)
            return data

    file = Counting(tiny.compress(photo, quality=100))
    image = Image.open(file)
    assert image.size == (512, 512) and file.count < 100
    image.load()
    assert file.count > 10_000


@pytest.mark.parametrize("source", ["path", "str", "file", "BytesIO"])
def test_pixels_are_those_of_the_codec(tiny, path, data, source):
    expected = tiny.decompress(data)
    with open(path, "rb") as file:
        opened = Image.open({"path": path, "str": str(path), "file": file, "BytesIO": io.BytesIO(data)}[source])
        assert opened.getpixel((3, 5)) == expected.getpixel((3, 5))  # loads by itself
        assert np.array_equal(np.asarray(opened), np.asarray(expected))
        assert not file.closed


def test_gray_is_gray(tiny, photo):
    image = Image.open(io.BytesIO(tiny.compress(photo[:50, :60, 0])))
    assert (image.mode, image.size) == ("L", (60, 50))
    assert mean_squared_error(image, photo[:50, :60, 0]) < 700


def test_realism_is_an_option(photo):
    codec = shipped_codec("light")
    data = codec.compress(photo[100:200, 100:200], quality=20)
    faithful, natural = (codec.decompress(data, realism=r) for r in (0.0, 1.0))
    image = Image.open(io.BytesIO(data))
    image.realism = 1.0
    assert np.array_equal(np.asarray(image), np.asarray(natural))
    assert not np.array_equal(np.asarray(natural), np.asarray(faithful))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(faithful))
    wrong = Image.open(io.BytesIO(data))
    wrong.realism = 2
    with pytest.raises(ValueError, match="realism=2"):
        wrong.load()


def test_realism_of_all_images_can_be_set(monkeypatch, data, tiny):
    monkeypatch.setattr(GicImageFile, "realism", 1.0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(tiny.decompress(data, 1.0)))


def test_each_model_is_loaded_once(data, photo, monkeypatch):
    Image.open(io.BytesIO(data)).load()
    monkeypatch.setattr("ganlib.codec.codec.load_weights", None)
    Image.open(io.BytesIO(data)).load()
    Image.fromarray(photo[:40, :40]).save(io.BytesIO(), "GIC", model="tiny")


def test_weights_that_are_not_shipped(codec, photo):
    data = codec.compress(photo[:40, :50])
    image = Image.open(io.BytesIO(data))
    with pytest.raises(OSError, match=r"load_codec\(PATH\)"):
        image.load()
    image.codec = codec
    assert np.array_equal(np.asarray(image), np.asarray(codec.decompress(data)))


def test_everything_that_images_do(path, data, tiny, tmp_path):
    whole = tiny.decompress(data)
    assert Image.open(path).crop((5, 6, 50, 60)).tobytes() == whole.crop((5, 6, 50, 60)).tobytes()
    small = Image.open(path)
    small.thumbnail((40, 40))
    expected = whole.copy()
    expected.thumbnail((40, 40))
    assert small.size == (40, 30) and np.array_equal(np.asarray(small), np.asarray(expected))
    assert Image.open(path).convert("L").resize((7, 8)).size == (7, 8)
    assert Image.open(path).copy().tobytes() == whole.tobytes()
    assert [frame.size for frame in ImageSequence.Iterator(Image.open(path))] == [(120, 90)]
    assert ImageOps.exif_transpose(Image.open(path)).size == (120, 90)
    again = pickle.loads(pickle.dumps(Image.open(path)))
    assert again.tobytes() == whole.tobytes() and again.size == whole.size
    Image.open(path).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").tobytes() == whole.tobytes()
    image = Image.open(path)
    image.draft("L", (10, 10))
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)
    assert image.load() is not None and image.load()[1, 1] == whole.getpixel((1, 1))


def test_a_closed_image_is_told(path):
    with Image.open(path) as image:
        pass
    with pytest.raises(ValueError, match="closed"):
        image.load()
    with Image.open(path) as image:
        image.load()
    assert image.tobytes()  # what is loaded stays
    file = open(path, "rb")
    Image.open(file).load()
    assert not file.closed  # what others have opened, others close
    file.close()


def test_verify_checks_every_checksum_without_decoding(path, data, no_decoding):
    image = Image.open(path)
    image.verify()
    assert image.fp is None
    for at in (len(data) - 10, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        image = Image.open(io.BytesIO(damaged))
        with pytest.raises(OSError, match="checksum"):
            image.verify()
    with pytest.raises(OSError, match="cut short"):
        Image.open(io.BytesIO(data[:-3])).verify()


def test_damage_is_an_os_error_and_a_bitstream_error(data):
    for damaged in (data[:-5], data[:-50] + bytes(50)):
        for kind in (OSError, ganlib.BitstreamError):
            with pytest.raises(kind):
                Image.open(io.BytesIO(damaged)).load()


@pytest.mark.parametrize("length", [0, 5, 8, 20, 45])
def test_what_has_no_whole_header_is_not_identified(data, length):
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data[:length]))
    damaged = bytearray(data)
    damaged[18] ^= 1  # in HEAD
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(damaged))


def test_load_truncated_images_takes_what_is_whole(tiny, photo, monkeypatch):
    wide = np.tile(photo, (1, 3, 1))[:40, :1100]
    data = tiny.compress(wide, quality=60)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.warns(ganlib.DamageWarning, match="missing: 1"):
        image = np.asarray(Image.open(io.BytesIO(data[:-5])))
    assert np.abs(image.astype(int) - np.asarray(tiny.decompress(data)))[:, :700].max() <= 1
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    with pytest.raises(OSError, match="cut short"):
        Image.open(io.BytesIO(data[:-5])).load()


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_an_incremental_parser_gets_it(tiny, data, piece):
    with ImageFile.Parser() as parser:
        for at in range(0, len(data), piece):
            parser.feed(data[at : at + piece])
        image = parser.close()
    assert image.tobytes() == tiny.decompress(data).tobytes() and image.info["icc_profile"] == b"a profile"
    parser = ImageFile.Parser()
    parser.feed(data[:-5])
    with pytest.raises(OSError, match="cut short"):
        parser.close()


def test_more_pixels_than_pillow_opens(data, path, monkeypatch, no_decoding):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_pillows_limit_counts_and_not_the_codecs(data, tiny, monkeypatch):
    monkeypatch.setattr(tiny, "max_pixels", 10)
    assert Image.open(io.BytesIO(data)).tobytes()


def test_malformed_metadata_do_not_hinder_opening(tiny, photo):
    data = tiny.compress(Picture(photo[:40, :50], b"no profile", b"Exif\0\0MM\0*\xff\xff\xff\xff", None))
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (50, 40) and image.info["icc_profile"] == b"no profile"


def test_save_is_compress(tiny, photo, tmp_path):
    image = Image.fromarray(photo[:90, :120])
    image.save(tmp_path / "a.gic", model="tiny")
    assert (tmp_path / "a.gic").read_bytes() == tiny.compress(image, quality=50)
    image.save(tmp_path / "b.GIC", quality=33.3, model=tiny)
    assert (tmp_path / "b.GIC").read_bytes() == tiny.compress(image, quality=33.3)
    file = io.BytesIO()
    image.save(file, format="GIC", target_bytes=500, model=TINY)
    assert 0.9 * 500 < file.tell() <= 500
    file = io.BytesIO()
    image.convert("L").save(file, "gic", target_bpp=1.0, model="tiny")
    assert file.tell() <= 120 * 90 / 8 and Image.open(io.BytesIO(file.getvalue()), formats=["GIC"]).mode == "L"


def test_save_uses_light_where_no_model_is_named(photo):
    file = io.BytesIO()
    Image.fromarray(photo[:64, :64]).save(file, "GIC", quality=10)
    assert file.getvalue() == shipped_codec("light").compress(photo[:64, :64], quality=10)


@pytest.mark.parametrize(
    "mode", ["RGBA", "LA", "P", "1", "CMYK", "I", "F", "I;16", "YCbCr", "HSV", "LAB", "RGBX", "PA"]
)
def test_other_modes_are_refused_as_pillow_does(tmp_path, mode):
    with pytest.raises(OSError, match=f"cannot write mode {mode} as GIC"):
        Image.new(mode, (20, 20)).save(tmp_path / "a.gic")
    assert not (tmp_path / "a.gic").exists()


def test_wrong_options_are_told_and_leave_no_file(photo, tmp_path):
    image = Image.fromarray(photo[:40, :40])
    for options, kind in (
        ({"quality": 101}, ValueError),
        ({"quality": "high"}, TypeError),
        ({"target_bytes": 0}, ValueError),
        ({"target_bytes": 50}, ganlib.TargetSizeError),
        ({"model": "heavy"}, ganlib.WeightsError),
        ({"dpi": 300}, TypeError),
        ({"dpi": (300, 0)}, TypeError),
        ({"dpi": (300, "high")}, TypeError),
        ({"icc_profile": "sRGB"}, TypeError),
        ({"exif": "a harbour"}, TypeError),
    ):
        with pytest.raises(kind):
            image.save(tmp_path / "a.gic", **{"model": "tiny"} | options)
        assert not (tmp_path / "a.gic").exists()


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "GIC", model="tiny", **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_metadata_are_kept_replaced_or_left_out(picture, data):
    image = Image.open(io.BytesIO(data))
    assert saved(image).info == image.info
    other = Image.Exif()
    other[0x010E] = "a harbour"
    for exif in (other, other.tobytes()):
        changed = saved(image, icc_profile=b"another", exif=exif, dpi=(96, 96))
        assert changed.info["icc_profile"] == b"another" and changed.info["dpi"] == (96.0, 96.0)
        assert dict(changed.getexif()) == dict(other)
    assert saved(image, icc_profile=None, exif=None, dpi=None).info == {}
    assert image.info == {"icc_profile": b"a profile", "exif": EXIF.tobytes(), "dpi": (300.0, 72.009)}


def test_metadata_of_other_formats_arrive(photo, tmp_path):
    for suffix in ("png", "jpg", "tif"):
        Image.fromarray(photo[:40, :60]).save(tmp_path / f"a.{suffix}", exif=EXIF, dpi=(300, 300))
        with Image.open(tmp_path / f"a.{suffix}") as opened:
            info = saved(opened)
        assert info.getexif()[0x010E] == "a lighthouse"
        assert info.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_applied_wherever_it_comes_from(tmp_path, orientation):
    """A file holds the upright picture, so that viewers show what they showed before."""
    red_left = Image.new("RGB", (64, 32), "blue")
    red_left.paste("red", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    red_left.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        upright = ImageOps.exif_transpose(opened)
        for image in (saved(opened), saved(red_left, exif=exif)):
            assert image.size == upright.size and ORIENTATION not in image.getexif()
            assert mean_squared_error(image, upright) < 1500


def test_gic_is_a_format_of_pillow_wherever_ganlib_is_imported():
    program = (
        "import ganlib; from PIL import Image; assert Image.registered_extensions()['.gic'] == 'GIC';"
        "assert Image.MIME['GIC'] == 'image/x-gic' and 'GIC' in Image.OPEN and 'GIC' in Image.SAVE"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_other_formats_are_opened_as_ever(photo, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in ("png", "jpg", "webp", "gif", "bmp"):
            Image.fromarray(photo[:40, :60]).save(tmp_path / f"a.{suffix}")
            with Image.open(tmp_path / f"a.{suffix}") as image:
                image.load()
    (tmp_path / "a.gic").write_bytes(b"no picture at all")
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.gic")
