"""The header of a .gic file: what a decoder must know before it allocates anything, and the limits of each number."""

import math
from dataclasses import dataclass

from ganlib.codec.geometry import Area, ceil_div
from ganlib.config import STRIDE

VERSION = 3
MAX_SIDE = 2**20  # pixels
FORMAT_MAX_PIXELS = 2**30  # of any picture, however it is read and written
MAX_QUALITY = 10_000  # hundredths
# Pixels along one side of a tile. The largest side bounds the memory that decoding a tile takes: 60 MB at 1024.
MIN_TILE, MAX_TILE = 64, 1024
# Upper limit of bytes for the symbols of one latent position: 768 of y and 48 of z, 3 bytes each.
MAX_BYTES_PER_POSITION = 2560
# A tile has at least a word for every 32 positions, a bit for each: a small file cannot claim a large picture.
# A plain white picture takes six times as much.
POSITIONS_PER_WORD = 32
WORD = 4  # bytes


class BitstreamError(ValueError):
    """The file is damaged, is not a .gic file, or needs another model; the message says which."""


@dataclass(frozen=True)
class Header:
    """Size, kind and quality of a picture, and the weights that decode it."""

    width: int  # pixels
    height: int
    channels: int  # 1 grayscale, 3 RGB
    quality: int  # hundredths, 0 to 10000
    fingerprint: bytes  # first 8 bytes of the SHA-256 of the weights that steer decoding
    tile: int = MAX_TILE  # pixels along one side of a tile
    version: int = VERSION

    @property
    def area(self):
        """All latents of the picture."""
        return Area.of_picture(self.height, self.width)

    @property
    def grid(self):
        """Tiles as (rows, columns)."""
        return ceil_div(self.height, self.tile), ceil_div(self.width, self.tile)

    @property
    def tiles(self):
        """Number of tiles."""
        return math.prod(self.grid)

    def tile_area(self, index):
        """The latents of a tile; tiles are numbered in reading order."""
        (row, column), side = divmod(index, self.grid[1]), self.tile // STRIDE
        return Area(row * side, column * side, (row + 1) * side, (column + 1) * side).common(self.area)

    def tiles_of(self, area):
        """Numbers of the tiles that an area of latents touches."""
        side, columns = self.tile // STRIDE, self.grid[1]
        across = range(area.left // side, ceil_div(area.right, side))
        down = range(area.top // side, ceil_div(area.bottom, side))
        return [row * columns + column for row in down for column in across]

    @property
    def longest_tile(self):
        """Largest number of bytes that the words of any tile may have."""
        return tile_limits(self.tile_area(0))[1]

    def check(self):
        """Raise BitstreamError where a number is out of its limits."""
        if self.version != VERSION:
            raise BitstreamError(f"version {self.version} of the format; this program reads version {VERSION}")
        if self.channels not in (1, 3):
            raise BitstreamError(f"header asks for {self.channels} channels; 1 and 3 exist")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BitstreamError(f"header asks for {self.width}x{self.height} pixels; a side has 1 to {MAX_SIDE}")
        if self.width * self.height > FORMAT_MAX_PIXELS:
            size = f"{self.width}x{self.height}"
            raise BitstreamError(f"header asks for {size} pixels; at most {FORMAT_MAX_PIXELS} are read")
        if not 0 <= self.quality <= MAX_QUALITY:
            raise BitstreamError(f"header asks for quality {self.quality / 100:g}; it runs from 0 to 100")
        if not MIN_TILE <= self.tile <= MAX_TILE or self.tile % MIN_TILE:
            raise BitstreamError(
                f"header asks for tiles of {self.tile} pixels; multiples of {MIN_TILE} up to {MAX_TILE} exist"
            )


def least_words(positions):
    """Smallest number of 32-bit words of a tile with so many latent positions."""
    return positions // POSITIONS_PER_WORD


def tile_limits(area):
    """Smallest and largest number of bytes that the words of a tile may have."""
    # z has its own grid, a quarter of y's and rounded up: hence at least 4x4 positions
    most = MAX_BYTES_PER_POSITION * max(4, area.shape[0]) * max(4, area.shape[1])
    return WORD * least_words(area.size), most
