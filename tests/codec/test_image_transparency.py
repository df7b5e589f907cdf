"""Pictures with alpha or a transparent colour, alike by Pillow (small) and by libvips (large)."""

import struct

import numpy as np
import picture_files
import pytest
from picture_files import HEIGHT, WIDTH, chunk, over_white, png, tiff
from PIL import Image

from ganlib.codec.image_io import ImageError, load

# fixtures
size = picture_files.size
rgb = picture_files.rgb


def test_gray_of_16_bits_with_a_transparent_gray(tmp_path, size):
    gray = np.full((64, 64), 20_000, np.uint16)
    gray[3, 5] = 40_000
    for transparent, expected in ((65535, [78, 156]), (40_000, [78, 255]), (20_000, [255, 156])):
        Image.fromarray(gray).save(tmp_path / "g.png", transparency=transparent)
        for image in (tmp_path / "g.png", Image.open(tmp_path / "g.png")):
            got = load(image, convert=True).pixels
            assert got.shape == (64, 64) and [got[0, 0], got[3, 5]] == expected


@pytest.mark.parametrize(("bits", "packed", "values"), [(2, 0b00011011, [0, 85, 170, 255]), (4, 0x1F, [17, 255])])
def test_gray_of_few_bits_with_a_transparent_gray(tmp_path, size, bits, packed, values):
    path = tmp_path / "a.png"
    key = 1  # 85 of 2 bits, 17 of 4
    png(path, len(values), bits, 0, [bytes([packed])], chunk(b"tRNS", struct.pack(">H", key)))
    with pytest.raises(ImageError, match="transparency"):
        load(path)
    clear = key * 255 // (2**bits - 1)
    expected = [255 if value == clear else value for value in values]
    assert load(path, convert=True).pixels.tolist() == [expected]
    assert load(Image.open(path), convert=True).pixels.tolist() == [expected]


def test_colour_of_16_bits_with_a_transparent_colour(tmp_path, size):
    row = struct.pack(">6H", 1000, 2000, 3000, 1001, 2000, 3000)
    png(tmp_path / "a.png", 2, 16, 2, [row], chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000)))
    assert load(tmp_path / "a.png", convert=True).pixels.tolist() == [[[255, 255, 255], [4, 8, 12]]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_that_is_opaque_is_dropped_and_no_other(rgb, tmp_path, size, name, mode):
    image = rgb.convert(mode)
    lossless = {"lossless": True, "exact": True} if name == "a.webp" else {}
    plain = np.asarray(rgb.convert("L") if mode == "LA" and name != "a.webp" else image.convert("RGB"))
    image.save(tmp_path / name, **lossless)
    assert np.array_equal(load(tmp_path / name).pixels, plain)
    assert np.array_equal(load(image).pixels, np.asarray(image)[..., :-1].reshape(load(image).pixels.shape))
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[HEIGHT - 1, 7] = 51
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / name, **lossless)
    for given in (tmp_path / name, image):
        with pytest.raises(ImageError, match=r"transparency.*--convert"):
            load(given)
        got = load(given, convert=True).pixels
        assert np.array_equal(got[:-1], plain[:-1] if got.ndim == plain.ndim else plain[:-1, :, 0])
        mixed = plain[-1, 7] * 0.2 + 255 * 0.8
        assert np.abs(got[-1, 7] - mixed).max() <= 1


def test_transparent_palettes_and_colours(rgb, tmp_path, size):
    palette = rgb.quantize(16)
    for transparency in (3, bytes([255, 255, 255, 128])):
        palette.save(tmp_path / "p.png", transparency=transparency)
        with pytest.raises(ImageError, match="transparency"):
            load(tmp_path / "p.png")
        expected = over_white(np.asarray(Image.open(tmp_path / "p.png").convert("RGBA")), 255)
        assert np.abs(load(tmp_path / "p.png", convert=True).pixels - expected).max() <= 1
    palette.save(tmp_path / "p.png", transparency=bytes([255] * 16))  # opaque
    assert np.array_equal(load(tmp_path / "p.png").pixels, np.asarray(palette.convert("RGB")))
    rgb.save(tmp_path / "c.png", transparency=rgb.getpixel((0, 0)))
    with pytest.raises(ImageError, match="transparency"):
        load(tmp_path / "c.png")
    assert (load(tmp_path / "c.png", convert=True).pixels[0, 0] == 255).all()
    free = next(c for c in zip(range(256), range(256), range(256)) if c not in set(rgb.get_flattened_data()))
    rgb.save(tmp_path / "c.png", transparency=free)
    assert np.array_equal(load(tmp_path / "c.png").pixels, np.asarray(rgb))


def test_bands_of_a_tiff_that_are_no_alpha(photo, tmp_path, size):
    pixels = photo[:HEIGHT, :WIDTH]
    four = np.dstack([pixels, pixels[..., 0]])
    tiff(tmp_path / "more.tif", four, extra=[0])  # infrared, perhaps
    assert np.array_equal(load(tmp_path / "more.tif").pixels, pixels)
    half = np.dstack([pixels // 2, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    tiff(tmp_path / "multiplied.tif", half, extra=[1])  # half transparent: half of the colours already
    with pytest.raises(ImageError, match="transparency"):
        load(tmp_path / "multiplied.tif")
    expected = pixels.astype(float) / 2 + 127
    assert np.abs(load(tmp_path / "multiplied.tif", convert=True).pixels - expected).max() <= 2


def test_arrays_with_alpha(photo):
    opaque = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    assert np.array_equal(load(opaque).pixels, photo)
    opaque[0, 0, 3] = 0
    with pytest.raises(ImageError, match="transparency"):
        load(opaque)
    assert load(opaque, convert=True).pixels[0, 0].tolist() == [255, 255, 255]
