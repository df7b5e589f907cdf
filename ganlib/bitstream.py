"""The .gic container: chunks of bytes in PNG's manner. Knows no network. FORMAT.md tells it in prose."""

import struct
import zlib
from dataclasses import dataclass, field

# Not ASCII; then the name; then both line ends and DOS's end of file, which a text-mode transfer would change.
SIGNATURE = b"\x89GIC\r\n\x1a\n"
VERSION = 1
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


def chunks(data):
    """Yield (type, offset of the payload, payload) of every chunk of a file, checksums verified.

    Raises:
        BitstreamError: wrong signature, a chunk cut short, a checksum that does not fit.
    """
    if data[: len(SIGNATURE)] != SIGNATURE:
        if data[1:4] == b"GIC":
            raise BitstreamError("damaged signature: the file went through a transfer that changes line ends")
        raise BitstreamError("not a .gic file (wrong signature)" if data else "the file is empty")
    view, at = memoryview(data), len(SIGNATURE)
    while at < len(data):
        if len(data) - at < CHUNK.size + CHECKSUM.size:
            raise BitstreamError(f"cut short: byte {at} begins a chunk that does not end")
        kind, length = CHUNK.unpack_from(data, at)
        if not (kind.isascii() and kind.isalpha()):
            raise BitstreamError(f"damaged: the chunk at byte {at} has the impossible type {kind!r}")
        end = at + CHUNK.size + length
        if end + CHECKSUM.size > len(data):
            raise BitstreamError(f"cut short or damaged: chunk {kind.decode()} at byte {at} claims {length} bytes")
        if CHECKSUM.unpack_from(data, end)[0] != zlib.crc32(view[at:end]):
            raise BitstreamError(f"damaged: the checksum of chunk {kind.decode()} at byte {at} does not fit")
        yield kind, at + CHUNK.size, bytes(view[at + CHUNK.size : end])
        at = end + CHECKSUM.size


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


def read(data):
    """Bytes of a file -> Bitstream. Allocates no more than the file's own size.

    Raises:
        BitstreamError: anything that is not a whole, undamaged file of this version.
    """
    header, tiles, metadata = None, [], {}
    for kind, offset, payload in chunks(data):
        if header is None:
            header = _read_header(kind, payload)
            count = header.grid[0] * header.grid[1]
        elif kind == b"TILE":
            index = TILE_INDEX.unpack_from(payload)[0] if len(payload) >= TILE_INDEX.size else None
            if index != len(tiles) or index >= count:
                raise BitstreamError(f"tile {index} at byte {offset}; tile {len(tiles)} of {count} was expected")
            _, _, height, width = header.tile_latents(index)
            # z has its own grid, a quarter of y's and rounded up: hence at least 4x4 positions
            if len(payload) > MAX_BYTES_PER_POSITION * max(4, height) * max(4, width):
                raise BitstreamError(f"tile {index} claims {len(payload)} bytes, more than its pixels can need")
            tiles.append(payload[TILE_INDEX.size :])
        elif kind in (b"icCP", b"exIF"):
            if kind in metadata or len(payload) > MAX_METADATA or tiles:
                raise BitstreamError(f"chunk {kind.decode()} at byte {offset} is repeated, too long or out of place")
            metadata[kind] = payload
        elif kind[:1].isupper():
            raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")
    if header is None:
        raise BitstreamError("cut short: no header")
    if len(tiles) != count:
        raise BitstreamError(f"cut short: {len(tiles)} of {count} tiles")
    return Bitstream(header, tiles, metadata.get(b"icCP"), metadata.get(b"exIF"))
