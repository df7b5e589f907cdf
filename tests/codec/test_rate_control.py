"""The largest file that fits, where files grow with the quality and where they do not."""

import pytest

from ganlib.codec.rate_control import TargetSizeError, largest_file


def encoder(sizes, asked):
    """Sizes at steps 0, 100 and 10000, linear between them."""

    def encode(step):
        asked.append(step)
        first, second, last = sizes
        part = step / 100 if step < 100 else (step - 100) / 9900
        return bytes(round(first + part * (second - first) if step < 100 else second + part * (last - second)))

    return encode


def test_a_file_that_fits_at_a_low_step_alone_is_found():
    asked = []
    assert 2462 <= len(largest_file(encoder((2498, 2462, 9000), asked), 2470, 10_000)) <= 2470
    with pytest.raises(TargetSizeError, match="2450 bytes are too few: this image takes 2462 at quality 1. Ask"):
        largest_file(encoder((2498, 2462, 9000), asked), 2450, 10_000)


def test_a_target_far_out_of_reach_is_refused_after_one_file():
    asked = []
    with pytest.raises(TargetSizeError, match="takes 2498 at quality 0"):
        largest_file(encoder((2498, 2462, 9000), asked), 1000, 10_000)
    assert asked == [0]
