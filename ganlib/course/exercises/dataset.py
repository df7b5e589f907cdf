"""Checks of notebook 01: a mean over a data set, a crop that can be repeated, and pictures that occur twice."""

import numpy as np

from ganlib.course.exercises import NotYet, compare, exercise, given

CORNERS = 600  # crops drawn to see whether every position is reached; each of 12 is expected 50 times
RARE, FREQUENT = 20, 90  # times: 4 and 6 standard deviations away from 50
REPEATED = 30  # crops drawn twice


@exercise("every picture counts the same, whatever its size. That is the meaning of 'mean over Kodak'.")
def check_mean_bpp(answer):
    """Against the mean of 8 * bytes / (width * height), for pictures of unequal size."""
    for n_bytes, sizes in (
        ([1000], [(100, 80)]),
        ([2000, 2000], [(100, 100), (400, 400)]),
        ([17_000, 900, 64_000], [(768, 512), (64, 64), (2040, 1356)]),
    ):
        value = given(answer(list(n_bytes), list(sizes)))
        pixels = np.array([width * height for width, height in sizes])
        oracle = np.mean(8 * np.array(n_bytes) / pixels)
        if len(sizes) > 1 and np.ndim(value) == 0:
            if np.isclose(value, 8 * sum(n_bytes) / pixels.sum()):
                raise NotYet("this is all bits over all pixels: a large picture counts more than a small one")
            if np.isclose(value, 8 * np.mean(n_bytes) / pixels.max()):
                raise NotYet("the pictures differ in size: divide each by its own pixels, then take the mean")
        if np.ndim(value) == 0 and np.isclose(value, oracle / 8):
            raise NotYet("these are bytes per pixel; a byte has 8 bits")
        compare(value, oracle, f"mean_bpp({n_bytes}, {sizes})")


def _corner(answer, *args):
    value = given(answer(*args))
    try:
        top, left = value
        corner = int(top), int(left)
    except (TypeError, ValueError):
        raise NotYet(f"it returned {value!r}, which is not a pair (top, left)") from None
    if corner != (top, left):
        raise NotYet(f"it returned {value!r}: pixels are counted in whole numbers")
    height, width, side = args[2:]
    if not (0 <= corner[0] <= height - side and 0 <= corner[1] <= width - side):
        raise NotYet(f"a crop of {side} pixels at {corner} leaves the {width}x{height} picture")
    return corner


@exercise("a run that was stopped at step s continues with the same crops as without the stop.")
def check_crop_corner(answer):
    """Inside, repeatable in any order, different for each seed and index, and every position about equally often."""
    _corner(answer, 0, 0, 40, 60, 8)
    drawn = [_corner(answer, 5, index, 12, 13, 10) for index in range(CORNERS)]
    if len(set(drawn)) == 1:
        raise NotYet(f"all of {CORNERS} indices give the crop {drawn[0]}")
    for axis, what, last in ((0, "top", 2), (1, "left", 3)):
        seen = {corner[axis] for corner in drawn}
        if missing := set(range(last + 1)) - seen:
            raise NotYet(f"{what} is never {min(missing)} in a 13x12 picture with crops of 10: 0 to {last} all fit")
    counts = {(top, left): drawn.count((top, left)) for top in range(3) for left in range(4)}
    corner, count = max(counts.items(), key=lambda item: abs(item[1] - CORNERS / len(counts)))
    if not RARE <= count <= FREQUENT:
        raise NotYet(f"position {corner} comes {count} times in {CORNERS} crops, where about 50 are fair")
    if {_corner(answer, 0, index, 10, 10, 10) for index in range(3)} != {(0, 0)}:
        raise NotYet("a picture of exactly the crop's size has one position, (0, 0)")
    _repeatable(answer)


def _repeatable(answer):
    """Seeds: only seed and index decide, and the global random state stays unchanged."""
    size = (5000, 7000, 256)
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    first = [_corner(answer, 0, index, *size) for index in range(REPEATED)]
    after = np.random.get_state()[1], np.random.get_state()[2]
    again = [_corner(answer, 0, index, *size) for index in reversed(range(REPEATED))][::-1]
    if first != again:
        raise NotYet("called twice with the same seed and index, it gave two crops")
    if not (np.array_equal(before[0], after[0]) and before[1] == after[1]):
        raise NotYet("it changes NumPy's global random state, on which other code relies: make a generator in it")
    other = [_corner(answer, 1, index, *size) for index in range(REPEATED)]
    if first == other:
        raise NotYet("seeds 0 and 1 give the same crops")
    if first[1:] == other[:-1] or other[1:] == first[:-1]:
        raise NotYet("seed 1 gives the crops of seed 0, one index later: keep seed and index apart")
    if len(set(first)) < REPEATED - 2:
        raise NotYet(f"only {len(set(first))} of {REPEATED} crops of a very large picture differ")


@exercise("run it before every measurement: a picture that was seen in training is not a valid test picture.")
def check_find_overlap(answer):
    """Pairs of equal shape and equal pixels, whatever the layout in memory; no others."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(3))
    one_off = a.copy()
    one_off[3, 4, 1] ^= 1
    turned = np.ascontiguousarray(a[:, ::-1])[:, ::-1]  # equal to a, and not contiguous
    cases = (
        ("three pictures, one of them in both lists", [a, b], [c, a.copy()], {(0, 1)}),
        ("nothing in common", [a], [b, c], set()),
        ("an empty list", [], [a], set()),
        ("a picture with one bit of one pixel changed", [a], [one_off], set()),
        ("the same values in another order", [a], [a[::-1]], set()),
        ("the same bytes as another shape, 8x6 and 6x8", [a], [a.reshape(8, 6, 3)], set()),
        ("an equal picture that is a view, not contiguous in memory", [b, a], [turned], {(1, 0)}),
        ("a picture that is twice in one list", [a, b, a], [a, c], {(0, 0), (2, 0)}),
    )
    for what, train, test, oracle in cases:
        value = given(answer(list(train), list(test)))
        try:
            pairs = [tuple(int(n) for n in pair) for pair in value]
        except TypeError:
            raise NotYet(f"it returned {value!r}, which is not a list of pairs (i, j)") from None
        if missing := oracle - set(pairs):
            raise NotYet(f"{what}: the pair {min(missing)} was not found")
        if extra := set(pairs) - oracle:
            raise NotYet(f"{what}: the pair {min(extra)} was found, but these two are not equal")
        if len(pairs) != len(oracle):
            raise NotYet(f"{what}: a pair is listed twice")
