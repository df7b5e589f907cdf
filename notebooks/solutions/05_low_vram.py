"""Solutions of notebook 04."""

import math

import numpy as np


def chain_peak(batch, channels, side, itemsize):
    """Peak bytes of activations in a chain of layers under inference mode, the caller keeping x."""
    sizes = [batch * c * side * side * itemsize for c in channels]
    x = sizes[0]
    # While a layer runs, its input and its output both live. The first layer's input is x itself, counted once.
    return max([x + sizes[1]] + [x + a + b for a, b in zip(sizes[1:], sizes[2:])])


def tile_side(budget, halo, bytes_per_pixel, fixed):
    """Largest tile side in pixels, a multiple of 64, whose window with halo fits the budget; 0 where none does."""
    if budget <= fixed:
        return 0
    # The window has the halo on both sides, so it comes off twice.
    window = math.isqrt((budget - fixed) // bytes_per_pixel)
    return max(0, (window - 2 * halo) // 64 * 64)


def suspect_columns(width, tile, halo, reach):
    """True where a column needs what its tile, with its halo, does not see."""
    column = np.arange(width)
    begin = column // tile * tile
    low, high = begin - halo, begin + tile + halo  # what is seen, were the picture endless
    return ((low > 0) & (column - reach < low)) | ((high < width) & (column + reach >= high))
