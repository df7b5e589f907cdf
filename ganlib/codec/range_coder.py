"""The range coder: symbols to 32-bit words and back, with exactly the same frequencies on both sides.

    symbols --Writer.run(model, symbols)--> words, little-endian --Reader.run(model, count)--> symbols

A loop for both directions is given one of the two: it passes symbols to a Writer, and their number to a Reader.
"""

import constriction
import numpy as np


class CorruptSymbols(ValueError):
    """The bytes of a tile are not what the encoder wrote."""


def exact_model(frequencies):
    """constriction's model of symbols 0, 1, ... with exactly these frequencies.

    constriction gives every symbol 1 of 2^24 and shares the rest in proportion to its input. The input frequency - 1
    sums to exactly that rest, so the factor of proportion is 1.0 and nothing is rounded.

    Args:
        frequencies: n whole numbers, each at least 1, that sum to TABLE_TOTAL, 2^24.
    """
    return constriction.stream.model.Categorical(np.asarray(frequencies, np.float64) - 1, perfect=False)


class Writer:
    """Symbols -> bytes."""

    def __init__(self):
        self.coder = constriction.stream.queue.RangeEncoder()

    def run(self, model, symbols):
        """Code symbols, n int32, with exact_model()'s frequencies; returns them."""
        self.coder.encode(symbols, model)
        return symbols

    def bytes(self, least=0):
        """The coded words. Zeros are added up to `least` words; a Reader ignores them."""
        words = self.coder.get_compressed().astype("<u4")
        return np.pad(words, (0, max(0, least - len(words)))).tobytes()


class Reader:
    """Bytes -> symbols.

    Raises:
        CorruptSymbols: the bytes are not whole words; from run() and finish(): they are not what a Writer made.
    """

    def __init__(self, data):
        if len(data) % 4:
            raise CorruptSymbols(f"{len(data)} bytes are not whole 32-bit words")
        words = np.trim_zeros(np.frombuffer(data, "<u4"), "b")  # the decoder reads zeros past the end
        self.coder = constriction.stream.queue.RangeDecoder(words.astype(np.uint32))

    def run(self, model, count):
        """The next symbols, `count` int32, by exact_model()'s frequencies."""
        try:
            return self.coder.decode(model, count)
        except Exception as error:  # the binding raises AssertionError and others for impossible code points
            raise CorruptSymbols("the range coder met a code point that no symbol has") from error

    def finish(self):
        """Make sure that nothing is left over."""
        if not self.coder.maybe_exhausted():
            raise CorruptSymbols("bytes are left over after the last symbol")
