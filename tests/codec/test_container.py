"""The container: what is written comes back, and nothing else is accepted."""

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlib.codec.container import CHUNK, HEADER, SIGNATURE, Bitstream, BitstreamError, Header, Index, buffer, read, write

MODEL = b"\x01\x02\x03\x04\x05\x06\x07\x08"


def header(**changes):
    return Header(**({"width": 2100, "height": 1000, "channels": 3, "quality": 33.33, "model": MODEL} | changes))


def sample():
    return Bitstream(header(), [b"first...", b"", b"third..."], icc=b"a profile", exif=b"Exif\0\0...")


def chunk(kind, payload):
    head = CHUNK.pack(kind, len(payload))
    return head + payload + struct.pack(">I", zlib.crc32(head + payload))


def with_header(**fields):
    """A file whose header carries what write() would refuse to write."""
    values = {"version": 2, "channels": 3, "width": 10, "height": 10, "quality": 0, "tile": 1024, "model": MODEL}
    return SIGNATURE + chunk(b"HEAD", HEADER.pack(*(values | fields).values())) + chunk(b"TILE", b"\0\0\0\0....")


def test_round_trip():
    stream = read(write(sample()))
    assert stream == sample()
    assert stream.header.grid == (1, 3)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    channels=st.sampled_from([1, 3]),
    hundredths=st.integers(0, 10000),
    tile=st.integers(1, 64).map(lambda n: 64 * n),
    content=st.binary(max_size=64),
)
@settings(max_examples=200, deadline=None)
def test_every_header_round_trips_and_its_tiles_cover_the_image(width, height, channels, hundredths, tile, content):
    h = Header(width, height, channels, hundredths / 100, MODEL, tile)
    rows, columns = h.grid
    positions = sum(h.tile_latents(i)[2] * h.tile_latents(i)[3] for i in range(rows * columns))
    assert positions == -(-height // 16) * -(-width // 16)
    if rows * columns <= 100:
        stream = Bitstream(h, [content] * (rows * columns))
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


@given(st.integers(1, 2**20), st.integers(1, 2**20), st.integers(1, 64).map(lambda n: 64 * n))
@settings(max_examples=50, deadline=None)
def test_a_header_alone_takes_no_memory(width, height, tile):
    """The largest sizes that are allowed, with one tile of four bytes: refused, or read, in a few kilobytes."""
    data = with_header(width=width, height=height, tile=tile)
    tracemalloc.start()
    try:
        if width <= tile and height <= tile:
            assert len(read(data).tiles) == 1
        else:
            with pytest.raises(BitstreamError):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 1, "version 1"),
        ("channels", 2, "2 channels"),
        ("channels", 0, "0 channels"),
        ("width", 0, "0x10"),
        ("height", 0, "10x0"),
        ("width", 2**32 - 1, "4294967295x10"),
        ("quality", 10001, "quality 100.01"),
        ("tile", 0, "tiles of 0"),
        ("tile", 100, "tiles of 100"),
        ("tile", 8192, "tiles of 8192"),
    ],
)
def test_header_limits(field, value, message):
    with pytest.raises(BitstreamError, match=message):
        read(with_header(**{field: value}))


def test_unknown_chunks_are_skipped_or_refused_by_their_first_letter():
    data = write(sample())
    first = len(SIGNATURE) + CHUNK.size + HEADER.size + 4
    assert read(data[:first] + chunk(b"newT", b"whatever") + data[first:]) == sample()
    assert read(data + chunk(b"teXt", b"at the end")) == sample()
    with pytest.raises(BitstreamError, match="NEWT must be understood"):
        read(data[:first] + chunk(b"NEWT", b"whatever") + data[first:])


def test_tiles_and_metadata_in_the_wrong_place_are_told():
    start = with_header()
    with pytest.raises(BitstreamError, match="0 of 1 tiles"):
        read(start[: -(CHUNK.size + 12)])
    with pytest.raises(BitstreamError, match="tile 1"):
        read(start + chunk(b"TILE", b"\0\0\0\1...."))
    with pytest.raises(BitstreamError, match="tile None"):
        read(start + chunk(b"TILE", b"\0"))
    with pytest.raises(BitstreamError, match="out of place"):
        read(start + chunk(b"icCP", b"late"))
    with pytest.raises(BitstreamError, match="more than its pixels can need"):
        read(start[: -(CHUNK.size + 12)] + chunk(b"TILE", bytes(9000)))
    with pytest.raises(BitstreamError, match="not HEAD"):
        read(SIGNATURE + chunk(b"TILE", b"...."))


def test_the_message_says_what_happened():
    with pytest.raises(BitstreamError, match="empty"):
        read(b"")
    with pytest.raises(BitstreamError, match="not a .gic"):
        read(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(BitstreamError, match="line ends"):
        read(write(sample()).replace(b"\r\n", b"\n"))


def test_write_refuses_what_read_would():
    with pytest.raises(BitstreamError, match="0x5"):
        write(Bitstream(header(width=0, height=5), []))


def places(data):
    """Where the chunk of each tile begins and ends."""
    found, at = [], len(SIGNATURE)
    while at < len(data):
        kind, length = CHUNK.unpack_from(data, at)
        end = at + CHUNK.size + length + 4
        found += [(at, end)] * (kind == b"TILE")
        at = end
    return found


def test_an_index_reads_a_tile_when_it_is_asked_for():
    data = bytearray(write(sample()))
    data[places(data)[0][1] - 5] ^= 1  # the last byte of the first tile's payload
    index = Index(bytes(data))
    assert index.header == header() and index.icc == b"a profile"
    assert index.tile(2) == b"third..."
    with pytest.raises(BitstreamError, match="checksum of chunk TILE"):
        index.tile(0)
    with pytest.raises(BitstreamError, match="checksum of chunk TILE"):
        read(bytes(data))


def test_buffer_takes_bytes_and_paths(tmp_path):
    data = write(sample())
    (tmp_path / "a.gic").write_bytes(data)
    assert read(buffer(tmp_path / "a.gic")) == read(buffer(str(tmp_path / "a.gic"))) == read(buffer(bytearray(data)))
    (tmp_path / "a.gic").write_bytes(b"")
    with pytest.raises(BitstreamError, match="empty"):
        read(buffer(tmp_path / "a.gic"))
    with pytest.raises(TypeError, match="bytes of a .gic file or its path"):
        buffer(5)


def zeroed(data, begin, end):
    return data[:begin] + bytes(end - begin) + data[end:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, begin, end: zeroed(data, begin, end),
        lambda data, begin, end: zeroed(data, begin + 8, end - 4),
        lambda data, begin, end: zeroed(data, begin + 4, begin + 8),
        lambda data, begin, end: data[:begin] + data[end:],
        lambda data, begin, end: data[: begin + 3] + b"inserted" + data[begin + 3 :],
        lambda data, begin, end: b"\0" * 8 + zeroed(data, begin, end)[8:],
    ],
    ids=["whole chunk", "payload", "length", "removed", "inserted", "signature too"],
)
def test_salvage_finds_every_whole_tile(damage):
    data = write(sample())
    damaged = damage(data, *places(data)[1])
    with pytest.raises(BitstreamError):
        read(damaged)
    index = Index(damaged, salvage=True)
    assert (index.header, index.icc, index.exif) == (header(), b"a profile", b"Exif\0\0...")
    assert (index.tile(0), index.tile(2)) == (b"first...", b"third...")
    with pytest.raises(BitstreamError, match="tile 1 is damaged or missing"):
        index.tile(1)


def test_salvage_of_a_file_cut_short_and_of_one_without_a_header():
    data = write(sample())
    index = Index(data[: places(data)[1][0] + 2], salvage=True)
    assert index.tile(0) == b"first..."
    with pytest.raises(BitstreamError, match="tile 2"):
        index.tile(2)
    for hopeless in (data[:20], zeroed(data, 10, 20), b"", b"TILE" * 10):
        with pytest.raises(BitstreamError, match="nothing can be salvaged"):
            Index(hopeless, salvage=True)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_salvage_gives_what_was_written_or_the_one_error(data):
    whole = sample()
    damaged = bytearray(write(whole))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        index = Index(bytes(damaged), salvage=True)
    except BitstreamError:
        return
    assert index.header == whole.header
    for i, tile in enumerate(whole.tiles):
        try:
            assert index.tile(i) == tile
        except BitstreamError:
            pass
