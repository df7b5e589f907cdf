"""Salvage: every whole tile of a damaged file, nothing of another file, in time proportional to its size."""

import struct
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_container import TILES, chunk, header, places, sample

from ganlib.codec import container, salvage
from ganlib.codec.container import CHUNK, HEADER, SIGNATURE, Bitstream, BitstreamError, buffer, read, write
from ganlib.codec.salvage import WASTE, SalvagedIndex

FIRST = len(SIGNATURE) + CHUNK.size + HEADER.size + 4  # byte behind HEAD


def head_of(data):
    return data[len(SIGNATURE) + CHUNK.size :][: HEADER.size]


def tiles(data):
    """What is salvaged: the words of each tile, None where it is missing."""
    index = SalvagedIndex(data)
    found = []
    for i in range(index.header.tiles):
        try:
            found.append(index.tile(i))
        except BitstreamError as error:
            assert f"tile {i} is damaged or missing" in str(error)
            found.append(None)
    return found


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
        lambda data, begin, end: data[3:begin] + data[end:],
    ],
    ids=["whole chunk", "payload", "length", "removed", "inserted", "signature too", "signature cut"],
)
def test_finds_every_whole_tile(damage):
    data = write(sample())
    damaged = damage(data, *places(data)[1])
    with pytest.raises(BitstreamError):
        read(damaged)
    index = SalvagedIndex(damaged)
    assert (index.header, index.icc, index.exif) == (header(), b"a profile", b"Exif\0\0...")
    assert tiles(damaged) == [TILES[0], None, TILES[2]]


def test_an_undamaged_file_is_what_it_is():
    data = write(sample(dpi=(300, 300)))
    index = SalvagedIndex(data)
    assert tiles(data) == TILES
    assert (index.header, index.icc, index.exif, index.dpi) == (header(), b"a profile", b"Exif\0\0...", (300, 300))


def test_a_file_cut_short_and_one_without_a_header():
    data = write(sample())
    assert tiles(data[: places(data)[1][0] + 2]) == [TILES[0], None, None]
    for hopeless in (data[:20], zeroed(data, 10, 20), b"", b"TILE" * 10):
        with pytest.raises(BitstreamError, match="no whole header: nothing can be salvaged"):
            SalvagedIndex(hopeless)
    for empty in (data[:FIRST], data[: places(data)[0][1] - 1]):
        with pytest.raises(BitstreamError, match="no whole tile: nothing can be salvaged"):
            SalvagedIndex(empty)


def test_tiles_in_another_order_and_twice_are_found_once():
    data = write(sample())
    chunks = [data[begin:end] for begin, end in places(data)]
    shuffled = data[: places(data)[0][0]] + chunks[2] + chunks[0] + chunks[2] + chunks[1]
    assert tiles(shuffled) == TILES


def other(**changes):
    """Another file of the same size, quality and weights."""
    return write(sample(tiles=[b"foe1" * 126, b"foe2" * 130, b"foe3" * 7], **changes))


def test_a_file_within_metadata_is_not_looked_into():
    """Nor one that has lost its signature, nor where the chunk after it is damaged."""
    for inner in (other(), other()[8:], other()[FIRST:]):
        data = write(sample(exif=inner))
        assert tiles(data) == TILES
        begin, end = places(data)[0]
        assert tiles(zeroed(data, begin, end)) == [None, *TILES[1:]]
        with_unknown = data[:FIRST] + chunk(b"zzZz", inner, head_of(data)) + data[FIRST:]
        assert tiles(with_unknown) == TILES


def test_a_file_behind_a_damaged_one_is_left_alone():
    data = write(sample())
    begin, end = places(data)[1]
    damaged = data[:begin] + data[end:]
    assert tiles(damaged + other()) == [TILES[0], None, TILES[2]]
    # nor are its tiles taken where its signature is lost, or its first chunks
    for behind in (other()[3:], other()[FIRST:], b"noise" + other()[1:]):
        assert tiles(damaged + behind) == [TILES[0], None, TILES[2]]
    # not even the tiles of this very file behind a second signature: it may be any version of it
    assert tiles(damaged + data) == [TILES[0], None, TILES[2]]


def test_a_file_behind_one_whose_header_is_damaged_is_not_taken_for_it():
    data = zeroed(write(sample()), 10, 20)
    with pytest.raises(BitstreamError, match=f"no whole header.*another file begins at byte {len(data)}"):
        SalvagedIndex(data + other())
    with pytest.raises(BitstreamError, match="another file begins at byte 5"):
        SalvagedIndex(b"stray" + other())


def test_a_header_is_not_replaced_by_a_later_one():
    data = write(sample())
    begin, _ = places(data)[0]
    foreign = head_of(other())
    assert tiles(data[:begin] + chunk(b"HEAD", foreign) + data[begin:]) == TILES


def test_what_must_be_understood_is_refused():
    data = write(sample())
    with pytest.raises(BitstreamError, match="NEWT must be understood"):
        SalvagedIndex(data[:FIRST] + chunk(b"NEWT", b"", head_of(data)) + data[FIRST:])
    with pytest.raises(BitstreamError, match="version 9"):
        SalvagedIndex(SIGNATURE + chunk(b"HEAD", b"\x09" + bytes(30)))


FLOODS = {
    "tiles of half the file": lambda size: (b"TILE" + struct.pack(">I", size // 2)) * (size // 8),
    "plausible tiles": lambda size: (b"TILE" + struct.pack(">II", size // 2, 1)) * (size // 12),
    "short tiles": lambda size: (b"TILE" + struct.pack(">II", 32, 2)) * (size // 12),
    "metadata": lambda size: (b"exIF" + struct.pack(">I", size // 2)) * (size // 8),
    "headers": lambda size: (b"HEAD" + struct.pack(">I", 30)) * (size // 8),
    "zeros": lambda size: bytes(size),
    "types": lambda size: b"TILE\0" * (size // 5),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("behind", ["header", "nothing"])
def test_floods_of_false_beginnings_take_time_in_proportion(monkeypatch, kind, behind):
    """Bytes that are hashed, and places that are looked at, for each byte of the file."""
    hashed, looked = [], []
    crc32, pattern = zlib.crc32, salvage.BEGINNING
    monkeypatch.setattr(zlib, "crc32", lambda data, start=0: hashed.append(len(data)) or crc32(data, start))
    searching = SimpleNamespace(search=lambda data, at: looked.append(at) or pattern.search(data, at))
    monkeypatch.setattr(salvage, "BEGINNING", searching)
    start = write(Bitstream(header(), TILES))[: FIRST if behind == "header" else 8]
    for size in (40_000, 400_000):
        data = start + FLOODS[kind](size)
        hashed.clear(), looked.clear()
        with pytest.raises(BitstreamError, match="nothing can be salvaged"):
            SalvagedIndex(data)
        # the last false beginning may come when nearly all of the waste is used up
        assert sum(hashed) <= (WASTE + 1) * len(data) + HEADER.size * len(looked)
        assert len(looked) <= WASTE * len(data) / salvage.SMALLEST_WASTE + 3


def test_a_flood_between_tiles_hides_at_most_what_is_behind_it():
    data = write(sample())
    begin, end = places(data)[1]
    flood = FLOODS["plausible tiles"](2000)
    assert tiles(data[:begin] + flood + data[end:])[0] == TILES[0]


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_gives_what_was_written_or_the_one_error(data):
    whole = sample()
    damaged = bytearray(write(whole))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = tiles(bytes(damaged))
    except BitstreamError:
        return
    assert SalvagedIndex(bytes(damaged)).header == whole.header
    assert all(tile in (None, expected) for tile, expected in zip(found, TILES, strict=True))


def test_a_file_on_disk_is_searched_piece_by_piece(tmp_path, monkeypatch):
    """A beginning that lies across two pieces is found, and no piece is large."""
    monkeypatch.setattr(salvage, "LARGEST_PIECE", 1024)
    data = write(sample(exif=None))
    begin, end = places(data)[1]
    for gap in range(3000, 3040):
        (tmp_path / "a.gic").write_bytes(data[:begin] + b"-" * gap + data[end:])
        index = SalvagedIndex(buffer(tmp_path / "a.gic"))
        assert index.tile(2) == TILES[2] and not index.damaged


def test_metadata_that_are_damaged_are_named_and_no_others():
    data = write(sample(dpi=(300, 300)))
    chunks = {kind: offset for kind, offset, _ in container.chunks(data)}
    for kind, words in container.METADATA.items():
        damaged = bytearray(data)
        damaged[chunks[kind]] ^= 1
        assert SalvagedIndex(bytes(damaged)).damaged == words
        assert not SalvagedIndex(bytes(damaged[: chunks[kind] - 8]) + data[places(data)[0][0] :]).damaged
    both = zeroed(data, chunks[b"icCP"], chunks[b"exIF"] + 2)
    assert SalvagedIndex(both).damaged == "its colour profile"  # what stood behind it nobody knows
    assert not SalvagedIndex(zeroed(data, *places(data)[0])).damaged
