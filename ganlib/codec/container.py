"""The .gic container: chunks of bytes in PNG's manner. Knows no network. FORMAT.md tells it in prose."""

import mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass, field

# Not ASCII; then the name; then both line ends and DOS's end of file, which a text-mode transfer would change.
SIGNATURE = b"\x89GIC\r\n\x1a\n"
VERSION = 2  # 1 had the same container, and other arithmetic within a tile
HEADER = struct.Struct(">BBIIHH8s")  # version, channels, width, height, 100 * quality, tile, model
CHUNK = struct.Struct(">4sI")  # type, length of the payload
CHECKSUM = struct.Struct(">I")  # CRC-32 of type, length and payload
TILE_INDEX = struct.Struct(">I")

STRIDE = 16  # pixels along one side of a latent
MAX_SIDE = 2**20  # pixels
MAX_PIXELS = 2**30
MAX_METADATA = 2**24  # bytes of one ancillary chunk
MIN_TILE, MAX_TILE = 64, 4096  # pixels
# Bytes that the symbols of one latent position may need at the very most: 128 of y and 4 of z, 3 bytes each.
MAX_BYTES_PER_POSITION = 512


class BitstreamError(ValueError):
    """The file is damaged, is not a .gic file, or needs another model; the message says which."""


@dataclass(frozen=True)
class Header:
    """What a decoder must know before it allocates anything."""

    width: int  # pixels
    height: int
    channels: int  # 1 grayscale, 3 RGB
    quality: float  # 0 to 100 in steps of 0.01
    model: bytes  # first 8 bytes of the SHA-256 of the weights that steer decoding
    tile: int = 1024  # pixels along one side of a tile
    version: int = VERSION

    @property
    def grid(self):
        """Tiles as (rows, columns)."""
        return -(-self.height // self.tile), -(-self.width // self.tile)

    @property
    def tiles(self):
        """How many there are."""
        return self.grid[0] * self.grid[1]

    def tile_latents(self, index):
        """Tile number in reading order -> (top, left, height, width) in latents of 16x16 pixels."""
        row, column = divmod(index, self.grid[1])
        side = self.tile // STRIDE
        rows, columns = -(-self.height // STRIDE), -(-self.width // STRIDE)
        top, left = row * side, column * side
        return top, left, min(side, rows - top), min(side, columns - left)

    def check(self):
        """Raise BitstreamError where a number is out of its limits."""
        if self.version != VERSION:
            raise BitstreamError(f"version {self.version} of the format; this program reads version {VERSION}")
        if self.channels not in (1, 3):
            raise BitstreamError(f"header asks for {self.channels} channels; 1 and 3 exist")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BitstreamError(f"header asks for {self.width}x{self.height} pixels; a side has 1 to {MAX_SIDE}")
        if self.width * self.height > MAX_PIXELS:
            raise BitstreamError(f"header asks for {self.width}x{self.height} pixels; at most {MAX_PIXELS} are read")
        if not 0 <= self.quality <= 100:
            raise BitstreamError(f"header asks for quality {self.quality}; it runs from 0 to 100")
        if not MIN_TILE <= self.tile <= MAX_TILE or self.tile % MIN_TILE:
            raise BitstreamError(
                f"header asks for tiles of {self.tile} pixels; multiples of {MIN_TILE} up to {MAX_TILE} exist"
            )


@dataclass(frozen=True)
class Bitstream:
    """A parsed file."""

    header: Header
    tiles: list = field(repr=False)  # bytes of each tile, in reading order
    icc: bytes | None = field(default=None, repr=False)  # colour profile
    exif: bytes | None = field(default=None, repr=False)


def _chunk(kind, payload):
    head = CHUNK.pack(kind, len(payload))
    return head + payload + CHECKSUM.pack(zlib.crc32(head + payload))


def write(stream):
    """Bitstream -> bytes of a file. BitstreamError where a field is out of its limits."""
    header = stream.header
    header.check()
    fields = (
        header.version, header.channels, header.width, header.height,
        round(header.quality * 100), header.tile, header.model,
    )  # fmt: skip
    parts = [SIGNATURE, _chunk(b"HEAD", HEADER.pack(*fields))]
    for kind, payload in ((b"icCP", stream.icc), (b"exIF", stream.exif)):
        if payload:
            if len(payload) > MAX_METADATA:
                raise BitstreamError(f"{kind.decode()} of {len(payload)} bytes; at most {MAX_METADATA} are kept")
            parts.append(_chunk(kind, payload))
    parts += [_chunk(b"TILE", TILE_INDEX.pack(i) + tile) for i, tile in enumerate(stream.tiles)]
    return b"".join(parts)


def _heads(data):
    """Yield (type, offset of the payload, its length) of every chunk; of the payloads nothing is read."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        if data[1:4] == b"GIC":
            raise BitstreamError("damaged signature: the file went through a transfer that changes line ends")
        raise BitstreamError("not a .gic file (wrong signature)" if len(data) else "the file is empty")
    at = len(SIGNATURE)
    while at < len(data):
        if len(data) - at < CHUNK.size + CHECKSUM.size:
            raise BitstreamError(f"cut short: byte {at} begins a chunk that does not end")
        kind, length = CHUNK.unpack_from(data, at)
        if not (kind.isascii() and kind.isalpha()):
            raise BitstreamError(f"damaged: the chunk at byte {at} has the impossible type {kind!r}")
        if at + CHUNK.size + length + CHECKSUM.size > len(data):
            raise BitstreamError(f"cut short or damaged: chunk {kind.decode()} at byte {at} claims {length} bytes")
        yield kind, at + CHUNK.size, length
        at += CHUNK.size + length + CHECKSUM.size


def _payload(data, offset, length):
    """The payload of the chunk there. BitstreamError where its checksum does not fit."""
    begin, end = offset - CHUNK.size, offset + length
    if CHECKSUM.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[begin:end]):
        kind = bytes(data[begin : begin + 4]).decode()
        raise BitstreamError(f"damaged: the checksum of chunk {kind} at byte {begin} does not fit")
    return bytes(data[offset:end])


def chunks(data):
    """Yield (type, offset of the payload, payload) of every chunk of a file, checksums verified.

    Raises:
        BitstreamError: wrong signature, a chunk cut short, a checksum that does not fit.
    """
    for kind, offset, length in _heads(data):
        yield kind, offset, _payload(data, offset, length)


def _read_header(kind, payload):
    if kind != b"HEAD":
        raise BitstreamError(f"the first chunk is {kind.decode()}, not HEAD")
    if payload and payload[0] != VERSION:
        raise BitstreamError(f"version {payload[0]} of the format; this program reads version {VERSION}")
    if len(payload) != HEADER.size:
        raise BitstreamError(f"header of {len(payload)} bytes; version {VERSION} has {HEADER.size}")
    version, channels, width, height, quality, tile, model = HEADER.unpack(payload)
    header = Header(width, height, channels, quality / 100, model, tile, version)
    header.check()
    return header


def buffer(source):
    """Bytes of a file, or its path -> bytes, or a mapping into memory of which only what is used is read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"give the bytes of a .gic file or its path, not {type(source).__name__}")
    with open(source, "rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0
        return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Index:
    """A file whose tiles are read when they are asked for.

    Args:
        data: bytes of the file, or a mapping of it into memory.
        salvage: take what is whole of a damaged file, in place of an error. Only the header must be whole.

    Attributes:
        header, icc, exif: as in Bitstream.

    Raises:
        BitstreamError: where `salvage` is off, for all that is wrong outside the tiles.
    """

    def __init__(self, data, salvage=False):
        self._data = data
        heads = _intact_heads(data) if salvage else _heads(data)
        self.header, metadata, places = None, {}, {}
        for kind, offset, length in heads:
            if self.header is None:
                self.header = _read_header(kind, _payload(data, offset, length))
            elif kind == b"TILE":
                index = TILE_INDEX.unpack_from(data, offset)[0] if length >= TILE_INDEX.size else None
                count = self.header.tiles
                if index is None or index >= count or not (salvage or index == len(places)):
                    raise BitstreamError(f"tile {index} at byte {offset}; tile {len(places)} of {count} was expected")
                _, _, height, width = self.header.tile_latents(index)
                # z has its own grid, a quarter of y's and rounded up: hence at least 4x4 positions
                if length > MAX_BYTES_PER_POSITION * max(4, height) * max(4, width):
                    raise BitstreamError(f"tile {index} claims {length} bytes, more than its pixels can need")
                places[index] = offset, length
            elif kind in (b"icCP", b"exIF"):
                if kind in metadata or length > MAX_METADATA or places:
                    raise BitstreamError(
                        f"chunk {kind.decode()} at byte {offset} is repeated, too long or out of place"
                    )
                metadata[kind] = _payload(data, offset, length)
            elif kind[:1].isupper():
                raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")
            else:
                _payload(data, offset, length)
        if self.header is None:
            raise BitstreamError("cut short: no header")
        if len(places) != self.header.tiles and not salvage:
            raise BitstreamError(f"cut short: {len(places)} of {self.header.tiles} tiles")
        self.icc, self.exif = metadata.get(b"icCP"), metadata.get(b"exIF")
        self._places = places

    def tile(self, index):
        """Bytes of a tile. BitstreamError where it is damaged or, in salvage, missing."""
        if index not in self._places:
            raise BitstreamError(f"tile {index} is damaged or missing")
        return _payload(self._data, *self._places[index])[TILE_INDEX.size :]


def _intact_heads(data):
    """What _heads gives, but of whole chunks only, wherever they lie: their types are searched for."""
    data, found = bytes(data), {}
    for match in re.finditer(b"HEAD|icCP|exIF|TILE", data):
        if len(data) - match.start() < CHUNK.size + CHECKSUM.size:
            continue
        kind, length = CHUNK.unpack_from(data, match.start())
        offset = match.start() + CHUNK.size
        if offset + length + CHECKSUM.size <= len(data):
            try:
                payload = _payload(data, offset, length)
            except BitstreamError:
                continue
            # header, metadata, tiles by number: the order in which Index wants them
            key = (b"HEAD", b"icCP", b"exIF", b"TILE").index(kind), payload[: TILE_INDEX.size] * (kind == b"TILE")
            found.setdefault(key, (kind, offset, length))
    heads = [found[key] for key in sorted(found)]
    if not heads or heads[0][0] != b"HEAD":
        raise BitstreamError("no whole header: nothing can be salvaged")
    return heads


def read(data):
    """Bytes of a file -> Bitstream. Allocates no more than the file's own size.

    Raises:
        BitstreamError: anything that is not a whole, undamaged file of this version.
    """
    index = Index(data)
    tiles = [index.tile(i) for i in range(index.header.tiles)]
    return Bitstream(index.header, tiles, index.icc, index.exif)
