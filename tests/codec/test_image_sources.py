"""What can be given as a picture: names, bytes, open files, formats of plugins."""

import concurrent.futures
import gzip
import io
import os
import warnings

import numpy as np
import picture_files
import pillow_jxl  # noqa: F401  registers itself
import pytest
import torch
from picture_files import HEIGHT, WIDTH, by_libvips, rounded
from PIL import Image

import ganlib
from ganlib.codec import image_formats
from ganlib.codec.image_io import ImageError, as_rgb, load

# fixtures
size = picture_files.size
rgb = picture_files.rgb
deep = picture_files.deep


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


def test_what_can_be_converted_becomes_rgb(rgb, deep, tmp_path):
    Image.fromarray(deep[..., 0]).save(tmp_path / "gray.png")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.save(tmp_path / "a.gif", save_all=True, append_images=[rgb.rotate(90)])
    for path in tmp_path.iterdir():
        pixels = as_rgb(load(path, convert=True).pixels)
        assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8
    gray = as_rgb(load(tmp_path / "gray.png", convert=True).pixels)
    assert np.array_equal(gray[..., 1], rounded(deep[..., 0]))


def test_a_memoryview_with_gaps_is_taken(rgb, size):
    file = io.BytesIO()
    rgb.save(file, "PNG")
    spread = memoryview(bytes(np.repeat(np.frombuffer(file.getvalue(), np.uint8), 2)))[::2]
    assert np.array_equal(load(spread).pixels, np.asarray(rgb))
