"""Rectangles of latents, the unit of pictures, tiles, windows and regions: a latent covers 16x16 pixels."""

from dataclasses import dataclass

from ganlib.config import STRIDE


def ceil_div(number, divisor):
    """Whole numbers: how many parts of size `divisor` cover `number`."""
    return -(-number // divisor)


@dataclass(frozen=True)
class Area:
    """A rectangle of whole numbers: rows top..bottom-1, columns left..right-1."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of_picture(cls, height, width):
        """All latents of a picture of height x width pixels; those at its edge may reach beyond it."""
        return cls(0, 0, ceil_div(height, STRIDE), ceil_div(width, STRIDE))

    @classmethod
    def of_region(cls, x0, y0, x1, y1):
        """The latents that cover a region in pixels, x1 and y1 excluded."""
        return cls(y0 // STRIDE, x0 // STRIDE, ceil_div(y1, STRIDE), ceil_div(x1, STRIDE))

    @property
    def shape(self):
        return self.bottom - self.top, self.right - self.left

    @property
    def size(self):
        """Number of positions."""
        return self.shape[0] * self.shape[1]

    @property
    def slices(self):
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def widened(self, margin, limit, grid=1):
        """With a margin on every side, but within the area `limit`; top and left at multiples of `grid`."""
        return Area(
            max((self.top - margin) // grid * grid, limit.top),
            max((self.left - margin) // grid * grid, limit.left),
            min(self.bottom + margin, limit.bottom),
            min(self.right + margin, limit.right),
        )

    def common(self, other):
        """The part that both cover; where there is none, a side of its shape is 0 or less."""
        return self.widened(0, other)

    def seen_from(self, other):
        """The same area, relative to the top left corner of another."""
        return self.moved(-other.top, -other.left)

    def moved(self, rows, columns):
        return Area(self.top + rows, self.left + columns, self.bottom + rows, self.right + columns)

    def scaled(self, factor):
        """All coordinates multiplied by a factor: STRIDE gives the area in pixels."""
        return Area(*(factor * n for n in (self.top, self.left, self.bottom, self.right)))

    def cut(self, side):
        """Rows of areas of about equal size, none larger than side x side, that cover this one."""

        def edges(low, high):
            parts = ceil_div(high - low, side)
            return [low + (high - low) * i // parts for i in range(parts + 1)]

        rows, columns = edges(self.top, self.bottom), edges(self.left, self.right)
        return [
            [Area(top, left, bottom, right) for left, right in zip(columns, columns[1:])]
            for top, bottom in zip(rows, rows[1:])
        ]
