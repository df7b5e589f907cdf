"""Real files of every kind: the same decision and the same pixels by Pillow (small) and by libvips (large)."""

import concurrent.futures
import errno
import gzip
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers itself
import pytest
import pyvips
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

import ganlib
from ganlib.codec import image_formats, image_io, large_images, mapped_arrays
from ganlib.codec.image_inspection import ORIENTATION, inspect
from ganlib.codec.image_io import ImageError, load
from ganlib.codec.sample_depth import JpegXLHeader, sample_bits

pillow_heif.register_heif_opener()
HEIGHT, WIDTH = 60, 90
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Every file counts as small, or as large."""
    monkeypatch.setattr(image_io, "LARGE", 1 if request.param == "large" else 2**62)
    monkeypatch.setattr(mapped_arrays, "LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(large_images, "ROWS", 25)
    return request.param


@pytest.fixture
def rgb(photo):
    return Image.fromarray(photo[:HEIGHT, :WIDTH])


@pytest.fixture
def deep():
    """60x90 samples of RGB and alpha, 16 bits each, all values alike."""
    return np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)


def rounded(samples, white=65535):
    return np.round(np.asarray(samples) * (255 / white))


def over_white(samples, white):
    """The same in floating point: RGB or gray with alpha, over white, as 8 bits."""
    samples = samples.astype(float)
    alpha = samples[..., -1:] / white
    return rounded(samples[..., :-1] * alpha + white * (1 - alpha), white)


def by_libvips(path, samples, **options):
    """Save 8 or 16 bits, gray or RGB, with or without alpha."""
    kinds = {(1, 2): "grey16", (1, 1): "b-w", (3, 2): "rgb16", (3, 1): "srgb"}
    colours = 1 if samples.ndim == 2 or samples.shape[2] < 3 else 3
    image = pyvips.Image.new_from_array(samples).copy(interpretation=kinds[colours, samples.itemsize])
    image.write_to_file(str(path), **options)


def tiff(path, samples, photometric=2, bits=8, extra=(), **tags):
    """A TIFF of one strip, without compression, made by hand for what no library writes; tags by number, t254=1."""
    height, width = samples.shape[:2]
    count = samples.shape[2] if samples.ndim == 3 else 1
    data = pack12(samples) if bits == 12 else samples.tobytes()
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * count),
        259: (3, [1]),
        262: (3, [photometric]),
    }
    entries |= {273: (4, [8]), 277: (3, [count]), 278: (4, [height]), 279: (4, [len(data)])}
    if extra:
        entries[338] = (3, list(extra))
    entries |= {int(name[1:]): (3, [value] * (count if name == "t339" else 1)) for name, value in tags.items()}
    directory, outside = b"", b""
    begin = 8 + len(data) + len(data) % 2
    after = begin + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack("<" + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            packed, outside = struct.pack("<I", after + len(outside)), outside + packed
        directory += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", begin) + data.ljust(begin - 8, b"\0")
    path.write_bytes(head + struct.pack("<H", len(entries)) + directory + bytes(4) + outside)


def pack12(samples):
    pairs = samples.reshape(-1, 2).astype(int)
    a, b = pairs[:, 0], pairs[:, 1]
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, width, bits, colour, rows, *more):
    """A PNG made by hand: rows of packed samples, further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


# ---- more than 8 bits


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


# ---- transparency


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


# ---- several pictures in a file


def test_a_phones_jpeg_is_its_first_picture(rgb, tmp_path, size):
    rgb.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[rgb.resize((16, 16))])
    with Image.open(tmp_path / "phone.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
        assert np.array_equal(load(tmp_path / "phone.jpg").pixels, load(image).pixels)
    assert np.abs(load(tmp_path / "phone.jpg").pixels - np.asarray(rgb, float)).mean() < 5


def test_pages_that_are_smaller_copies_or_layers_are_no_pages(photo, tmp_path, size):
    image = pyvips.Image.new_from_array(photo)
    for subifd in (False, True):
        image.tiffsave(str(tmp_path / "pyramid.tif"), pyramid=True, tile=True, subifd=subifd)
        assert np.array_equal(load(tmp_path / "pyramid.tif").pixels, photo)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.avif", "a.tif", "a.heic"])
def test_animations_and_documents_are_refused_or_their_first_frame_taken(rgb, tmp_path, size, name):
    more = [rgb.rotate(90), rgb.rotate(180)]
    rgb.save(tmp_path / name, save_all=True, append_images=more)
    with pytest.raises(ImageError, match=r"(?s)3 frames.*image.copy\(\).*--convert"):
        load(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        with pytest.raises(ImageError, match="3 frames"):
            load(image)
        image.seek(1)
        assert load(image.copy()).pixels.shape == (HEIGHT, WIDTH, 3)  # as the message says
    first = load(tmp_path / name, convert=True).pixels
    assert np.abs(first - np.asarray(rgb, float)).mean() < 12


def test_a_moving_jpeg_xl_is_refused(tmp_path):
    """Its plugin takes it for still. By hand: 8x8 pixels, then the flag of animations in the header."""

    bits = "1" + "00000" + "001" + "0" + "1" + "000" + "0" + "0" + "1"
    data = b"\xff\x0a" + int(bits[::-1], 2).to_bytes(4, "little")
    assert JpegXLHeader(data).animated
    boxed = struct.pack(">I4sI4s", 12, b"JXL ", 0x0D0A870A, b"")[:12] + struct.pack(">I4s", 0, b"jxlc") + data
    assert JpegXLHeader(boxed).animated


def test_a_raw_photographs_preview_is_not_taken_for_it(photo, tmp_path, size):
    tiff(tmp_path / "raw.dng", photo[:HEIGHT, :WIDTH], t254=1)
    with pytest.raises(ImageError, match="preview"):
        load(tmp_path / "raw.dng")
    assert np.array_equal(load(tmp_path / "raw.dng", convert=True).pixels, photo[:HEIGHT, :WIDTH])


# ---- orientation, EXIF, profile, density


def with_xmp(path, rgb, late=False):
    """A picture whose orientation stands in XMP alone."""
    if path.suffix == ".png":
        text = PngInfo()
        text.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP, after_idat=late)
        rgb.save(path, pnginfo=text)
        if late:  # Pillow puts private chunks alone behind the pixels
            data = path.read_bytes()
            at = data.index(b"iTXt") - 4
            length = struct.unpack_from(">I", data, at)[0] + 12
            path.write_bytes(data[:at] + data[at + length : -12] + data[at : at + length] + data[-12:])
    elif path.suffix == ".tif":
        rgb.save(path, tiffinfo={700: XMP})
    else:
        rgb.save(path, xmp=XMP, lossless=True) if path.suffix == ".webp" else rgb.save(path, xmp=XMP)


@pytest.mark.parametrize("name", ["a.png", "late.png", "a.jpg", "a.tif", "a.webp"])
def test_orientation_in_xmp_alone(rgb, tmp_path, size, name):
    with_xmp(tmp_path / name, rgb, late=name == "late.png")
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)))
    assert expected.shape == (WIDTH, HEIGHT, 3)
    picture = load(tmp_path / name)
    assert np.array_equal(picture.pixels, expected) and picture.exif is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "late.png", "a.jpg", "a.tif", "a.webp", "a.avif"])
def test_orientation_of_every_format(rgb, tmp_path, size, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x0110] = orientation, "a camera"
    exif.get_ifd(0x8769)[0x829A] = 0.5  # seconds of exposure, in a directory of its own
    path = tmp_path / name
    rgb.save(path, exif=exif.tobytes(), dpi=(300, 150))
    if name == "late.png":
        data = path.read_bytes()
        at = data.index(b"eXIf") - 4
        length = struct.unpack_from(">I", data, at)[0] + 12
        path.write_bytes(data[:at] + data[at + length : -12] + data[at : at + length] + data[-12:])
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    picture = load(path)
    assert np.array_equal(picture.pixels, expected) and min(picture.pixels.strides) > 0  # which torch asks for
    kept = Image.Exif()
    kept.load(picture.exif)
    assert dict(kept).keys() == {0x0110, 0x8769} and kept.get_ifd(0x8769) == {0x829A: 0.5}
    if path.suffix in (".png", ".tif", ".jpg"):
        assert picture.dpi == pytest.approx((300, 150) if orientation < 5 else (150, 300), rel=1e-3)
    with Image.open(path) as image:  # and what belongs to others is left as it is
        given = load(image)
        assert np.array_equal(given.pixels, expected) and given.exif == picture.exif
        if path.suffix != ".tif":  # Pillow turns it itself
            assert image.getexif().get(ORIENTATION, 1) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_coded_as_the_upright_one(codec, rgb, tmp_path, size, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    rgb.save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(rgb_with(rgb, exif))
    assert codec.compress(tmp_path / "a.png") == codec.compress(np.asarray(upright))


def rgb_with(image, exif):
    image = image.copy()
    image.info["exif"] = exif.tobytes()
    return image


def test_exif_of_a_bigtiff(rgb, tmp_path, size):
    rgb.save(tmp_path / "big.tif", big_tiff=True, tiffinfo={270: "a lighthouse"}, dpi=(300, 150))
    assert (tmp_path / "big.tif").read_bytes()[2] == 43
    picture, kept = load(tmp_path / "big.tif"), Image.Exif()
    kept.load(picture.exif)
    assert dict(kept) == {270: "a lighthouse"} and picture.dpi == (300, 150)


def test_orientation_of_jpeg_xl(rgb, tmp_path):
    """Its own, which the decoder applies, counts; EXIF's only where the file is a JPEG in other bytes."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    rgb.save(tmp_path / "pixels.jxl", lossless=True, exif=exif.tobytes())
    assert np.array_equal(load(tmp_path / "pixels.jxl").pixels, np.asarray(rgb))
    rgb.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "jpeg.jxl", lossless_jpeg=True)
    assert np.array_equal(load(tmp_path / "jpeg.jxl").pixels, load(tmp_path / "a.jpg").pixels)


def test_unreadable_exif_is_left_out(rgb, tmp_path, size, caplog):
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n   6\nzzzz")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    rgb.save(tmp_path / "raw.png", pnginfo=text)
    rgb.save(tmp_path / "garbage.webp", exif=b"Exif\0\0what is this", lossless=True)
    for path in tmp_path.iterdir():
        caplog.clear()
        picture = load(path)
        assert picture.exif is None and f"{path.name}: its EXIF cannot be read" in caplog.text
        upright = np.asarray(rgb)
        assert np.array_equal(picture.pixels, np.rot90(upright, -1) if path.name == "raw.png" else upright)


def test_metadata_larger_than_a_file_holds_are_left_out(rgb, tmp_path, size, codec, caplog):
    rgb.save(tmp_path / "a.jpg", exif=Image.Exif(), icc_profile=ICC)
    rgb.info = {"icc_profile": bytes(2**24 + 1)}
    assert load(rgb).icc is None and "colour profile of 16777217 bytes is left out" in caplog.text
    assert codec.decompress(codec.compress(rgb)).size == rgb.size


@pytest.mark.parametrize("space", ["GRAY", "CMYK"])
def test_a_profile_of_other_pixels_is_dropped(rgb, tmp_path, size, space, caplog):
    profile = ICC[:16] + space.encode() + ICC[20:]
    gray = rgb.convert("LA")
    gray.info["icc_profile"] = profile
    gray.save(tmp_path / "a.png", icc_profile=profile)
    for given in (tmp_path / "a.png", gray):  # stays gray
        assert load(given, convert=True).icc == (profile if space == "GRAY" else None)
    rgb.save(tmp_path / "b.png", icc_profile=profile)
    assert load(tmp_path / "b.png").icc is None and "b.png: its colour profile" in caplog.text
    rgb.convert("CMYK").save(tmp_path / "c.jpg", icc_profile=profile)
    assert load(tmp_path / "c.jpg", convert=True).icc is None
    rgb.save(tmp_path / "d.png", icc_profile=ICC)
    assert load(tmp_path / "d.png").icc == ICC


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_density_is_found_and_not_made_up(rgb, tmp_path, size, name):
    rgb.save(tmp_path / name, dpi=(300, 150))
    assert load(tmp_path / name).dpi == pytest.approx((300, 150), rel=1e-3)
    rgb.save(tmp_path / name, dpi=(0, 0))
    assert load(tmp_path / name).dpi is None
    if name != "a.bmp":
        rgb.save(tmp_path / name)
        assert load(tmp_path / name).dpi is None


def test_density_in_exif_or_in_other_units(rgb, tmp_path, size):
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 100, 50, 3  # in centimetres
    for name in ("a.webp", "a.jpg", "a.avif"):
        rgb.save(tmp_path / name, exif=exif)
        assert load(tmp_path / name).dpi == pytest.approx((254, 127)), name
    exif = Image.Exif()
    exif[0x0110] = "a camera"
    rgb.save(tmp_path / "silent.jpg", exif=exif)
    assert Image.open(tmp_path / "silent.jpg").info["dpi"] == (72, 72)  # made up
    assert load(tmp_path / "silent.jpg").dpi is None
    by_libvips(tmp_path / "cm.tif", np.asarray(rgb), resunit="cm")
    assert load(tmp_path / "cm.tif").dpi == pytest.approx((25.4, 25.4))
    rgb.info["dpi"] = (float("nan"), 300)
    assert load(rgb).dpi is None


# ---- damage, and what one library reads and the other does not


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


# ---- what can be given


def test_names_that_are_not_utf_8(rgb, tmp_path, size):
    path = os.path.join(os.fsencode(tmp_path), b"bad\xff.png")
    rgb.save(os.fsdecode(path))
    for given in (os.fsdecode(path), tmp_path / os.fsdecode(b"bad\xff.png")):
        assert np.array_equal(load(given).pixels, np.asarray(rgb))
    rgb.save(tmp_path / "a[page=2].png")  # libvips would take it for an option
    assert np.array_equal(load(tmp_path / "a[page=2].png").pixels, np.asarray(rgb))


def test_a_file_that_changes_is_read_anew(rgb, tmp_path, size):
    for image in (rgb, rgb.rotate(180)):
        image.save(tmp_path / "a.png")
        assert np.array_equal(load(tmp_path / "a.png").pixels, np.asarray(image))


def test_files_and_bytes_of_files(rgb, tmp_path, size):
    rgb.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    with gzip.open(tmp_path / "a.png.gz", "wb") as file:
        file.write(data)

    class Stream(io.RawIOBase):  # as of a pipe
        def __init__(self):
            self.file = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.file.readinto(buffer)

    class Reader:  # no more than this
        def __init__(self):
            self.read = io.BytesIO(data).read

    with open(tmp_path / "a.png", "rb") as plain, gzip.open(tmp_path / "a.png.gz") as zipped:
        plain.read(10)
        memory = io.BytesIO(data)
        memory.read(10)
        for given in (plain, plain, zipped, memory, Stream(), Reader(), data, bytearray(data), memoryview(data)):
            assert np.array_equal(load(given).pixels, np.asarray(rgb))
        with Image.open(plain) as image:
            assert np.array_equal(load(image).pixels, np.asarray(rgb))
    with open(tmp_path / "a.png", encoding="latin-1") as text, pytest.raises(ImageError, match="'rb'"):
        load(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "NoneType is no picture: give a path, the bytes of an image file"),
        ([[1, 2], [3, 4]], "list is no picture"),
        (7, "int is no picture"),
        (torch.zeros(3, 8, 8), r"torch.Tensor is no picture.*permute\(1, 2, 0\)"),
        (b"", "the image cannot be read"),
        (b"photo.png", "the image cannot be read"),
        ("", "does not exist"),
        ("nowhere.png", "nowhere.png does not exist"),
        (".", "is a folder"),
        ("a\0b", "cannot be read"),
        (b"\x89GIC\r\n\x1a\nwhatever", "already: decompress"),
    ],
)
def test_what_is_no_picture_is_told(codec, given, message):
    with pytest.raises(ganlib.ImageError, match=message):
        codec.compress(given)


def test_many_threads_leave_no_filter_behind(rgb, tmp_path):
    for i in range(4):
        rgb.save(tmp_path / f"{i}.png")
        rgb.convert("CMYK").save(tmp_path / f"{i}.jpg")
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda path: load(path, convert=True), sorted(tmp_path.iterdir()) * 10))
    assert warnings.filters == before and len(pictures) == 80


def test_libvips_says_nothing_on_standard_error(rgb, tmp_path, size, capfd):
    rgb.save(tmp_path / "z.tif", compression="tiff_lzw", tiffinfo={65000: "private"})
    data = bytearray((tmp_path / "z.tif").read_bytes())
    load(tmp_path / "z.tif")
    assert capfd.readouterr().err == ""
    by_libvips(tmp_path / "a.png", np.asarray(rgb))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError):
        load(tmp_path / "a.png")
    assert capfd.readouterr().err == ""


def test_formats_of_plugins(rgb, tmp_path, monkeypatch, size):
    rgb.save(tmp_path / "a.heic", quality=-1)
    rgb.save(tmp_path / "a.jxl", lossless=True)
    assert np.abs(load(tmp_path / "a.heic").pixels - np.asarray(rgb, float)).mean() < 8
    assert np.array_equal(load(tmp_path / "a.jxl").pixels, np.asarray(rgb))
    assert {
        ".heic",
        ".heif",
        ".jxl",
        ".jp2",
        ".jfif",
        ".jpe",
        ".pgm",
        ".tga",
        ".gif",
    } <= image_formats.readable_suffixes()
    assert not {".gic", ".pdf", ".eps", ".mpg", ".h5"} & image_formats.readable_suffixes()
    monkeypatch.setattr(
        image_formats.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name))
    )
    for name, package in (("a.heic", "pillow-heif"), ("a.jxl", "pillow-jxl-plugin")):
        with pytest.raises(ImageError, match=f"{name}: .*pip install {package}"):
            load(tmp_path / name)


def test_to_rgb_converts_whatever_can_be(rgb, deep, tmp_path):
    Image.fromarray(deep[..., 0]).save(tmp_path / "gray.png")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.save(tmp_path / "a.gif", save_all=True, append_images=[rgb.rotate(90)])
    for path in tmp_path.iterdir():
        pixels = image_io.to_rgb(path)
        assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8
    assert np.array_equal(image_io.to_rgb(tmp_path / "gray.png")[..., 1], rounded(deep[..., 0]))
