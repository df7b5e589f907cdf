"""Planes of bits to bytes and back, with probabilities that both sides take from counts of the bits so far.

A plane is one channel of one pass: h,w bits. It is coded in five steps, so that many bits of a step can be coded at
once, and all but a sixteenth of them see neighbours on all sides:

    a e c e a      a: nothing of this plane is known yet
    e d e d e      b: four a, two positions away diagonally
    c e b e c      c: the four a and b two positions away
    e d e d e      d: the four next to it diagonally
    a e c e a      e: the four next to it

A bit's context is its channel, its step, the same bit of the pass before (or that there is none), and how many of the
known neighbours are 1. For each context both sides count the zeros and ones so far. The counts are whole numbers, and
so are the probabilities made of them: the same on every machine.
"""

import math

import numpy as np

from ganlib.codec.range_coder import CorruptSymbols, Reader, Writer, exact_model
from ganlib.model.integer_layers import TABLE_TOTAL

STEPS, NEIGHBOURS, BEFORE = 5, 5, 3  # contexts: steps, 0 to 4 neighbours that are 1, the pass before: none, 0, 1
MARGIN = 2  # of zeros around a plane
LIMIT = 2**16  # of a context's count, which is halved beyond it: recent planes count more
BLOCK = 16  # bits of a context that are first coded with the same probability; then twice as many, and so on
WORTH = 8  # counts, divided as in all channels together, to which a channel's own are added


def _bit_model(zeros, ones):
    """The range coder's model of a bit after so many zeros and ones: whole numbers of 2^-24, each at least 1."""
    chance = min(max(ones * TABLE_TOTAL // (zeros + ones), 1), TABLE_TOTAL - 1)
    return exact_model([TABLE_TOTAL - chance, chance])


def _steps(height, width):
    """For each step: places in a plane with its margin, flat, and offsets of the neighbours that are known."""
    row, column = np.divmod(np.arange(height * width), width)
    line = width + 2 * MARGIN
    place = (row + MARGIN) * line + column + MARGIN
    steps = [(place[(row % 4 == 0) & (column % 4 == 0)], ())]
    for s in (2, 1):
        on_grid = (row % s == 0) & (column % s == 0)
        odd_row, odd_column = (n // s % 2 == 1 for n in (row, column))
        steps.append(
            (place[on_grid & odd_row & odd_column], (-s * line - s, -s * line + s, s * line - s, s * line + s))
        )
        steps.append((place[on_grid & (odd_row ^ odd_column)], (-s * line, -s, s, s * line)))
    return steps


class PlaneCoder:
    """Codes the passes of one tile, one after the other; each pass has its own bytes, which need those before.

    Args:
        channels, height, width: of a pass.
    """

    def __init__(self, channels, height, width):
        self.shape = channels, height, width
        self.steps = _steps(height, width)
        self.own = np.zeros((channels, STEPS, BEFORE * NEIGHBOURS, 2), np.int64)
        self.shared = np.ones((STEPS, BEFORE * NEIGHBOURS, 2), np.int64)
        self.before = None

    def encode(self, bits):
        """channels,height,width bool -> bytes."""
        writer = Writer()
        self._code(writer, np.pad(bits.astype(np.int32), ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))))
        return writer.bytes()

    def decode(self, data, plain=False):
        """Bytes -> channels,height,width bool.

        Args:
            plain: the bytes are bits in reading order, channel after channel, the first in a byte's highest bit.

        Raises:
            CorruptSymbols: encode() did not write them for this shape; or plain bytes of another length.
        """
        if plain:
            size = math.prod(self.shape)
            if len(data) != -(-size // 8):
                raise CorruptSymbols(f"{size} plain bits do not fit into {len(data)} bytes")
            bits = np.unpackbits(np.frombuffer(data, np.uint8), count=size).reshape(self.shape).astype(bool)
            self.encode(bits)  # counts them
            return bits
        reader = Reader(data)
        bits = self._code(reader, None)
        reader.finish()
        return bits

    def _code(self, coder, known):
        """The loop of both directions. known: the bits with a margin of zeros, None when decoding."""
        channels, height, width = self.shape
        planes = np.zeros((channels, (height + 2 * MARGIN) * (width + 2 * MARGIN)), np.int32)
        for channel, plane in enumerate(planes):
            for step, (places, near) in enumerate(self.steps):
                context = np.zeros(len(places), np.int64)
                for offset in near:
                    context += plane[places + offset]
                if self.before is not None:
                    context += NEIGHBOURS * (1 + self.before[channel, places])
                bits = None if known is None else known[channel].ravel()[places]
                plane[places] = self._code_step(coder, self.own[channel, step], self.shared[step], context, bits)
        self.before = planes
        inside = planes.reshape(channels, height + 2 * MARGIN, -1)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return inside.astype(bool)

    @staticmethod
    def _code_step(coder, own, shared, context, known):
        """Code the bits of each context together, in blocks that double, and count them after each block."""
        bits = np.zeros(len(context), np.int32)
        for c in np.unique(context):
            chosen, begin, size = np.flatnonzero(context == c), 0, BLOCK
            while begin < len(chosen):
                block = chosen[begin : begin + size]
                zeros, ones = (int(n) for n in own[c] * shared[c].sum() + WORTH * shared[c])
                given = len(block) if known is None else np.ascontiguousarray(known[block])
                bits[block] = coder.run(_bit_model(zeros, ones), given)
                found = np.bincount(bits[block], minlength=2)
                for counts, least in ((own[c], 0), (shared[c], 1)):  # views: in place
                    counts += found
                    while counts.sum() > LIMIT:
                        np.maximum(counts // 2, least, out=counts)
                begin, size = begin + size, 2 * size
        return bits
