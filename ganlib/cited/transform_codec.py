"""The codec of the cited transform coders."""

from ganlib.codec.codec import Codec


class TransformCodec(Codec):
    """Codec with g_a and g_s of another family, always in float32.

    In our model the last sums of both use float32 when the rest runs in bf16. These transforms have no such sum, and
    in bf16 the inverse of xie.py would not be exact.
    """

    def __init__(self, weights, device="cpu", precision="no"):
        super().__init__(weights, device, float32_only(precision))


def float32_only(precision):
    """The precision of such a codec for "auto" or "no"; ValueError for any other."""
    if precision not in ("auto", "no"):
        raise ValueError(f"precision={precision!r}: models of ganlib.cited run in float32: leave precision out")
    return "no"
