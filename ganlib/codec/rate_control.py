"""Rate control: the quality that makes a file just as large as it may be."""

import logging

log = logging.getLogger(__name__)

TOLERANCE = 0.01  # the search ends once the file fills 99 % of the target


class TargetSizeError(ValueError):
    """No quality makes the file as small as asked."""


def largest_file(encode, target, high):
    """The largest file of at most `target` bytes, by bisection over the steps of quality.

    Args:
        encode: step of quality, 0 to `high` -> bytes of the file; they grow with it.
        target: bytes.
        high: the best step.

    Raises:
        TargetSizeError: even step 0 is larger.
    """
    low, best = 0, encode(0)
    if len(best) > target:
        raise TargetSizeError(
            f"{target} bytes are too few: this image takes {len(best)} at quality 0. Ask for more, make the "
            "image smaller, or leave out its metadata"
        )
    largest = encode(high)
    if len(largest) <= target:
        log.warning("quality 100 takes %d of the %d bytes allowed", len(largest), target)
        return largest
    while high - low > 1 and len(best) < (1 - TOLERANCE) * target:
        middle = (low + high) // 2
        data = encode(middle)
        if len(data) <= target:
            low, best = middle, data
        else:
            high = middle
    return best
