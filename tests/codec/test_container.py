"""The container: what is written comes back, and nothing else is accepted."""

import dataclasses
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlib.codec.container import (
    CHUNK,
    HEADER,
    SIGNATURE,
    Bitstream,
    BitstreamError,
    Header,
    Index,
    buffer,
    chunks,
    read,
    write,
)
from ganlib.codec.header import tile_limits

MARK = b"\x01\x02\x03\x04\x05\x06\x07\x08"
# as long as tiles of 63x64, 63x64 and 63x4 latents must be at least, and a little longer
TILES = [b"1st." * 126, b"2nd." * 130, b"3rd." * 7]


def header(**changes):
    return Header(**({"width": 2100, "height": 1000, "channels": 3, "quality": 3333, "fingerprint": MARK} | changes))


def sample(**changes):
    return Bitstream(**({"header": header(), "tiles": TILES, "icc": b"a profile", "exif": b"Exif\0\0..."} | changes))


def chunk(kind, payload, head=b""):
    """As FORMAT.md tells it: `head` is the payload of HEAD, for all chunks but HEAD itself."""
    data = CHUNK.pack(kind, len(payload)) + payload
    return data + struct.pack(">I", zlib.crc32(head + data))


def with_header(behind=(b"TILE", b"\0\0\0\0...."), **fields):
    """A file whose header carries what write() would refuse to write, and one chunk behind it."""
    values = {"version": 3, "channels": 3, "width": 10, "height": 10, "quality": 0, "tile": 1024}
    values |= {"fingerprint": MARK, "content": 0}
    head = HEADER.pack(*(values | fields).values())
    return SIGNATURE + chunk(b"HEAD", head) + chunk(*behind, head)


def test_round_trip():
    stream = read(write(sample()))
    assert stream == sample()
    assert stream.header.grid == (1, 3)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    channels=st.sampled_from([1, 3]),
    quality=st.integers(0, 10000),
    tile=st.integers(1, 16).map(lambda n: 64 * n),
    content=st.binary(max_size=64),
)
@settings(max_examples=200, deadline=None)
def test_every_header_round_trips(width, height, channels, quality, tile, content):
    h = Header(width, height, channels, quality, MARK, tile)
    if h.tiles <= 100:
        least = [tile_limits(h.tile_area(i))[0] for i in range(h.tiles)]
        stream = Bitstream(h, [content.ljust(n, b".") for n in least])
        assert read(write(stream)) == stream


def test_truncation_at_every_byte_is_told():
    data = write(sample())
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            read(data[:length])


def test_every_flipped_bit_is_told():
    data = write(sample())
    for i in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[i // 8] ^= 1 << i % 8
        with pytest.raises(BitstreamError):
            read(bytes(damaged))


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_told(noise, signed):
    with pytest.raises(BitstreamError):
        read(SIGNATURE * signed + noise)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_absurd_sizes_are_told_before_anything_is_allocated(width, height):
    if width * height > 2**30 or 0 in (width, height):
        with pytest.raises(BitstreamError, match="pixels"):
            read(with_header(width=width, height=height))


@given(st.integers(1, 2**20), st.integers(1, 2**20), st.integers(1, 16).map(lambda n: 64 * n))
@settings(max_examples=50, deadline=None)
def test_a_header_alone_takes_no_memory(width, height, tile):
    """The largest sizes that are allowed, with one tile of four bytes: refused, or read, in a few kilobytes."""
    data = with_header(width=width, height=height, tile=tile)
    tracemalloc.start()
    try:
        if header(width=width, height=height).area.size < 64 and max(width, height) <= tile:
            assert len(read(data).tiles) == 1
        else:
            with pytest.raises(BitstreamError):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tile", [64, 640, 1024])
def test_a_small_file_cannot_ask_for_a_large_picture(tile):
    """A kilobyte of file for 2 megapixels at most, whatever the size of the tiles."""
    h = Header(4000, 4000, 3, 0, MARK, tile)
    size = sum(CHUNK.size + 8 + tile_limits(h.tile_area(i))[0] for i in range(h.tiles))
    assert size > h.width * h.height // 2_048
    with pytest.raises(BitstreamError, match="tile 0 has 4 bytes; its pixels take|1 of 256 tiles"):
        read(with_header(width=1024, height=1024, tile=tile))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 2, "version 2"),
        ("version", 4, "version 4"),
        ("channels", 2, "2 channels"),
        ("channels", 0, "0 channels"),
        ("width", 0, "0x10"),
        ("height", 0, "10x0"),
        ("width", 2**32 - 1, "4294967295x10"),
        ("quality", 10001, "quality 100.01"),
        ("tile", 0, "tiles of 0"),
        ("tile", 100, "tiles of 100"),
        ("tile", 1088, "tiles of 1088"),
        ("tile", 4096, "tiles of 4096"),
    ],
)
def test_header_limits(field, value, message):
    with pytest.raises(BitstreamError, match=message):
        read(with_header(**{field: value}))


def test_unknown_chunks_are_skipped_or_refused_by_their_first_letter():
    data = write(sample())
    first = len(SIGNATURE) + CHUNK.size + HEADER.size + 4
    head = data[len(SIGNATURE) + CHUNK.size :][: HEADER.size]
    assert read(data[:first] + chunk(b"newT", b"whatever", head) + data[first:]) == sample()
    assert read(data + chunk(b"teXt", b"at the end", head)) == sample()
    with pytest.raises(BitstreamError, match="NEWT must be understood"):
        read(data[:first] + chunk(b"NEWT", b"whatever", head) + data[first:])
    with pytest.raises(BitstreamError, match="a second chunk HEAD"):
        read(data + chunk(b"HEAD", head, head))


def test_tiles_and_metadata_in_the_wrong_place_are_told():
    def told(message, data):
        with pytest.raises(BitstreamError, match=message):
            read(data)

    start = with_header()
    head = start[len(SIGNATURE) + CHUNK.size :][: HEADER.size]
    told("0 of 1 tiles", start[: -(CHUNK.size + 12)])
    told("tile 1 at byte", start + chunk(b"TILE", b"\0\0\0\1....", head))
    told("tile 0 at byte .*; tile 1 was expected", start + chunk(b"TILE", b"\0\0\0\0....", head))
    told("tile None", start + chunk(b"TILE", b"\0", head))
    told("misplaced", start + chunk(b"icCP", b"late", head))
    told("its pixels take", with_header((b"TILE", bytes(50_000))))
    told("not HEAD", SIGNATURE + chunk(b"TILE", b"...."))


def test_the_message_says_what_happened():
    with pytest.raises(BitstreamError, match="empty"):
        read(b"")
    with pytest.raises(BitstreamError, match="not a .gic"):
        read(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(BitstreamError, match="line ends"):
        read(write(sample()).replace(b"\r\n", b"\n"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": header(width=0, height=5), "tiles": []}, "0x5"),
        ({"tiles": TILES[:2]}, "2 tiles"),
        ({"tiles": [b"", *TILES[1:]]}, "tile 0 of 0 bytes"),
        ({"tiles": [*TILES[:2], bytes(2**22)]}, "tile 2 of 4194304 bytes"),
        ({"icc": bytes(2**24)}, "icCP of 16777216 bytes"),
    ],
)
def test_write_refuses_what_read_would(changes, message):
    with pytest.raises(BitstreamError, match=message):
        write(sample(**changes))


@given(st.tuples(st.floats(0.001, 4e6), st.floats(0.001, 4e6)))
def test_density_survives_to_a_thousandth(dpi):
    back = read(write(sample(dpi=dpi))).dpi
    assert back == pytest.approx(dpi, abs=0.0006)


@pytest.mark.parametrize("dpi", [(72, 72), (299.999, 300), (0.001, 4294967.295)])
def test_density_of_common_pictures_is_exact(dpi):
    assert read(write(sample(dpi=dpi))).dpi == dpi


NAN, INFINITE = float("nan"), float("inf")
NO_DENSITY = [None, (0, 0), (72, 0), (-1, 72), (NAN, 72), (72, NAN), (INFINITE, 1), (1e9, 72), (72,), (1, 2, 3), 72]


@pytest.mark.parametrize("dpi", [*NO_DENSITY, "ab", ("a", "b"), (None, None)])
def test_what_is_no_density_is_left_out(dpi):
    assert read(write(sample(dpi=dpi))) == sample()


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\1", bytes(8), b"\0\0\0\1\0\0\0\0", bytes(range(9))])
def test_a_density_that_is_none_is_not_taken_for_damage(payload):
    data = with_header()
    first = len(SIGNATURE) + CHUNK.size + HEADER.size + 4
    head = data[len(SIGNATURE) + CHUNK.size :][: HEADER.size]
    assert read(data[:first] + chunk(b"dENS", payload, head) + data[first:]).dpi is None


def test_chunks_are_those_of_the_file_with_their_offsets():
    data = write(sample(dpi=(300, 300)))
    found = list(chunks(data))
    assert [kind for kind, _, _ in found] == [b"HEAD", b"icCP", b"exIF", b"dENS", b"TILE", b"TILE", b"TILE"]
    assert all(data[offset : offset + len(payload)] == payload for _, offset, payload in found)
    assert (
        b"".join(chunk(kind, payload, found[0][2] * (i > 0)) for i, (kind, _, payload) in enumerate(found))
        == data[8:]
    )


def places(data):
    """Where the chunk of each tile begins and ends."""
    found, at = [], len(SIGNATURE)
    while at < len(data):
        kind, length = CHUNK.unpack_from(data, at)
        end = at + CHUNK.size + length + 4
        found += [(at, end)] * (kind == b"TILE")
        at = end
    return found


def test_a_tile_of_another_file_never_fits():
    """Not even where both pictures have the same size, quality and weights."""
    ours, theirs = write(sample()), write(sample(tiles=[TILES[0], b"4th." * 130, TILES[2]]))
    for begin, end in places(ours):
        mixed = ours[:begin] + theirs[begin:end] + ours[end:]
        with pytest.raises(BitstreamError, match="checksum of chunk TILE"):
            read(mixed)
    same = write(sample(tiles=list(TILES)))
    assert same == ours


def test_an_index_reads_a_tile_when_it_is_asked_for():
    data = bytearray(write(sample()))
    data[places(data)[0][1] - 5] ^= 1  # the last byte of the first tile's payload
    index = Index(bytes(data))
    assert index.header == header() and index.icc == b"a profile"
    assert index.tile(2) == TILES[2]
    with pytest.raises(BitstreamError, match="checksum of chunk TILE"):
        index.tile(0)
    with pytest.raises(BitstreamError, match="checksum of chunk TILE"):
        read(bytes(data))


def test_of_a_header_alone_size_and_metadata_are_read():
    data = write(sample(dpi=(10, 20)))
    index = Index(data[: places(data)[0][0]], only_header=True)
    assert (index.header, index.icc, index.exif, index.dpi) == (header(), b"a profile", b"Exif\0\0...", (10, 20))
    for hopeless in (data[:8], data[:40], data[: places(data)[0][0] - 1]):
        with pytest.raises(BitstreamError, match="cut short"):
            Index(hopeless, only_header=True)


def test_buffer_takes_bytes_and_paths(tmp_path):
    data = write(sample())
    (tmp_path / "a.gic").write_bytes(data)
    assert read(buffer(tmp_path / "a.gic")) == read(buffer(str(tmp_path / "a.gic"))) == read(buffer(bytearray(data)))
    (tmp_path / "a.gic").write_bytes(b"")
    with pytest.raises(BitstreamError, match="empty"):
        read(buffer(tmp_path / "a.gic"))
    for wrong in (5, None, [data], 1.5):
        with pytest.raises(TypeError, match="bytes of a .gic file or its path"):
            buffer(wrong)


def test_header_fields_are_those_of_the_file():
    """`ganlib info` prints them all."""
    assert {field.name for field in dataclasses.fields(Header)} == {
        "width", "height", "channels", "quality", "fingerprint", "tile", "version"
    }  # fmt: skip
