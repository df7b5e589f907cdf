"""Checks of notebook 00: bits per pixel, and the smallest file that is good enough."""

import numpy as np

from ganlib.course.exercises import NotYet, compare, exercise, given
from ganlib.course.exercises.deadline import Overdue
from ganlib.evaluation.metrics import psnr

ENOUGH = 12  # compressions for one answer; bisection takes 7
FAR_TOO_MANY = 110  # compressions, more than any search needs: one by one takes 101


@exercise("8 bits per byte, divided by all pixels. 0.28 bpp is about 35 kB for a megapixel.")
def check_bits_per_pixel(answer):
    """Against 8 * bytes / (width * height)."""
    for n_bytes, width, height in ((35_000, 1000, 1000), (1, 1, 1), (12_345, 768, 512)):
        value = given(answer(n_bytes, width, height))
        if np.isclose(value, n_bytes / (width * height)):
            raise NotYet("these are bytes per pixel; a byte has 8 bits")
        compare(value, 8 * n_bytes / (width * height), f"bits_per_pixel({n_bytes}, {width}, {height})")


@exercise("seven round trips instead of a hundred.", seconds=120)
def check_smallest_quality(answer, codec, picture):
    """The answer reaches the PSNR, a quality lower by 1 does not; in at most a dozen round trips."""

    def quality_to_psnr(quality):
        return psnr(picture, np.asarray(codec.decompress(codec.compress(picture, quality=quality))))

    for least in (quality_to_psnr(37) - 1e-6, 99.0, 1.0):
        watched = _Watched(codec)
        try:
            quality = given(answer(watched, picture, least))
        except _TooMany:
            raise NotYet(
                f"{FAR_TOO_MANY} compressions for {least:.2f} dB, and no end. Does each pass of the loop make the "
                "range smaller? With low = 3 and high = 4, (low + high) // 2 is 3 again"
            ) from None
        if watched.realisms - {0}:
            raise NotYet("it decodes at a realism above 0, where the PSNR is lower: the exercise asks for realism 0")
        if quality not in range(101):
            raise NotYet(f"for {least:.2f} dB it returned {quality!r}, which is not a whole number from 0 to 100")
        if quality < 100 and quality_to_psnr(quality) < least:
            raise NotYet(f"quality {quality} gives {quality_to_psnr(quality):.2f} dB, less than {least:.2f}")
        if quality > 0 and quality_to_psnr(quality - 1) >= least:
            raise NotYet(f"for {least:.2f} dB it returned {quality}, but {quality - 1} is enough")
        if watched.compressed > ENOUGH:
            raise NotYet(f"{watched.compressed} compressions: halve the remaining range each time; 7 are enough")


class _TooMany(Overdue):
    """More compressions than any search needs."""


class _Watched:
    """A codec that counts its compressions and records the realisms at which it decodes."""

    def __init__(self, codec):
        self.codec, self.compressed, self.realisms = codec, 0, set()

    def compress(self, *args, **kwargs):
        self.compressed += 1
        if self.compressed > FAR_TOO_MANY:
            raise _TooMany
        return self.codec.compress(*args, **kwargs)

    def decompress(self, data, realism=0.0, **kwargs):
        self.realisms.add(realism)
        return self.codec.decompress(data, realism, **kwargs)
