"""What training minimizes: bits, the error that those bits leave, and how unnatural the result looks."""

import torch
from torch.nn.functional import softplus

from ganlib.config import STRIDE

LEVEL = 1 / 255  # one step of an 8-bit pixel: smaller errors cannot be seen
REPEATS = 4  # cells of 16 pixels, down and across, over which a pattern is looked for
LAMBDA_MIDDLE = 0.005  # the weight of an image is 1 here


def estimated_bits_per_pixel(likelihoods, pixels):
    """Estimated rate of each image: -log2 of the likelihood of every symbol, over its pixels.

    Args:
        likelihoods: {"y", "z"}, or "y" alone, each B,C,h,w in (0, 1].
        pixels: H * W of one image.

    Returns:
        B numbers, bits per pixel. An estimate: the file's own bytes are what counts in the end.
    """
    return sum(-torch.log2(part).sum(dim=(1, 2, 3)) for part in likelihoods.values()) / pixels


def mean_squared_error(x_hat, x):
    """B,3,H,W twice, in [0, 1] -> B numbers."""
    return (x_hat - x).square().mean(dim=(1, 2, 3))


def psnr_from_mse(mse, peak=1.0):
    """Mean squared errors of values up to `peak`, a tensor -> dB: 10 log10(peak^2 / MSE), 100 dB at the most."""
    return 10 * torch.log10(peak**2 / mse.clamp_min(1e-10 * peak**2))


def balance(lambda_weight):
    """Weight of an image with this lambda, so that every quality pulls alike.

    At the optimum rate and distortion both grow about as sqrt(lambda), so an image at the highest lambda would
    outvote one at the lowest by the root of their ratio, 17 for `light`; dividing by sqrt(lambda) gives each the
    same say.
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

    A generator that invents texture where the latents say nothing invents the same 16x16 pixels again and again.
    The eye finds such a grid on skin and sky, at an amplitude of a single level, where MSE and LPIPS hardly do. The
    mean of the error over 4x4 neighbouring cells, pixel by pixel, keeps what repeats and leaves a sixteenth of the
    energy of what does not. Set against all of the error close by, a faint grid on a plain wall counts as much as a
    strong one in grass.

    Args:
        x_hat, x: B,3,H,W in [0, 1], H and W multiples of 64.

    Returns:
        B numbers, each a mean over squares of 64x64 pixels. A cell's own mean is a matter of colour, and left out.
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

    Reconstructions count by their realism: one at 0 is not meant to look natural, and to learn from it would only
    teach that blur is false.

    Args:
        real, fake: B,1,h,w logits of photographs and of reconstructions.
        realism: B numbers in [0, 1].

    Returns:
        A scalar: 2 log 2 = 1.39 where it cannot tell them apart.
    """
    each = softplus(-real).mean(dim=(1, 2, 3)) + softplus(fake).mean(dim=(1, 2, 3))
    return (realism * each).sum() / realism.sum().clamp_min(1e-6)


def non_saturating_loss(fake):
    """-log D(x_hat), the non-saturating loss (Goodfellow et al. 2014): B,1,h,w logits -> B numbers.

    The literal opposite of the discriminator's loss, log(1 - D(x_hat)), is flat where the discriminator is sure,
    which is where the generator has the most to learn.
    """
    return softplus(-fake).mean(dim=(1, 2, 3))
