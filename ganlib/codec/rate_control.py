"""Rate control: the quality that makes a file as large as its target allows."""

import logging

from ganlib.config import QUALITY_MAX

log = logging.getLogger(__name__)

TOLERANCE = 0.01  # the search ends once the file fills 99 % of the target
# At the lowest steps files may shrink while quality grows: some of them are tried before the target is given up
LOW_STEPS = (0.005, 0.01, 0.02)  # as fractions of the best step
NEAR = 0.9  # a target below this fraction of the file at step 0 is out of reach


class TargetSizeError(ValueError):
    """No quality makes the file as small as asked."""


def largest_file(encode, target, high):
    """The largest file of at most `target` bytes, by bisection over the steps of quality.

    Args:
        encode: step of quality, 0 to `high` -> bytes of the file; they grow with the step, except for the lowest.
        target: bytes.
        high: the best step.

    Raises:
        TargetSizeError: even the lowest steps are larger.
    """
    low, best = 0, encode(0)
    if len(best) > target >= NEAR * len(best):
        tried = {low: best} | {step: encode(step) for step in (round(part * high) for part in LOW_STEPS)}
        low, best = min(tried.items(), key=lambda item: len(item[1]))
    if len(best) > target:
        raise TargetSizeError(
            f"{target} bytes are too few: this image takes {len(best)} at quality {QUALITY_MAX * low / high:g}. Ask "
            "for more, make the image smaller, or leave out its metadata"
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
