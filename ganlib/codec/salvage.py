"""What is whole of a damaged .gic file.

Reading goes from chunk to chunk, as in a whole file, and jumps over each that is whole, whatever it holds. Where one
is not, the next byte that can begin one is searched for. A second signature begins another file, where the search
ends.
"""

import contextlib
import re

from ganlib.codec.container import (
    CHECKSUM,
    CHUNK,
    MAX_METADATA,
    METADATA,
    SIGNATURE,
    TILE_INDEX,
    Index,
    fits,
    payload_of,
    read_header,
    tile_number,
)
from ganlib.codec.header import BitstreamError

# Lengths of these chunks and numbers of tiles begin with a zero byte
BEGINNING = re.compile(b"HEAD\0|icCP\0|exIF\0|dENS\0|TILE\0...\0|" + re.escape(SIGNATURE), re.DOTALL)
# Where a chunk only seems to begin, its checksum is computed in vain. The search ends once that has taken so many
# times the file's size, so that time stays proportional to it whatever a file is made of.
WASTE = 4
SMALLEST_WASTE = 256  # bytes that a false beginning counts as at least: looking at it takes time as well
FALSE_BEGINNINGS = 100  # that a file may have, however small it is
LONGEST_HEADER = 64  # bytes, of any version


class SalvagedIndex(Index):
    """A damaged file, of which what is whole is read when it is asked for. (See Index.)

    Raises:
        BitstreamError: the header or every tile is damaged; or what is whole cannot be read by this program.
    """

    def _find(self):
        data, other = self._data, None
        waste = max(WASTE * len(data), FALSE_BEGINNINGS * SMALLEST_WASTE)
        at = len(SIGNATURE) if data[: len(SIGNATURE)] == SIGNATURE else 0
        while at < len(data) and waste > 0:
            if data[at : at + len(SIGNATURE)] == SIGNATURE:
                other = at
                break
            kind, length = CHUNK.unpack_from(data, at) if at + CHUNK.size <= len(data) else (b"", len(data))
            offset, end = at + CHUNK.size, at + CHUNK.size + length + CHECKSUM.size
            if end <= len(data) and self._may_stand_here(kind, length):
                if fits(data, self._head, offset, length):
                    self._take(kind, offset, length)
                    at = end
                    continue
                waste -= length
            waste -= SMALLEST_WASTE
            match = BEGINNING.search(data, at + 1)
            at = match.start() if match else len(data)
        if self.header is None:
            other = f"; another file begins at byte {other}" if other else ""
            raise BitstreamError(f"no whole header: nothing can be salvaged{other}")

    def _check_tiles(self):
        if not self._places:
            raise BitstreamError("no whole tile: nothing can be salvaged")

    def _may_stand_here(self, kind, length):
        """Limits that come before the checksum."""
        if self.header is None:
            return kind == b"HEAD" and length <= LONGEST_HEADER
        if kind == b"TILE":
            return TILE_INDEX.size <= length <= self._longest
        return kind.isalpha() and kind != b"HEAD" and (kind not in METADATA or length <= MAX_METADATA)

    def _take(self, kind, offset, length):
        """Note down a chunk whose checksum fits."""
        if kind == b"HEAD":
            self._head = payload_of(self._data, b"", offset, length)
            self.header = read_header(kind, self._head)
            self._longest = TILE_INDEX.size + self.header.longest_tile
        elif kind == b"TILE":
            with contextlib.suppress(BitstreamError):  # forged: nobody writes such a tile
                self._places.setdefault(tile_number(self._data, self.header, offset, length), (offset, length))
        elif kind in METADATA:
            self._metadata.setdefault(kind, payload_of(self._data, self._head, offset, length))
        elif kind[:1].isupper():
            raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")
