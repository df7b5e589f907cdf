"""Several pictures in a file; orientation, EXIF, profile, density: alike by Pillow (small) and by libvips (large)."""

import struct
import zlib

import numpy as np
import picture_files
import pillow_jxl  # noqa: F401  registers itself
import pytest
import pyvips
from picture_files import HEIGHT, ICC, WIDTH, XMP, by_libvips, chunk, png, tiff
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ganlib.codec.image_inspection import ORIENTATION
from ganlib.codec.image_io import ImageError, load
from ganlib.codec.sample_depth import JpegXLHeader

# fixtures
size = picture_files.size
rgb = picture_files.rgb


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


@pytest.mark.parametrize(("gamma", "told"), [(100_000, True), (45_455, False)])
def test_a_gamma_that_pixels_alone_do_not_tell_is_told(photo, tmp_path, caplog, gamma, told):
    Image.fromarray(photo[:20, :30]).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    gama = struct.pack(">I", gamma)
    chunk = struct.pack(">I", 4) + b"gAMA" + gama + struct.pack(">I", zlib.crc32(b"gAMA" + gama))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])  # behind IHDR
    load(tmp_path / "a.png")
    assert ("its gamma of 1 is left out" in caplog.text) == told


def directory(order, at, entries, following=0):
    """Of EXIF, with its values behind it: (tag, type, count, bytes) each."""
    table, values, place = struct.pack(order + "H", len(entries)), b"", at + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        table += struct.pack(order + "HHL", tag, kind, count)
        table += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "L", place + len(values))
        values += value if len(value) > 4 else b""
    return table + struct.pack(order + "L", following) + values


ARTIST = "Zoë Müller".encode() + b"\0"  # UTF-8, which many cameras write


def hand_made_exif(order, orientation):
    """Artist, orientation, a directory with a note of the maker, and one of the thumbnail."""
    undefined = [(0x9286, 7, 12, b"UNICODE\0\xe4\xf6\xfc."), (0x927C, 7, 6, b"\xff\0note"), (0xC4A5, 7, 5, b"Print")]
    inner = directory(order, 200, undefined)
    entries = [(0x010F, 2, 3, b"it\0"), (ORIENTATION, 3, 1, struct.pack(order + "H", orientation))]
    entries += [(0x013B, 2, len(ARTIST), ARTIST), (0x8769, 4, 1, struct.pack(order + "L", 200))]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    first = (start + directory(order, 8, entries, following=400)).ljust(200, b"\0")
    return (b"Exif\0\0" + first + inner).ljust(406, b"\0") + directory(order, 400, [(0x0103, 3, 1, b"\0\6")])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_exif_is_kept_byte_for_byte_but_for_the_orientation(rgb, tmp_path, size, name, order):
    given = hand_made_exif(order, 6)
    rgb.save(tmp_path / name, exif=given)
    kept = load(tmp_path / name).exif
    assert len(kept) == len(given) and kept[68:] == given[68:]  # behind the first directory
    assert struct.unpack_from(order + "H", kept, 14) == (3,)  # entries, of four
    assert kept[16:28] == given[16:28] and kept[28:52] == given[40:64]  # all but the second
    assert kept[52:56] == given[64:68] and kept[56:68] == bytes(12)
    rgb.save(tmp_path / name, exif=kept)
    assert load(tmp_path / name).exif == kept


@pytest.mark.parametrize("order", "<>")
def test_exif_of_a_tiff_keeps_types_and_letters(photo, tmp_path, size, order):
    numbers = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 1, 262: 2, 273: 1000, 277: 3, 279: 3 * HEIGHT * WIDTH}
    entries = [(tag, 4, 1, struct.pack(order + "L", number)) for tag, number in numbers.items()]
    entries += [(0x013B, 2, len(ARTIST), ARTIST)]
    entries += [(0x8769, 4, 1, struct.pack(order + "L", 500)), (0xC4A5, 7, 5, b"Print")]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    file = (start + directory(order, 8, sorted(entries))).ljust(500, b"\0")
    file += directory(order, 500, [(0x9286, 7, 12, b"UNICODE\0\xe4\xf6\xfc.")])
    (tmp_path / "a.tif").write_bytes(file.ljust(1000, b"\0") + photo[:HEIGHT, :WIDTH].tobytes())
    picture, kept = load(tmp_path / "a.tif"), Image.Exif()
    assert np.array_equal(picture.pixels, photo[:HEIGHT, :WIDTH])
    kept.load(picture.exif)
    assert set(kept) == {0x013B, 0x8769, 0xC4A5} and kept[0x013B].encode("latin-1") + b"\0" == ARTIST
    assert [kept._info.tagtype[tag] for tag in (0x013B, 0xC4A5)] == [2, 7]
    assert b"UNICODE\0\xe4\xf6\xfc." in picture.exif
    with Image.open(tmp_path / "a.tif") as image:
        image.load()  # Pillow has read the tags and closed the file: the letters are there
        assert ARTIST.rstrip(b"\0") in load(image).exif


def test_exif_that_somebody_changed_is_taken_as_it_is_now(rgb, tmp_path, size):
    rgb.save(tmp_path / "a.jpg", exif=hand_made_exif("<", 1))
    with Image.open(tmp_path / "a.jpg") as image:
        image.getexif()[0x013B] = "Zoë"
        kept = Image.Exif()
        kept.load(load(image).exif)
        assert kept[0x013B] == "Zoë" and kept[0x010F] == "it"


P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CHUNKS = {
    "P3": ([(b"cHRM", struct.pack(">8I", *P3))], "primaries (cHRM) are left out"),
    "sRGB, rounded": ([(b"cHRM", struct.pack(">8I", *(n + 90 for n in SRGB)))], None),
    "P3, and sRGB": ([(b"cHRM", struct.pack(">8I", *P3)), (b"sRGB", b"\0")], None),
    "cICP of HDR": ([(b"cICP", bytes((9, 16, 0, 1)))], "colour space (cICP 9, 16, 0, 1) is left out"),
    "cICP of HDR, and sRGB": ([(b"cICP", bytes((9, 16, 0, 1))), (b"sRGB", b"\0")], "colour space (cICP 9"),
    "cICP of sRGB": ([(b"cICP", bytes((1, 13, 0, 1))), (b"gAMA", struct.pack(">I", 100_000))], None),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_colours_that_pixels_alone_do_not_tell_are_told(tmp_path, size, caplog, kind):
    chunks, told = CHUNKS[kind]
    rows = [bytes(3 * WIDTH)] * HEIGHT
    png(tmp_path / "a.png", WIDTH, 8, 2, rows, *(chunk(*parts) for parts in chunks))
    load(tmp_path / "a.png")
    assert told in caplog.text if told else not caplog.text
