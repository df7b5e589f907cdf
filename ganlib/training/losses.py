"""What training minimizes: bits, the error that those bits leave, and how unnatural the result looks."""

import torch
from torch.nn.functional import softplus

from ganlib.config import STRIDE

LEVEL = 1 / 255  # one step of an 8-bit pixel: smaller errors cannot be seen
REPEATS = 4  # cells of 16 pixels, in both directions, that are compared to find a pattern
LAMBDA_MIDDLE = 0.005  # the weight of an image is 1 here


def estimated_bits_per_pixel(likelihoods, pixels):
    """Estimated rate of each image: sum of -log2 of the likelihood of every symbol, divided by its pixels.

    Args:
        likelihoods: {"y", "z"}, or "y" alone, each B,C,h,w in (0, 1].
        pixels: H * W of one image.

    Returns:
        B numbers, bits per pixel. An estimate: the true rate is the size of the file.
    """
    return sum(-torch.log2(part).sum(dim=(1, 2, 3)) for part in likelihoods.values()) / pixels


def mean_squared_error(x_hat, x):
    """B,3,H,W twice, in [0, 1] -> B numbers."""
    return (x_hat - x).square().mean(dim=(1, 2, 3))


def psnr_from_mse(mse, peak=1.0):
    """Mean squared errors of values up to `peak`, a tensor -> dB: 10 log10(peak^2 / MSE), 100 dB at the most."""
    return 10 * torch.log10(peak**2 / mse.clamp_min(1e-10 * peak**2))


def balance(lambda_weight):
    """Weight of an image with this lambda, so that every quality has the same influence.

    At the optimum, rate and distortion both grow about as sqrt(lambda). So an image at the highest lambda would count
    more than one at the lowest, by the root of their ratio, 20 for `light`. Division by sqrt(lambda) prevents this.
    """
    return (LAMBDA_MIDDLE / lambda_weight).sqrt()


def distortion(mse, lambda_weight):
    """balance * lambda * 255^2 * MSE: B numbers each -> B numbers."""
    return balance(lambda_weight) * lambda_weight * 255**2 * mse


def rate_distortion(bpp, mse, lambda_weight):
    """bpp + lambda * 255^2 * MSE, balanced and averaged over the batch.

    Args:
        bpp, mse, lambda_weight: B numbers each.

    Returns:
        A scalar.
    """
    return (balance(lambda_weight) * bpp + distortion(mse, lambda_weight)).mean()


def grid_artifact_penalty(x_hat, x):
    """How much of the error repeats from latent to latent: 1 where it is like noise, 16 where it is all a grid.

    A generator that invents texture where the latents hold no information repeats the same 16x16 pixels. The eye sees
    such a grid on skin and sky, even at an amplitude of a single level; MSE and LPIPS hardly detect it. The mean of
    the error over 4x4 neighbouring cells, pixel by pixel, keeps what repeats and only a sixteenth of the energy of
    the rest. It is divided by the energy of all the error nearby, so that a faint grid on a plain wall counts as much
    as a strong one in grass.

    Args:
        x_hat, x: B,3,H,W in [0, 1], H and W multiples of 64.

    Returns:
        B numbers, each a mean over squares of 64x64 pixels. The mean of each cell, a colour error, is left out.
    """
    b, c, h, w = x.shape
    side = REPEATS * STRIDE
    cells = (x_hat - x).reshape(b, c, h // side, REPEATS, STRIDE, w // side, REPEATS, STRIDE)
    cells = cells - cells.mean(dim=(4, 7), keepdim=True)
    repeats = cells.mean(dim=(3, 6)).square().mean(dim=(1, 3, 5))  # B,H/64,W/64
    energy = cells.square().mean(dim=(1, 3, 4, 6, 7))
    return (REPEATS**2 * repeats / (energy + LEVEL**2)).mean(dim=(1, 2))


def discriminator_loss(real, fake, realism):
    """Cross-entropy of the discriminator's verdicts: -log D(x) - log(1 - D(x_hat)).

    Images are weighted by their realism: a reconstruction at 0 is not meant to look natural, and would only teach the
    discriminator that blurred images are reconstructions.

    Args:
        real, fake: B,1,h,w logits of photographs and of reconstructions.
        realism: B numbers in [0, 1].

    Returns:
        A scalar: 2 log 2 = 1.39 where the discriminator cannot tell them apart.
    """
    each = softplus(-real).mean(dim=(1, 2, 3)) + softplus(fake).mean(dim=(1, 2, 3))
    return (realism * each).sum() / realism.sum().clamp_min(1e-6)


def non_saturating_loss(fake):
    """-log D(x_hat), the non-saturating loss (Goodfellow et al. 2014): B,1,h,w logits -> B numbers.

    The literal opposite of the discriminator's loss, log(1 - D(x_hat)), is flat where the discriminator is sure,
    which is where the generator has the most to learn.
    """
    return softplus(-fake).mean(dim=(1, 2, 3))
