"""What training minimizes: bits, and the error that those bits leave."""

import torch

LAMBDA_MIDDLE = 0.005  # the weight of an image is 1 here


def bits_per_pixel(likelihoods, pixels):
    """Estimated rate of each image: -log2 of the likelihood of every symbol, over its pixels.

    Args:
        likelihoods: {"y", "z"}, each B,C,h,w in (0, 1].
        pixels: H * W of one image.

    Returns:
        B numbers, bits per pixel. An estimate: the file's own bytes are what counts in the end.
    """
    return sum(-torch.log2(part).sum(dim=(1, 2, 3)) for part in likelihoods.values()) / pixels


def mean_squared_error(x_hat, x):
    """B,3,H,W twice, in [0, 1] -> B numbers."""
    return (x_hat - x).square().mean(dim=(1, 2, 3))


def psnr(mse):
    """Mean squared error of images in [0, 1] -> dB."""
    return -10 * torch.log10(mse.clamp_min(1e-10))


def rate_distortion(bpp, mse, lam):
    """bpp + lambda * 255^2 * MSE, averaged over the batch so that every quality pulls alike.

    At the optimum both terms grow about as sqrt(lambda), so an image at the highest lambda would outvote one at
    the lowest six to one; dividing by sqrt(lambda) gives each the same say.

    Args:
        bpp, mse, lam: B numbers each.

    Returns:
        A scalar.
    """
    balance = (LAMBDA_MIDDLE / lam).sqrt()
    return (balance * (bpp + lam * 255**2 * mse)).mean()
