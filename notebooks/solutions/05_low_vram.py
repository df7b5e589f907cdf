"""Solutions of notebook 05, one function for each exercise, and answers to its questions."""

import math

import numpy as np

ANSWERS = {
    1: """Without it, PyTorch keeps the input of every layer for a backward pass. In inference mode each activation is
    freed when the next one is done. The same operations run on the same numbers, so the picture is the same.""",
    2: """The square root of two, about 1.4 times: memory grows with the number of pixels, which is the square of the
    side.""",
    3: """bfloat16 halves activations. In `before`, nearly all of the peak is activations. In `light` a large part is
    the picture in float32 and copies of the weights, which do not become smaller.""",
    4: """The halo has the same width around any tile, and it is computed and thrown away. The larger the tile, the
    smaller the share of the halo: the work for each pixel is (t + 2h)^2 / t^2.""",
    5: """A wrong pixel of the generator stays one wrong pixel, by a level or two. A wrong scale in the entropy model
    changes how the bytes are read, and all symbols after it are wrong (notebook 03).""",
}


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
