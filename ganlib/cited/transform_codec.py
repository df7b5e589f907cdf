"""The codec of the cited transform coders."""

from ganlib.codec.codec import Codec


class TransformCodec(Codec):
    """Codec with g_a and g_s of another family, always in float32.

    In ours the last sums of both are taken in float32 when the rest runs in bf16. These transforms have no such
    place, and the inverse of xie.py would no longer be one.
    """

    def __init__(self, weights, device="cpu", precision="no"):
        super().__init__(weights, device, float32_only(precision))


def float32_only(precision):
    """What such a codec computes in where "auto" or "no" is asked for; ValueError for any other precision."""
    if precision not in ("auto", "no"):
        raise ValueError(f"precision={precision!r}: models of ganlib.cited run in float32: leave precision out")
    return "no"
