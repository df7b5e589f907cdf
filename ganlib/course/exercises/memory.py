"""Checks of notebook 05: the peak of a chain of layers, the tile that fits a budget, what too small a halo breaks."""

import numpy as np
import torch
from torch import nn

from ganlib.course.exercises import NotYet, exercise, given
from ganlib.course.memory_meter import MemoryBudget, rehearsal

DTYPES = {2: torch.bfloat16, 4: torch.float32}
# batch, channels before and after each layer, side, bytes of a value
CHAINS = (
    (1, (3, 32, 8), 64, 4),
    (2, (3, 32, 8), 64, 4),
    (1, (64, 32, 3), 96, 2),
    (1, (3, 8, 64), 1024, 4),
    (1, (3, 32, 8, 3), 64, 4),
    (1, (3, 8, 48, 48, 4), 64, 2),
)


def metered_chain(batch, channels, side, itemsize):
    """Peak bytes of 1x1 convolutions in a row, as the meter sees them; all weights are views of a single zero."""
    with rehearsal(), torch.inference_mode(), MemoryBudget() as budget:
        zero = torch.zeros((), dtype=DTYPES[itemsize])
        x = torch.empty(batch, channels[0], side, side, dtype=DTYPES[itemsize])
        h = x
        for c_in, c_out in zip(channels, channels[1:]):
            h = nn.functional.conv2d(h, zero.expand(c_out, c_in, 1, 1))
    return budget.peak - itemsize


@exercise("a layer needs its input and its output together; the largest pair decides, and the caller's x stays.")
def check_chain_peak(answer):
    """Against the meter, without data: x lives throughout, h is replaced layer by layer."""
    for batch, channels, side, itemsize in CHAINS:
        value = given(answer(batch, channels, side, itemsize))
        sizes = [batch * c * side * side * itemsize for c in channels]
        call = f"chain_peak({batch}, {channels}, {side}, {itemsize})"
        peak = metered_chain(batch, channels, side, itemsize)
        if value == peak:
            continue
        if value * itemsize == peak:
            raise NotYet(f"{call} counts values, but a value has {itemsize} bytes")
        if value * batch == peak:
            raise NotYet(f"{call} is the peak for one image; there are {batch}")
        if value == sum(sizes):
            raise NotYet(f"{call} adds up all activations; without autograd, one is freed when the next is done")
        raise NotYet(f"{call} is {value:,.0f} bytes, and the meter sees {peak:,} (sizes, in order: {sizes})")


@exercise("the halo adds to both sides of both axes, so a small tile is mostly halo.")
def check_tile_side(answer):
    """Against a search over all sides."""
    for budget, halo, per_pixel, fixed in (
        (500_000_000, 192, 80, 20_000_000),
        (500_000_000, 0, 80, 0),
        (100_000_000, 128, 100, 8_000_000),
        (60_000_000, 192, 80, 20_000_000),
        ((512 + 2 * 64) ** 2 * 10, 64, 10, 0),
        (1_000_000, 192, 80, 0),
        (10_000_000, 64, 80, 20_000_000),
    ):
        value = given(answer(budget, halo, per_pixel, fixed))
        best = 0
        while fixed + (best + 64 + 2 * halo) ** 2 * per_pixel <= budget:
            best += 64
        call = f"tile_side({budget:,}, {halo}, {per_pixel}, {fixed:,})"
        if value == best:
            continue
        if value < 0 or value % 64:
            raise NotYet(f"{call} is {value}: give a multiple of 64, or 0 where nothing fits")
        needed = fixed + (value + 2 * halo) ** 2 * per_pixel
        if value and needed > budget:
            raise NotYet(f"{call} is {value}: with its halo and the weights it takes {needed:,.0f} bytes")
        raise NotYet(f"{call} is {value}, and a larger tile fits")


@exercise("a column is wrong if it needs columns that its tile does not see, unless the picture ends there too.")
def check_suspect_columns(answer):
    """Against a search, column by column."""
    for width, tile, halo, reach in (
        (512, 128, 0, 40),
        (512, 128, 16, 40),
        (512, 128, 40, 40),
        (500, 128, 16, 40),
        (100, 128, 0, 40),
        (512, 32, 8, 40),
        (130, 128, 10, 40),
    ):
        value = np.asarray(given(answer(width, tile, halo, reach)), bool)
        call = f"suspect_columns({width}, {tile}, {halo}, {reach})"
        if value.shape != (width,):
            raise NotYet(f"{call} has the shape {value.shape}: give one boolean for each of {width} columns")
        for column in range(width):
            begin = column // tile * tile
            seen = range(max(0, begin - halo), min(width, begin + tile + halo))
            needed = range(max(0, column - reach), min(width, column + reach + 1))
            suspect = needed[0] not in seen or needed[-1] not in seen
            if value[column] != suspect:
                raise NotYet(
                    f"{call}[{column}] is {value[column]}: its tile sees columns {seen[0]} to {seen[-1]}, and it "
                    f"needs {needed[0]} to {needed[-1]}"
                )
