"""The discriminator: the adversary that tells photographs from reconstructions."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganlib.config import STRIDE

WIDTH = 32  # channels after the first layer; they double with each halving of the side
CONDITION = 12  # channels that the latents are squeezed to before they are laid beside the pixels
# They bring pixels and latents to about unit variance. A reconstruction differs from a photograph by a tenth of the
# contrast, and with spectral norm no layer can enlarge this difference much
IMAGE_GAIN, LATENT_GAIN = 4.0, 0.25
SLOPE = 0.2  # of LeakyReLU; steeper than the generator's, so that gradients reach the generator undiminished


class Discriminator(nn.Module):
    """Conditional PatchGAN: one verdict for each patch of 38x38 pixels, 8 pixels apart.

        y_hat --conv 3x3--> B,12,H/16,W/16 --repeat 16x--.
        x or x_hat ------------------------------------(cat)--[conv 4x4, stride 2] x 3--conv 3x3--conv 1x1--> logits

    It sees the content of the file (y_hat) beside the picture, so it can reject a texture that looks real but is
    wrong there (Mirza and Osindero 2014; Mentzer et al. 2020). It judges patches (Isola et al. 2017), not whole
    pictures: the file fixes the composition and leaves open the fine texture. Spectral norm bounds how much each
    layer but the last can enlarge a difference, so that the gradient for the generator stays bounded (Miyato et al.
    2018): the kernel, taken as a matrix, has a largest singular value of 1, and the convolution, which sees each
    pixel in several windows, a gain of 2 to 3.

    Args:
        latent_channels: C of y_hat.
    """

    def __init__(self, latent_channels):
        super().__init__()
        self.latent_channels = latent_channels
        self.condition = nn.Sequential(
            spectral_norm(nn.Conv2d(latent_channels, CONDITION, 3, padding=1)),
            nn.LeakyReLU(SLOPE),
            nn.Upsample(scale_factor=STRIDE, mode="nearest"),
        )
        self.judge = nn.Sequential(
            spectral_norm(nn.Conv2d(3 + CONDITION, WIDTH, 4, stride=2, padding=1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(2 * WIDTH, 4 * WIDTH, 4, stride=2, padding=1)),
            nn.LeakyReLU(SLOPE),
            spectral_norm(nn.Conv2d(4 * WIDTH, 8 * WIDTH, 3, padding=1)),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(8 * WIDTH, 1, 1),  # without spectral norm: the logits may have any scale
        )

    def forward(self, image, y_hat):
        """Judge a picture.

        Args:
            image: B,3,H,W in [0, 1], H and W multiples of 16.
            y_hat: B,C,H/16,W/16 dequantized latents of that picture.

        Returns:
            B,1,H/8,W/8 logits: above 0 where it judges the patch to be a photograph.
        """
        condition = self.condition(LATENT_GAIN * y_hat)  # B,C,h,w -> B,12,16h,16w
        return self.judge(torch.cat([IMAGE_GAIN * (image - 0.5), condition], dim=1)).float()
