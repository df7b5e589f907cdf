"""g_a: the CNN that turns pixels into features."""

import torch
from torch import nn

from ganlib.config import STRIDE
from ganlib.model.layers import SLOPE, ResidualBlock, conv, dct_basis, recompute_layers


class FeatureEncoder(nn.Module):
    """Conv + MaxPool2d stages beside a linear transform that starts as the DCT.

        x --PixelUnshuffle--[conv, blocks]--[MaxPool, conv, blocks]--...--conv 1x1--(+)--> y
        |__________________ 16x16 convolution, stride 16, DCT at the start __________|

    The shortcut alone is JPEG's transform; the CNN learns what this lacks. No layer looks across the whole
    image, so any window with enough margin around it gives the same features.

    Args:
        config: ModelConfig. `len(encoder_widths)` stages end at 1/16 resolution, so that four stages enter
            at 1/2 (PixelUnshuffle(2) moves 2x2 pixels into channels) and five at full resolution.
    """

    recompute = False  # in training, keep few activations for the backward pass: TrainConfig.recompute

    def __init__(self, config):
        super().__init__()
        widths, blocks = config.encoder_widths, config.encoder_blocks
        enter = STRIDE // 2 ** (len(widths) - 1)
        stages = [nn.PixelUnshuffle(enter)]
        c_in = 3 * enter * enter
        for i, (width, depth) in enumerate(zip(widths, blocks)):
            if i:
                stages += [nn.LeakyReLU(SLOPE), nn.MaxPool2d(2)]
            stages += [conv(c_in, width), *(ResidualBlock(width) for _ in range(depth))]
            c_in = width
        self.cnn = nn.Sequential(*stages, nn.LeakyReLU(SLOPE))
        self.head = conv(c_in, config.latent_channels, kernel=1, scale=0.1)
        self.shortcut = nn.Conv2d(3, config.latent_channels, STRIDE, stride=STRIDE, bias=False)
        with torch.no_grad():
            self.shortcut.weight.copy_(dct_basis(config.latent_channels, STRIDE)[0])

    def forward(self, x):
        """B,3,H,W in [0, 1], H and W multiples of 16 -> y: B,C,H/16,W/16, float32."""
        x = x - 0.5
        if self.recompute and self.training and torch.is_grad_enabled():
            features = recompute_layers(self.cnn, x)
        else:
            features = self.cnn(x)  # B,3,H,W -> B,192,H/16,W/16
        # Latents reach more than a hundred quantization steps: the last sum needs more than bf16's 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(features.float()) + self.shortcut(x.float())
