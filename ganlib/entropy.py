"""The entropy model: what each quantized feature is expected to be, and what it costs to say.

    y * gain --h_a--> z --round--> z_hat --h_s--> features --context_i--> mean, scale of slice i of y_hat
                                                                ^
                                              y_hat of slices 0 .. i-1

z_hat is coded with one fixed distribution a channel, y_hat slice by slice with Gaussians that h_s and the
slices before foretell (hyperprior: Balle et al. 2018; mean and scale: Minnen et al. 2018; slices: Minnen and
Singh 2020). There is no loop over pixels: decoding takes one pass a slice.
"""

import math

import torch
from torch import nn

from ganlib.config import QUALITY_MAX
from ganlib.layers import SLOPE, conv

SCALES = 64  # entries of the table of scales
SCALE_MIN, SCALE_MAX = 0.11, 64.0  # in quantization steps; below 0.11 a symbol is zero but once in 180,000
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)
Y_LIMIT = 255  # largest |round(y - mean)|; what lies beyond is clipped by the encoder
Z_LIMIT = 63  # largest |z_hat|
MIXTURES = 3  # logistics in the distribution of each channel of z
LIKELIHOOD_MIN = 2.0**-24  # the rarest symbol of an integer table costs 24 bits, so none is worse
CONTEXT_SCALE = 1 / 16  # y_hat reaches +-100; features are of order 1. A power of two, for exact.py


class _Clamp(torch.autograd.Function):
    """clamp(x, low, high) whose gradient still passes where it pulls x back inside."""

    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        inside = ((x >= ctx.low) | (grad < 0)) & ((x <= ctx.high) | (grad > 0))
        return grad * inside, None, None


def straight_through_round(x):
    """round(x), with the gradient of x: rounding's own gradient is zero almost everywhere."""
    return x + (x.round() - x).detach()


def index_to_scale(index):
    """Real-valued index 0..63 -> standard deviation in quantization steps, geometric."""
    return SCALE_MIN * torch.exp(index * LOG_STEP)


def gaussian_likelihood(distance, scale):
    """P(symbol) of a Gaussian integrated over the unit interval around `distance` from its mean.

    Uses the upper tail only: Phi(b) - Phi(a) loses all its digits where both are near 1.
    """
    distance = distance.abs()
    upper = torch.erfc((distance - 0.5) / (scale * math.sqrt(2)))
    lower = torch.erfc((distance + 0.5) / (scale * math.sqrt(2)))
    return _Clamp.apply((upper - lower) / 2, LIKELIHOOD_MIN, 1.0)


class FactorizedPrior(nn.Module):
    """One fixed distribution for each channel of z: a mixture of logistics, tabulated for coding."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, MIXTURES))
        self.mean = nn.Parameter(torch.linspace(-2, 2, MIXTURES).repeat(channels, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, MIXTURES))

    def forward(self, z):
        """B,C,h,w -> likelihood of each element, integrated over the unit interval around it."""
        shape = (1, -1, 1, 1, MIXTURES)
        weight = self.weight.softmax(dim=1).view(shape)
        slope = torch.exp(-self.log_scale).view(shape)
        centred = z[..., None] - self.mean.view(shape)
        cdf = torch.sigmoid((centred + 0.5) * slope) - torch.sigmoid((centred - 0.5) * slope)
        return _Clamp.apply((weight * cdf).sum(-1), LIKELIHOOD_MIN, 1.0)


class EntropyModel(nn.Module):
    """Hyperprior and channel context. Training uses forward(); coding goes through exact.py and codec.py."""

    def __init__(self, config):
        super().__init__()
        c, hyper, width, context = (
            config.latent_channels,
            config.hyper_channels,
            config.hyper_width,
            config.context_width,
        )
        self.slices = config.slices
        act = nn.LeakyReLU(SLOPE)
        # B,C,h,w -> B,hyper,h/4,w/4. Runs in the encoder only, so it need not be exact.
        self.h_a = nn.Sequential(
            conv(c + 1, width), act, nn.PixelUnshuffle(2), conv(4 * width, width), act,
            nn.PixelUnshuffle(2), conv(4 * width, hyper),
        )  # fmt: skip
        self.prior = FactorizedPrior(hyper)
        # B,hyper+1,h/4,w/4 -> B,width,h,w
        self.h_s = nn.Sequential(
            conv(hyper + 1, 4 * width), nn.PixelShuffle(2), act, conv(width, 4 * width), nn.PixelShuffle(2), act,
            conv(width, width), act,
        )  # fmt: skip
        # B,width+1+before,h,w -> B,2*n,h,w: mean and scale index of the n channels of the slice
        self.contexts = nn.ModuleList()
        for i, n in enumerate(self.slices):
            known = width + 1 + sum(self.slices[:i])
            hidden = [conv(known, context), act, conv(context, context, kernel=1), act]
            self.contexts.append(nn.Sequential(*hidden, conv(context, 2 * n, kernel=1, scale=0.5)))
        with torch.no_grad():
            for network in self.contexts:  # start at a standard deviation of about one step
                network[-1].bias[network[-1].out_channels // 2 :] = math.log(1 / SCALE_MIN) / LOG_STEP

    @staticmethod
    def quality_plane(like, quality):
        """B,1,h,w in [0, 1]: quality / 100 rounded to 1/256, so that exact.py sees the same number."""
        plane = (quality * (256 / QUALITY_MAX)).round() / 256
        return plane.to(like.dtype)[:, None, None, None].expand(-1, 1, *like.shape[2:])

    def forward(self, y, quality):
        """Estimate the rate. In training: noise in place of rounding for the likelihoods, straight-through
        rounding for everything downstream. In evaluation: what the coder will do, in float32.

        Args:
            y: B,C,h,w latents in quantization steps, h and w multiples of 4.
            quality: B numbers in [0, 100].

        Returns:
            y_hat: B,C,h,w; likelihoods: {"y": B,C,h,w, "z": B,hyper,h/4,w/4}.
        """
        z = self.h_a(torch.cat([y * CONTEXT_SCALE, self.quality_plane(y, quality)], dim=1))
        z_hat = straight_through_round(z).clamp(-Z_LIMIT, Z_LIMIT)
        z_likelihood = self.prior(z + torch.rand_like(z) - 0.5 if self.training else z_hat)
        hyper = self.h_s(torch.cat([z_hat, self.quality_plane(z_hat, quality)], dim=1))
        known = torch.cat([hyper, self.quality_plane(y, quality)], dim=1)
        y_hat, likelihoods = [], []
        for y_slice, network in zip(y.split(self.slices, dim=1), self.contexts):
            context = torch.cat([known, *(part * CONTEXT_SCALE for part in y_hat)], dim=1)
            mean, index = network(context).chunk(2, dim=1)
            index = _Clamp.apply(index, 0.0, SCALES - 1.0)
            distance = y_slice - mean
            symbols = straight_through_round(distance).clamp(-Y_LIMIT, Y_LIMIT)
            if self.training:
                seen = distance + torch.rand_like(distance) - 0.5
            else:
                index = index.round()
                seen = symbols = symbols * (index > 0)  # the lowest index means zero, and is not coded
            likelihoods.append(gaussian_likelihood(seen, index_to_scale(index)))
            y_hat.append(mean + symbols)
        return torch.cat(y_hat, dim=1), {"y": torch.cat(likelihoods, dim=1), "z": z_likelihood}
