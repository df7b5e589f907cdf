"""The .gic container: chunks of bytes, as in PNG. It does not depend on the networks. FORMAT.md describes it.

signature | HEAD | icCP, exIF, dENS | TILE 0 | TILE 1 | ...      each chunk: type, length, payload, CRC-32
"""

import os
import stat
import struct
import zlib
from dataclasses import dataclass, field

from ganlib.codec.file_on_disk import FileOnDisk
from ganlib.codec.header import VERSION, BitstreamError, Header, tile_limits

# A byte that is not ASCII; the name; both line ends and DOS's end of file, which a text-mode transfer would change.
SIGNATURE = b"\x89GIC\r\n\x1a\n"
HEADER = struct.Struct(">BBIIHH8sI")  # version, channels, width, height, quality, tile, fingerprint, content
CHUNK = struct.Struct(">4sI")  # type, length of the payload
CHECKSUM = struct.Struct(">I")  # CRC-32, see _checksum()
TILE_INDEX = struct.Struct(">I")
DENSITY = struct.Struct(">II")  # thousandths of a dot per inch, across and down
METADATA = {b"icCP": "its colour profile", b"exIF": "its EXIF", b"dENS": "its pixel density"}  # ancillary chunks
MAX_METADATA = 2**24 - 1  # bytes of one of them
PIECE = 2**20  # bytes that are read at once from a chunk that is only checked


@dataclass(frozen=True)
class Bitstream:
    """A parsed file."""

    header: Header
    tiles: list = field(repr=False)  # bytes of each tile, in reading order
    icc: bytes | None = field(default=None, repr=False)  # colour profile
    exif: bytes | None = field(default=None, repr=False)
    dpi: tuple | None = None  # dots per inch across and down


def _checksum(head, data):
    """CRC-32 of HEAD's payload, followed by a chunk's type, length and payload. (For HEAD: of these three.)

    So a chunk of another file never fits, even where both pictures have the same size, quality and weights: HEAD's
    field `content` differs.
    """
    return zlib.crc32(data, zlib.crc32(head))


def chunk(head, kind, payload):
    """Bytes of a chunk. head: payload of HEAD, b"" for HEAD itself."""
    data = CHUNK.pack(kind, len(payload)) + payload
    return data + CHECKSUM.pack(_checksum(head, data))


def write(stream):
    """Bitstream -> bytes of a file. BitstreamError where a field is out of its limits."""
    header = stream.header
    header.check()
    if len(stream.tiles) != header.tiles:
        raise BitstreamError(f"{len(stream.tiles)} tiles, where the header asks for {header.tiles}")
    content = 0
    for i, tile in enumerate(stream.tiles):
        least, most = tile_limits(header.tile_area(i))
        if not least <= len(tile) <= most:
            raise BitstreamError(f"tile {i} of {len(tile)} bytes; its pixels take {least} to {most}")
        content = zlib.crc32(tile, content)
    head = HEADER.pack(
        header.version, header.channels, header.width, header.height,
        header.quality, header.tile, header.fingerprint, content,
    )  # fmt: skip
    parts = [SIGNATURE, chunk(b"", b"HEAD", head)]
    for kind, payload in zip(METADATA, (stream.icc, stream.exif, _packed(stream.dpi)), strict=True):
        if payload:
            if len(payload) > MAX_METADATA:
                raise BitstreamError(f"{kind.decode()} of {len(payload)} bytes; at most {MAX_METADATA} are kept")
            parts.append(chunk(head, kind, payload))
    parts += [chunk(head, b"TILE", TILE_INDEX.pack(i) + tile) for i, tile in enumerate(stream.tiles)]
    return b"".join(parts)


def _packed(dpi):
    """(x, y) dots per inch -> payload of dENS, or None where one is not valid: zero, negative, not finite, huge."""
    try:
        return DENSITY.pack(*(round(1000 * float(n)) for n in dpi)) if dpi and min(dpi) >= 0.001 else None
    except (struct.error, TypeError, ValueError, OverflowError):
        return None


def _unpacked(payload):
    """Payload of dENS -> (x, y) dots per inch, or None where it holds none."""
    numbers = DENSITY.unpack(payload) if payload and len(payload) == DENSITY.size else (0, 0)
    return tuple(n / 1000 for n in numbers) if min(numbers) > 0 else None


def chunk_at(data, at):
    """(type, offset of the payload, its length) of the chunk at a byte; the payload is not read."""
    if len(data) - at < CHUNK.size + CHECKSUM.size:
        raise BitstreamError(f"cut short: byte {at} begins a chunk that does not end")
    kind, length = CHUNK.unpack(data[at : at + CHUNK.size])
    if not (kind.isascii() and kind.isalpha()):
        raise BitstreamError(f"damaged: the chunk at byte {at} has the impossible type {kind!r}")
    if at + CHUNK.size + length + CHECKSUM.size > len(data):
        raise BitstreamError(f"cut short or damaged: chunk {kind.decode()} at byte {at} claims {length} bytes")
    return kind, at + CHUNK.size, length


def fits(data, head, offset, length):
    """Whether the checksum is right of the chunk whose payload is at `offset`. A long chunk is read in pieces."""
    at, end, checksum = offset - CHUNK.size, offset + length, zlib.crc32(head)
    while at < end:
        piece = data[at : min(at + PIECE, end)]
        checksum, at = zlib.crc32(piece, checksum), at + PIECE
    return data[end : end + CHECKSUM.size] == CHECKSUM.pack(checksum)


def payload_of(data, head, offset, length):
    """The payload at `offset`, read only once. BitstreamError where the checksum of its chunk does not fit."""
    whole = data[offset - CHUNK.size : offset + length + CHECKSUM.size]
    if not fits(whole, head, CHUNK.size, length):
        raise _misfit(whole, offset - CHUNK.size)
    return bytes(whole[CHUNK.size : CHUNK.size + length])


def _misfit(chunk, at):
    return BitstreamError(f"damaged: the checksum of chunk {bytes(chunk[:4]).decode()} at byte {at} does not fit")


def _heads(data):
    """Yield the result of chunk_at() for every chunk of a file, from the first to the last byte."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        if data[1:4] == b"GIC":
            raise BitstreamError("damaged signature: the file went through a transfer that changes line ends")
        raise BitstreamError("not a .gic file (wrong signature)" if len(data) else "the file is empty")
    at = len(SIGNATURE)
    while at < len(data):
        kind, offset, length = chunk_at(data, at)
        yield kind, offset, length
        at = offset + length + CHECKSUM.size


def chunks(data):
    """Yield (type, offset of the payload, payload) of every chunk of a file, checksums verified.

    Raises:
        BitstreamError: wrong signature, a chunk cut short, a checksum that does not fit.
    """
    head = b""
    for kind, offset, length in _heads(data):
        payload = payload_of(data, head, offset, length)
        head = head or payload
        yield kind, offset, payload


def read_header(kind, payload):
    """Payload of the first chunk -> Header, within its limits."""
    if kind != b"HEAD":
        raise BitstreamError(f"the first chunk is {kind.decode()}, not HEAD")
    if payload and payload[0] != VERSION:
        raise BitstreamError(f"version {payload[0]} of the format; this program reads version {VERSION}")
    if len(payload) != HEADER.size:
        raise BitstreamError(f"header of {len(payload)} bytes; version {VERSION} has {HEADER.size}")
    version, channels, width, height, quality, tile, fingerprint, _ = HEADER.unpack(payload)
    header = Header(width, height, channels, quality, fingerprint, tile, version)
    header.check()
    return header


def tile_number(data, header, offset, length):
    """Number of the tile in a TILE chunk. Number and length are checked (BitstreamError), the checksum is not."""
    index = TILE_INDEX.unpack(data[offset : offset + TILE_INDEX.size])[0] if length >= TILE_INDEX.size else None
    if index is None or index >= header.tiles:
        raise BitstreamError(f"tile {index} at byte {offset}; there are {header.tiles}")
    least, most = tile_limits(header.tile_area(index))
    if not least <= length - TILE_INDEX.size <= most:
        raise BitstreamError(f"tile {index} has {length - TILE_INDEX.size} bytes; its pixels take {least} to {most}")
    return index


def buffer(source):
    """Bytes of a file, or its path -> bytes, or a FileOnDisk that reads only the parts that are used.

    Raises:
        TypeError: neither. OSError: the file cannot be opened.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"give the bytes of a .gic file or its path, not {type(source).__name__}")
    file = open(source, "rb", buffering=0)
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return FileOnDisk(file, status.st_size)
    with file:  # a pipe has no size
        return file.read()


def first_header(data):
    """Header of a file whose first chunk is whole, else None; the rest is not read."""
    try:
        kind, offset, length = chunk_at(data, len(SIGNATURE))
        return read_header(kind, payload_of(data, b"", offset, length))
    except BitstreamError:
        return None


class Index:
    """A file whose tiles are read when they are needed.

    Args:
        data: bytes of the file, or a FileOnDisk.
        only_header: whether the data end before the tiles.

    Attributes:
        data: as given.
        header, icc, exif, dpi: as in Bitstream.
        damaged: which metadata are damaged, in words; "" unless salvaged. (See SalvagedIndex.)

    Raises:
        BitstreamError: for any error outside the tiles.
    """

    damaged = ""

    def __init__(self, data, *, only_header=False):
        self._data, self._head, self.header, self._places, self._metadata = data, b"", None, {}, {}
        self._find()
        if self.header is None:
            raise BitstreamError("cut short: no header")
        if not only_header:
            self._check_tiles()
        self.icc, self.exif = self._metadata.get(b"icCP"), self._metadata.get(b"exIF")
        self.dpi = _unpacked(self._metadata.get(b"dENS"))

    @property
    def data(self):
        return self._data

    def _find(self):
        """Fill in header, places and metadata."""
        for kind, offset, length in _heads(self._data):
            if self.header is None:
                self._head = payload_of(self._data, b"", offset, length)
                self.header = read_header(kind, self._head)
            elif kind == b"TILE":
                index, expected = tile_number(self._data, self.header, offset, length), len(self._places)
                if index != expected:
                    raise BitstreamError(f"tile {index} at byte {offset}; tile {expected} was expected")
                self._places[index] = offset, length
            elif kind in METADATA:
                if kind in self._metadata or length > MAX_METADATA or self._places:
                    raise BitstreamError(f"chunk {kind.decode()} at byte {offset} is repeated, too long or misplaced")
                self._metadata[kind] = payload_of(self._data, self._head, offset, length)
            elif kind == b"HEAD":
                raise BitstreamError(f"a second chunk HEAD at byte {offset - CHUNK.size}")
            elif kind[:1].isupper():
                raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")
            elif not fits(self._data, self._head, offset, length):
                raise _misfit(kind, offset - CHUNK.size)

    def _check_tiles(self):
        if len(self._places) != self.header.tiles:
            raise BitstreamError(f"cut short: {len(self._places)} of {self.header.tiles} tiles")

    def tile(self, index):
        """Words of a tile as bytes. BitstreamError where it is damaged or missing."""
        if index not in self._places:
            raise BitstreamError(f"tile {index} is damaged or missing")
        return payload_of(self._data, self._head, *self._places[index])[TILE_INDEX.size :]


def read(data):
    """Bytes of a file -> Bitstream. Allocates no more than the file's own size.

    Raises:
        BitstreamError: anything that is not a whole, undamaged file of this version.
    """
    index = Index(data)
    tiles = [index.tile(i) for i in range(index.header.tiles)]
    return Bitstream(index.header, tiles, index.icc, index.exif, index.dpi)
