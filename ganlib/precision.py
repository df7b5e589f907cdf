"""In what precision g_a and g_s compute. What steers the entropy coder is exact, and none of this (exact.py)."""

import torch

from ganlib.config import PRECISIONS


def best_precision():
    """Give "bf16" where the chip multiplies in it, else "no": emulated, it is slower than float32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def chosen(precision):
    """One of PRECISIONS -> "no" or "bf16". ValueError where it is none of them."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
    return best_precision() if precision == "auto" else precision


def autocast(device, precision):
    """A context in which convolutions compute in `precision`: "no" or "bf16"."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")
