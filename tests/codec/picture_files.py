"""Files of every kind, made by hand or by libvips, and the pixels that they must give; small and large alike."""

import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import pyvips
from PIL import Image, ImageCms

from ganlib.codec import image_io, large_images, mapped_arrays

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
