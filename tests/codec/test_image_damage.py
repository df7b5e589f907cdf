"""Damaged files, and what one library reads and the other does not: refused by both."""

import errno
import io
import struct
import warnings
import zlib

import numpy as np
import picture_files
import pytest
from picture_files import HEIGHT, WIDTH, by_libvips, chunk, rounded
from PIL import Image

from ganlib.codec import image_io, mapped_arrays
from ganlib.codec.image_io import ImageError, load

# fixtures
size = picture_files.size
rgb = picture_files.rgb
deep = picture_files.deep


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpeg", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_of_any_compression(rgb, tmp_path, size, compression):
    try:
        rgb.save(tmp_path / "z.tif", compression=compression)
    except OSError:
        pytest.skip(f"this Pillow does not write {compression}")
    got = load(tmp_path / "z.tif").pixels
    assert np.array_equal(got, np.asarray(Image.open(tmp_path / "z.tif")))
    assert np.abs(got - np.asarray(rgb, float)).mean() < 5


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.jpg", {}), ("p.jpg", {"progressive": True}), ("a.webp", {}), ("a.tif", {})]
    + [("z.tif", {"compression": "tiff_adobe_deflate"}), ("l.tif", {"compression": "tiff_lzw"})],
)
def test_a_file_that_is_cut_short_is_refused(photo, tmp_path, size, name, options):
    Image.fromarray(photo).save(tmp_path / name, **options)
    data = (tmp_path / name).read_bytes()
    for part in (0.3, 0.5, 0.9):
        (tmp_path / name).write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ImageError, match=name):
            load(tmp_path / name)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_tiff_whose_strips_do_not_cover_it_is_refused(rgb, tmp_path, size, mode, options):
    """Pillow leaves black what is missing."""
    path = tmp_path / "a.tif"
    rgb.convert(mode).save(path, **options)
    data = bytearray(path.read_bytes())
    kind = 3 if options else 4
    at = data.index(struct.pack("<HHII", 257, kind, 1, HEIGHT)) + 8
    struct.pack_into("<I", data, at, HEIGHT + 40)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="a.tif"):
        load(path)
    with Image.open(path) as image, pytest.raises((ImageError, OSError)):
        load(image)


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("bands", [slice(3), 0])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiles_that_are_damaged_or_missing_are_refused(deep, tmp_path, size, compression, bands, bits):
    samples = np.ascontiguousarray(deep[..., bands] if bits == 16 else (deep[..., bands] >> 8).astype(np.uint8))
    path = tmp_path / "a.tif"
    by_libvips(path, samples, tile=True, tile_width=16, tile_height=16, compression=compression)
    assert np.array_equal(load(path, convert=True).pixels, rounded(samples, white=2**bits - 1))
    data = path.read_bytes()
    with Image.open(path) as image:
        offsets, counts = image.tag_v2[324], image.tag_v2[325]
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    at = data.index(table) + 4 * (len(offsets) // 2)
    damages = [struct.pack("<I", offset) for offset in (0, len(data) - 9, len(data) + 9)]
    damaged = [data[:at] + offset + data[at + 4 :] for offset in damages]
    if compression == "lzw":
        begin, end = offsets[5] + 10, offsets[5] + counts[5] - 10
        damaged.append(data[:begin] + b"\xff" * (end - begin) + data[end:])
    for file in damaged:
        with pytest.raises(ImageError):
            load(file, convert=True)


def test_a_jpeg_that_ends_too_early_within_is_refused_by_both(photo, tmp_path, size):
    """libjpeg invents what is missing, and tells it as a warning."""
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2] = b"\xff\xc4"  # a marker where data should be
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match="a.jpg"):
        load(tmp_path / "a.jpg")


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("z.tif", {"compression": "tiff_adobe_deflate"})])
def test_a_flipped_bit_is_refused_where_the_format_has_checksums(photo, tmp_path, size, name, options):
    Image.fromarray(photo).save(tmp_path / name, **options)
    data = bytearray((tmp_path / name).read_bytes())
    for at in np.random.default_rng(1).integers(2000, len(data) - 2000, 5):
        data[at] ^= 16
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=name):
            load(tmp_path / name)
        data[at] ^= 16


def test_a_header_that_claims_much_is_refused_without_making_room(tmp_path, monkeypatch):
    made, array = [], mapped_arrays.array
    monkeypatch.setattr(mapped_arrays, "array", lambda *args: made.append(args) or array(*args))
    for width, message in ((2**15, "claims.png"), (2**20, "too many for a .gic file")):
        header = struct.pack(">IIBBBBB", width, 2**15, 8, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        (tmp_path / "claims.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        with pytest.raises(ImageError, match=message):
            load(tmp_path / "claims.png")
    assert not made


def test_a_lack_of_room_for_the_pixels_is_no_fault_of_the_picture(rgb, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "so many MB are needed")

    monkeypatch.setattr(image_io, "LARGE", 1)
    monkeypatch.setattr(mapped_arrays, "array", full)
    rgb.save(tmp_path / "a.png")
    with pytest.raises(OSError, match="so many MB"):
        load(tmp_path / "a.png")


def test_what_pillow_must_read_in_one_piece_has_a_limit(rgb, tmp_path, monkeypatch):
    monkeypatch.setattr(image_io, "LARGE", 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    rgb.save(tmp_path / "a.png")
    rgb.convert("CMYK").save(tmp_path / "a.jpg")
    rgb.save(tmp_path / "a.bmp")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path / "a.png").pixels.shape == (HEIGHT, WIDTH, 3)  # by libvips, in strips
        for name in ("a.jpg", "a.bmp"):
            with pytest.raises(ImageError, match=rf"{name}: .*MAX_IMAGE_PIXELS \(--max-pixels\)"):
                load(tmp_path / name, convert=True)


def test_a_pillow_image_that_cannot_be_read_is_refused_as_its_file_is(photo):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG")
    with pytest.raises(ImageError, match="the image cannot be read as an image"):
        load(Image.open(io.BytesIO(file.getvalue()[:2000])))
    closed = Image.fromarray(photo)
    closed.close()
    with pytest.raises(ImageError, match="the image cannot be read as an image"):
        load(closed)
