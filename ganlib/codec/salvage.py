"""Read the undamaged parts of a damaged .gic file.

Reading goes from chunk to chunk, as in a whole file, and steps over each undamaged chunk, whatever it holds. Where a
chunk is damaged, the next byte that can begin one is searched for. A second signature begins another file; the search
ends there.
"""

import contextlib
import re
import warnings

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
BEGINNING = re.compile(b"\0|".join([b"HEAD", *METADATA, b"TILE\0...", re.escape(SIGNATURE)]), re.DOTALL)
# Where a chunk only seems to begin, a checksum is computed for nothing. The search ends when these checksums cover so
# many times the file's size, so that time stays proportional to this size for any file.
WASTE = 4
SMALLEST_WASTE = 256  # bytes that a false beginning counts at least, because checking it takes time too
FALSE_BEGINNINGS = 100  # that a file may have, however small it is
LONGEST_HEADER = 64  # bytes, of any version
LONGEST_BEGINNING = 9  # bytes, of what BEGINNING looks for
LARGEST_PIECE = 2**20  # bytes that are read at once in search of it


class DamageWarning(UserWarning):
    """Parts of a salvaged picture, or its metadata, are missing."""


# Python shows a warning once for each place in the program; two damaged pictures need two warnings
warnings.simplefilter("always", DamageWarning, append=True)


class SalvagedIndex(Index):
    """A damaged file; its undamaged parts are read when they are needed. (See Index.)

    Attributes:
        damaged: which metadata are damaged, in words: "its colour profile, its EXIF"; "" where none are.

    Raises:
        BitstreamError: the header or every tile is damaged; or this program cannot read an undamaged chunk.
    """

    def _find(self):
        data, other, lost = self._data, None, set()
        waste = max(WASTE * len(data), FALSE_BEGINNINGS * SMALLEST_WASTE)
        at = len(SIGNATURE) if data[: len(SIGNATURE)] == SIGNATURE else 0
        while at < len(data) and waste > 0:
            if data[at : at + len(SIGNATURE)] == SIGNATURE:
                other = at
                break
            start = data[at : at + CHUNK.size]
            kind, length = CHUNK.unpack(start) if len(start) == CHUNK.size else (b"", len(data))
            offset, end = at + CHUNK.size, at + CHUNK.size + length + CHECKSUM.size
            if end <= len(data) and self._may_stand_here(kind, length):
                if fits(data, self._head, offset, length):
                    self._take(kind, offset, length)
                    at = end
                    continue
                waste -= length
            waste -= SMALLEST_WASTE
            if self.header is not None and not self._places:
                lost.add(kind)
            at = self._beginning(at + 1)
        if self.header is None:
            other = f"; another file begins at byte {other}" if other else ""
            raise BitstreamError(f"no whole header: nothing can be salvaged{other}")
        self.damaged = ", ".join(words for kind, words in METADATA.items() if kind in lost - self._metadata.keys())
        if lost and not self.damaged and 0 in self._places:  # only metadata come before tile 0
            self.damaged = "some of its metadata"

    def _beginning(self, at):
        """The next byte, from `at` on, where a chunk or a file may begin; the end of the file where none does."""
        size = SMALLEST_WASTE
        while at < len(self._data):
            match = BEGINNING.search(self._data[at : at + size], 0)
            if match:
                return at + match.start()
            at, size = at + size - (LONGEST_BEGINNING - 1), min(2 * size, LARGEST_PIECE)
        return len(self._data)

    def _check_tiles(self):
        if not self._places:
            raise BitstreamError("no whole tile: nothing can be salvaged")

    def _may_stand_here(self, kind, length):
        """Whether type and length are possible here; this is tested before the checksum."""
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
            with contextlib.suppress(BitstreamError):  # forged: no encoder writes such a tile
                self._places.setdefault(tile_number(self._data, self.header, offset, length), (offset, length))
        elif kind in METADATA:
            self._metadata.setdefault(kind, payload_of(self._data, self._head, offset, length))
        elif kind[:1].isupper():
            raise BitstreamError(f"chunk {kind.decode()} must be understood to decode this file, and is not")


def in_words(numbers):
    """Rising numbers as text: "0, 3 to 5"."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)
