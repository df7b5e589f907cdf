"""Convert the pixels of pictures to tensors for the networks, and back."""

import torch


def to_tensor(pixels, device="cpu"):
    """H,W,3 uint8 -> 1,3,H,W float32 in [0, 1], in the memory format channels_last."""
    return torch.tensor(pixels, device=device).permute(2, 0, 1)[None].float().div_(255)


def to_pixels(x_hat):
    """H,W,3 or H,W -> the same, uint8: [0, 1] becomes 0 to 255, rounded; values outside are clipped."""
    return x_hat.clamp(0, 1).mul_(255).round_().byte().cpu().numpy()
