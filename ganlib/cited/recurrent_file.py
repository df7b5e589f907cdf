"""The file of a recurrent model: layers of bits, of which all but the first may be cut off.

    signature | HEAD | icCP, exIF, dENS | TILE 0 | TILE 1 | ...     as in FORMAT.md: the first pass of each tile
    siZE      4 bytes for each layer that follows: its length
    laYR ...  4 bytes: its number, from 0; then bits. Pass 2 of each tile in reading order, pass 3 of each, ...
    laYP      the same with plain bits, where the coded ones would take more bytes

So it is already a complete .gic file at the end of its last TILE; the layers that refine it are ancillary. HEAD's
quality gives the number of passes, siZE the lengths of their layers. From these a reader knows whether a file was cut
off or is damaged.
"""

import struct
from typing import NamedTuple

from ganlib.codec import container
from ganlib.codec.container import CHECKSUM, CHUNK, HEADER, SIGNATURE, TILE_INDEX, Bitstream, chunk_at, payload_of
from ganlib.codec.header import BitstreamError
from ganlib.codec.salvage import SalvagedIndex

SIZE = struct.Struct(">I")
CODED, PLAIN = b"laYR", b"laYP"


class Layer(NamedTuple):
    """The bits of one pass of one tile: coded, or plain, eight to a byte (see PlaneCoder)."""

    plain: bool
    data: bytes


def write(header, layers, metadata=()):
    """Bytes of a file.

    Args:
        layers: for each pass a list of Layer, one for each tile; those of the first pass are coded.
        metadata: icc, exif, dpi, as in Bitstream.
    """
    data = container.write(Bitstream(header, [layer.data for layer in layers[0]], *metadata))
    head = data[len(SIGNATURE) + CHUNK.size :][: HEADER.size]
    more = [layer for tiles in layers[1:] for layer in tiles]
    chunks = [
        container.chunk(head, PLAIN if layer.plain else CODED, TILE_INDEX.pack(n) + layer.data)
        for n, layer in enumerate(more)
    ]
    sizes = b"".join(SIZE.pack(len(layer.data)) for layer in more)
    return b"".join([data, container.chunk(head, b"siZE", sizes), *chunks]) if more else data


class RecurrentIndex:
    """The contents of a file, or of its beginning.

    Args:
        data: bytes of the file, or a container.FileOnDisk.
        passes: function from HEAD's quality to the number of passes.
        salvage: if a pass of a tile is damaged, keep the passes before it.

    Attributes:
        data, header, icc, exif, dpi, damaged: as in container.Index.
        passes: how many were written.
        layers: for each tile a Layer of each pass that is there.
        ends: bytes of the file up to the end of its first pass, of its second, ...
        end: bytes of the file up to the end of its last whole chunk.

    Raises:
        BitstreamError: it is damaged, or cut off within the first pass.
    """

    def __init__(self, data, passes, salvage=False):
        self.data, end = data, _end_of_tiles(data)
        base = (SalvagedIndex if salvage else container.Index)(data[:end])
        self.header, self.damaged = base.header, base.damaged
        self.icc, self.exif, self.dpi = base.icc, base.exif, base.dpi
        self.passes, self.end, self.ends, self.layers = passes(self.header.quality), end, [end], []
        for i in range(self.header.tiles):
            try:
                self.layers.append([Layer(False, base.tile(i))])
            except BitstreamError:
                if not salvage:
                    raise
                self.layers.append([])
        try:
            self._read_layers(data, end, bytes(data[len(SIGNATURE) + CHUNK.size :][: HEADER.size]), salvage)
        except BitstreamError:
            if not salvage:
                raise

    def _read_layers(self, data, at, head, salvage):
        count, tiles = (self.passes - 1) * self.header.tiles, self.header.tiles
        if count:
            _, sizes = _expected(data, at, head, (b"siZE",), count * SIZE.size)
            if sizes is None:
                return
            self.end = at = at + CHUNK.size + len(sizes) + CHECKSUM.size
            for n, (size,) in enumerate(SIZE.iter_unpack(sizes)):
                length = TILE_INDEX.size + size
                try:
                    kind, layer = _expected(data, at, head, (CODED, PLAIN), length)
                    if layer is None:
                        return
                    if TILE_INDEX.unpack_from(layer)[0] != n:
                        raise BitstreamError(
                            f"layer {TILE_INDEX.unpack_from(layer)[0]} stands where {n} was expected"
                        )
                    if len(self.layers[n % tiles]) == n // tiles + 1:  # else an earlier pass is missing
                        self.layers[n % tiles].append(Layer(kind == PLAIN, layer[TILE_INDEX.size :]))
                except BitstreamError:
                    if not salvage:
                        raise
                self.end = at = at + CHUNK.size + length + CHECKSUM.size
                if n % tiles == tiles - 1:
                    self.ends.append(at)
        if at < len(data):
            raise BitstreamError(f"damaged: {len(data) - at} bytes are left over after the last layer")


def _end_of_tiles(data):
    """Where the first pass ends: after as many tiles as HEAD gives. The file's end where that is unknown."""
    at, left = len(SIGNATURE), None
    try:
        while left != 0:
            kind, offset, length = chunk_at(data, at)
            if left is None:
                left = container.read_header(kind, payload_of(data, b"", offset, length)).tiles
            left -= kind == b"TILE"
            at = offset + length + CHECKSUM.size
    except BitstreamError:
        return len(data)
    return at


def _expected(data, at, head, kinds, length):
    """Kind and payload of the chunk that must stand at a byte; payload None where the file is cut off within it.

    Raises:
        BitstreamError: another chunk stands there, or its checksum does not fit.
    """
    end, found = at + CHUNK.size + length + CHECKSUM.size, bytes(data[at : at + CHUNK.size])
    if not any(CHUNK.pack(kind, length).startswith(found) for kind in kinds):
        raise BitstreamError(f"damaged: {kinds[0].decode()} of {length} bytes was expected at byte {at}")
    return found[:4], payload_of(data, head, at + CHUNK.size, length) if end <= len(data) else None
