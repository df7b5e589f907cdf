"""The file of a recurrent model: layers of bits that may be cut off anywhere.

    signature, HEAD, icCP, exIF         as in ganlib/FORMAT.md
    SIZE                                4 bytes for each layer: the length of its payload
    LAYR, LAYR, ...                     pass 1 of each tile in reading order, pass 2 of each, ...

SIZE tells where the file may be cut, and tells a file that was cut from one that is damaged: a chunk that is there
has the length that SIZE says and a checksum that fits, or the file is damaged.
"""

import struct
import zlib
from dataclasses import dataclass, field

from ganlib.codec import container
from ganlib.codec.container import CHECKSUM, CHUNK, Bitstream, BitstreamError, Header

MAX_PASSES = 64
SLACK = 64  # bytes that coding may add to a layer of raw bits


def _chunk(kind, payload):
    head = CHUNK.pack(kind, len(payload))
    return head + payload + CHECKSUM.pack(zlib.crc32(head + payload))


def write(header, layers, icc=None, exif=None):
    """Bytes of a file.

    Args:
        layers: for each pass a list of bytes, one for each tile.
    """
    payloads = [payload for tiles in layers for payload in tiles]
    sizes = struct.pack(f">{len(payloads)}I", *map(len, payloads))
    parts = [container.write(Bitstream(header, [], icc, exif)), _chunk(b"SIZE", sizes)]
    return b"".join(parts + [_chunk(b"LAYR", payload) for payload in payloads])


@dataclass
class RecurrentFile:
    """What is there of a file.

    Attributes:
        passes: that were written.
        layers: for each tile the bytes of its passes, those that are there.
    """

    header: Header
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    passes: int = 0
    layers: list = field(default_factory=list, repr=False)


def read(data, salvage=False):
    """Bytes of a file, or its beginning -> RecurrentFile.

    Args:
        data: bytes, or a mapping of a file.
        salvage: of a tile whose pass is damaged, keep those before it.

    Raises:
        BitstreamError: it is damaged, or not even HEAD and SIZE are there.
    """
    file = RecurrentFile(container.header(data))
    for kind, offset, payload in container.chunks(data):
        if kind == b"icCP" and file.icc is None:
            file.icc = payload
        elif kind == b"exIF" and file.exif is None:
            file.exif = payload
        elif kind == b"SIZE":
            _read_layers(file, data, offset + len(payload) + CHECKSUM.size, payload, salvage)
            return file
        elif kind[:1].isupper() and kind != b"HEAD":
            raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")
    raise BitstreamError("cut short: the sizes of the layers are missing")


def _read_layers(file, data, at, sizes, salvage):
    """Fill file.layers and file.passes from what follows SIZE."""
    tiles = file.header.tiles
    file.passes, rest = divmod(len(sizes), 4 * tiles)
    if rest or not 1 <= file.passes <= MAX_PASSES:
        raise BitstreamError(f"sizes of {len(sizes) / 4:g} layers do not fit {tiles} tiles")
    file.layers, whole = [[] for _ in range(tiles)], [True] * tiles
    for n, (size,) in enumerate(struct.iter_unpack(">I", sizes)):
        head, end = CHUNK.pack(b"LAYR", size), at + CHUNK.size + size
        cut = end + CHECKSUM.size > len(data)
        found = bytes(data[at:end])
        damaged = found[: CHUNK.size] != head[: len(found)]
        damaged |= not cut and CHECKSUM.unpack_from(data, end)[0] != zlib.crc32(found)
        if damaged and not salvage:
            raise BitstreamError(f"damaged: layer {n} at byte {at} is not what its checksum or SIZE says")
        if cut:
            return
        whole[n % tiles] &= not damaged
        if whole[n % tiles]:
            file.layers[n % tiles].append(found[CHUNK.size :])
        at = end + CHECKSUM.size
    if at < len(data) and not salvage:
        raise BitstreamError(f"damaged: {len(data) - at} bytes are left over after the last layer")
