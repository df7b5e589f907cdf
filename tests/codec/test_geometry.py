"""Areas: they cover what they should, once; tiles, windows and regions are counted alike."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlib.codec.geometry import Area, ceil_div
from ganlib.codec.header import Header

sides = st.integers(1, 5000)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_ceil_div_is_the_smallest_cover(number, divisor):
    parts = ceil_div(number, divisor)
    assert parts * divisor >= number > (parts - 1) * divisor


@given(
    top=st.integers(0, 9), left=st.integers(0, 9), h=st.integers(1, 90), w=st.integers(1, 90), side=st.integers(1, 40)
)
@settings(deadline=None)
def test_windows_cover_an_area_once_and_are_no_larger_than_asked(top, left, h, w, side):
    count = np.zeros((100, 100), int)
    rows = Area(top, left, top + h, left + w).cut(side)
    for row in rows:
        assert len({(window.top, window.bottom) for window in row}) == 1
        for window in row:
            assert 0 < min(window.shape) and max(window.shape) <= side
            count[window.slices] += 1
    assert count.sum() == h * w and (count[top : top + h, left : left + w] == 1).all()
    heights = [row[0].shape[0] for row in rows]
    assert max(heights) - min(heights) <= 1  # of about equal size


@given(height=sides, width=sides, tile=st.sampled_from([64, 192, 1024]))
@settings(deadline=None, max_examples=50)
def test_tiles_cover_a_picture_once(height, width, tile):
    header = Header(width, height, 3, 0, bytes(8), tile)
    count = np.zeros(header.area.shape, int)
    for i in range(header.tiles):
        count[header.tile_area(i).slices] += 1
    assert (count == 1).all() and header.area.size == count.size == ceil_div(height, 16) * ceil_div(width, 16)


@given(data=st.data(), height=sides, width=sides, tile=st.sampled_from([64, 192, 1024]))
@settings(deadline=None, max_examples=50)
def test_tiles_of_a_region_are_those_that_it_touches(data, height, width, tile):
    header = Header(width, height, 3, 0, bytes(8), tile)
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    area = Area.of_region(x0, y0, x1, y1)
    pixels = area.scaled(16)
    assert 0 <= y0 - pixels.top < 16 > x0 - pixels.left >= 0
    assert 0 <= pixels.bottom - y1 < 16 > pixels.right - x1 >= 0
    touched = [i for i in range(header.tiles) if min(header.tile_area(i).common(area).shape) > 0]
    assert header.tiles_of(area) == touched


def test_areas_seen_from_each_other():
    area, limit = Area(3, 4, 10, 9), Area(0, 0, 12, 10)
    assert area.shape == (7, 5) and area.size == 35
    assert area.widened(2, limit) == Area(1, 2, 12, 10)
    assert area.seen_from(Area(1, 2, 12, 10)) == Area(2, 2, 9, 7)
    assert area.moved(-3, -4) == Area(0, 0, 7, 5)
    assert np.arange(120).reshape(12, 10)[area.slices].shape == area.shape
