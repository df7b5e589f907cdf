"""More than 8 bits a sample: known, refused or rounded, alike by Pillow (small) and by libvips (large)."""

import io

import numpy as np
import picture_files
import pillow_heif
import pillow_jxl  # noqa: F401  registers itself
import pytest
from picture_files import HEIGHT, WIDTH, by_libvips, over_white, rounded, tiff
from PIL import Image

from ganlib.codec.image_inspection import inspect
from ganlib.codec.image_io import ImageError, load
from ganlib.codec.sample_depth import sample_bits

# fixtures
size = picture_files.size
rgb = picture_files.rgb
deep = picture_files.deep


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "deflate", "predictor": "horizontal"}),
        ("a.tif", {"tile": True, "tile_width": 16, "tile_height": 16, "compression": "lzw"}),
    ],
)
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bits_are_refused_or_rounded(deep, tmp_path, size, name, options, bands):
    samples = deep[..., 0] if bands == 1 else deep[..., [0, 3]] if bands == 2 else deep[..., :bands]
    by_libvips(tmp_path / name, samples, **options)
    if bands == 2 and name == "a.tif":  # unknown to Pillow
        with pytest.raises(ImageError, match="a.tif: .* cannot be read here"):
            load(tmp_path / name)
        return
    for given in (tmp_path / name, (tmp_path / name).read_bytes()):
        with pytest.raises(ImageError, match=r"(?s)more than 8 bits.*\(16\).*--convert"):
            load(given)
        got = load(given, convert=True).pixels.astype(float)
        expected = over_white(samples, 65535) if bands in (2, 4) else rounded(samples)
        assert got.shape == expected.reshape(got.shape).shape and np.abs(got - expected.reshape(got.shape)).max() <= 1
        if bands in (1, 3):
            assert np.array_equal(got, expected)


def test_a_deep_file_is_deep_after_pillow_has_opened_it(deep, tmp_path):
    by_libvips(tmp_path / "a.png", deep[..., :3])
    by_libvips(tmp_path / "a.tif", deep[..., :3])
    for name in ("a.png", "a.tif"):
        with Image.open(tmp_path / name) as image:
            assert image.mode == "RGB"
            with pytest.raises(ImageError, match="more than 8 bits"):
                load(image)
            assert np.abs(load(image, convert=True).pixels - rounded(deep[..., :3])).max() <= 1


def test_deep_files_of_every_format_are_known(deep, tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n90 60\n1023\n" + (deep[..., :3] >> 6).astype(">u2").tobytes())
    (tmp_path / "a.pgm").write_bytes(b"P5\n90 60\n65535\n" + deep[..., 0].astype(">u2").tobytes())
    (tmp_path / "plain.ppm").write_bytes(b"P3\n1 1\n1023\n1 2 3\n")
    Image.fromarray(deep[..., 0]).save(tmp_path / "gray.jp2")
    Image.fromarray(deep[..., 0]).save(tmp_path / "gray.jxl", lossless=True)
    by_libvips(tmp_path / "ten.avif", deep[..., :3], bitdepth=10, compression="av1")
    by_libvips(tmp_path / "twelve.avif", deep[..., :3], bitdepth=12, compression="av1")
    pillow_heif.from_bytes("RGB;16", (WIDTH, HEIGHT), deep[..., :3].tobytes()).save(tmp_path / "a.heic")
    Image.fromarray(deep[..., 0] / np.float32(65535)).save(tmp_path / "float.tif")
    tiff(tmp_path / "twelve.tif", deep[..., 0] >> 4, photometric=1, bits=12)
    for path in tmp_path.iterdir():
        with pytest.raises(ImageError, match=f"{path.name}: more than 8 bits"):
            load(path)
        if path.name != "float.tif":
            assert load(path, convert=True).pixels.dtype == np.uint8
    assert np.array_equal(load(tmp_path / "twelve.tif", True).pixels, rounded(deep[..., 0] >> 4, 4095))
    assert np.array_equal(load(tmp_path / "gray.jxl", True).pixels, rounded(deep[..., 0]))
    assert np.array_equal(load(tmp_path / "a.ppm", True).pixels, rounded(deep[..., :3] >> 6, 1023))
    with pytest.raises(ImageError, match="floating-point"):
        load(tmp_path / "float.tif", convert=True)


def test_jpeg_2000_colour_of_more_than_8_bits(rgb, tmp_path):
    """Pillow writes none: the precision in the header of one of 8 bits is changed."""
    for name in ("a.jp2", "a.j2k"):
        rgb.save(tmp_path / name)
        data = bytearray((tmp_path / name).read_bytes())
        at = data.index(b"\xff\x4f\xff\x51") + 4 + 38
        assert data[at : at + 9 : 3] == b"\7\7\7"
        assert sample_bits(Image.open(tmp_path / name)) == 8
        data[at + 3] = 11
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == "RGB" and sample_bits(image) == 12


def test_files_of_8_bits_are_not_deep(rgb, tmp_path):
    for name in (
        "a.png",
        "a.tif",
        "a.jpg",
        "a.webp",
        "a.avif",
        "a.jp2",
        "a.ppm",
        "a.heic",
        "a.jxl",
        "a.bmp",
        "a.gif",
    ):
        rgb.save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert sample_bits(image) == 8, name
            assert inspect(image).frames == 1


def test_white_is_zero(deep, tmp_path, size):
    by_libvips(tmp_path / "deep.tif", deep[..., 0], miniswhite=True)
    by_libvips(tmp_path / "plain.tif", (deep[..., 0] >> 8).astype(np.uint8), miniswhite=True)
    assert np.array_equal(load(tmp_path / "deep.tif", True).pixels, rounded(deep[..., 0]))
    assert np.array_equal(load(tmp_path / "plain.tif").pixels, deep[..., 0] >> 8)


def test_samples_without_a_fixed_range_are_refused(deep, tmp_path, size):
    tiff(tmp_path / "signed.tif", (deep[..., 0] >> 8).astype(np.uint8), photometric=1, t339=2)
    Image.fromarray(deep[..., 0].astype(np.int32) - 5).save(tmp_path / "negative.tif")
    for path in tmp_path.iterdir():
        with pytest.raises(ImageError, match=f"{path.name}: .*no fixed range: scale them"):
            load(path, convert=True)


@pytest.mark.parametrize(("kind", "sample_format"), [("f2", 3), ("f4", 3), ("i1", 2), ("i2", 2), ("u4", 1)])
def test_samples_that_no_library_reads_are_told(tmp_path, size, kind, sample_format):
    samples = np.ones((HEIGHT, WIDTH, 3), kind)
    tiff(tmp_path / "a.tif", samples, bits=8 * samples.itemsize, t339=sample_format)
    with pytest.raises(ImageError, match="a.tif: .*cannot be read here, .* save them as uint8"):
        load(tmp_path / "a.tif", convert=True)
