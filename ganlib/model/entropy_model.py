"""The entropy model: what value each quantized feature probably has, and how many bits its actual value costs.

    y * gain --h_a--> z --round--> z_hat --h_s--> features --context_i--> mean, scale of part i of y_hat
                                                                ^
                                              y_hat of parts 0 .. i-1

z_hat is coded with one fixed distribution per channel, y_hat part by part with Gaussians that are predicted from h_s
and the parts before (hyperprior: Balle et al. 2018; mean and scale: Minnen et al. 2018). A part is one phase of a
checkerboard in one slice of channels: first the anchors, then the non-anchors, each of which sees its four neighbours
among the anchors (slices: Minnen and Singh 2020; checkerboard: He et al. 2021). There is no loop over pixels:
decoding takes one pass per part. Without hyperprior (ModelConfig) there is no z, and contexts see the parts before
and the quality; without checkerboard a part is a whole slice.
"""

import math

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ganlib.config import QUALITY_MAX
from ganlib.model.integer_layers import Activation, ExactConv2d, Output, clamp, quantize
from ganlib.model.layers import SLOPE, conv, initialize

SCALES = 64  # entries of the table of scales
SCALE_MIN, SCALE_MAX = 0.11, 64.0  # in quantization steps; below 0.11 only one symbol in 180,000 is not zero
LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALES - 1)
Y_LIMIT = 255  # largest |round(y - mean)|; what lies beyond is clipped by the encoder
Z_LIMIT = 63  # largest |z_hat|
MIXTURES = 3  # logistics in the distribution of each channel of z
LIKELIHOOD_MIN = 2.0**-24  # the rarest symbol of an integer table costs 24 bits, so no symbol costs more
# Activations hold +-4: z_hat up to +-64, y_hat up to +-(256 - 3 * knee). A power of two causes no rounding
CONTEXT_SCALE = 1 / 16
PHASES = 2  # of the checkerboard
ANCHOR, NON_ANCHOR = range(PHASES)


def round_quality(quality):
    """Quality 0 to 100 -> 0 to 4 in steps of 1/64, as integer inference needs it. entropy_coder.quality_value() does
    the same for a quality in hundredths, with whole numbers."""
    return (quality * (256 / QUALITY_MAX)).round() / 64


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
    return clamp((upper - lower) / 2, LIKELIHOOD_MIN, 1.0)


def context_input(y_hat, knee):
    """Latents as the context networks see them: y / 16 up to the knee, then y / 64, a multiple of 2^-6 within +-4.

    Near zero a quarter of a step matters. The lowest frequencies reach +-140 steps at the highest quality; there
    only the rough size matters. Values beyond +-(256 - 3 * knee) are clipped. Both slopes are powers of two, so
    float32 rounds nothing before quantize() does.

    Args:
        y_hat: float32, multiples of 2^-6, of any shape; knee: in quantization steps, a whole number.
    """
    inside = y_hat.clamp(-knee, knee)
    return quantize(inside * CONTEXT_SCALE + (y_hat - inside) * (CONTEXT_SCALE / 4))


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
        return clamp((weight * cdf).sum(-1), LIKELIHOOD_MIN, 1.0)


def checkerboard(height, width, device=None):
    """h,w: ANCHOR and NON_ANCHOR in turn, an anchor in the corner."""
    return (torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)) % PHASES


def exact_conv(c_in, c_out, kernel=3, scale=1.0, share=1.0):
    """ExactConv2d, initialized as layers.conv."""
    return initialize(ExactConv2d(c_in, c_out, kernel, share), scale)


class EntropyModel(nn.Module):
    """Hyperprior, channel context and checkerboard. Training uses forward(), coding uses codec/entropy_coder.py."""

    recompute = False  # in training, keep few activations for the backward pass: TrainConfig.recompute

    def __init__(self, config):
        super().__init__()
        c, hyper, width, context = (
            config.latent_channels,
            config.hyper_channels,
            config.hyper_width,
            config.context_width,
        )
        self.slices, self.knee, self.hyperprior = config.slices, config.context_knee, config.hyperprior
        # which positions each part of a slice has; None is all of them
        self.phases = (ANCHOR, NON_ANCHOR) if config.checkerboard else (None,)
        # channels that every context sees: the output of h_s, and the quality
        self.features = (width if self.hyperprior else 0) + 1
        if self.hyperprior:
            act = nn.LeakyReLU(SLOPE)
            # B,C,h,w -> B,hyper,h/4,w/4. Runs in the encoder only, so it need not be exact.
            self.h_a = nn.Sequential(
                conv(c + 1, width), act, nn.PixelUnshuffle(2), conv(4 * width, width), act,
                nn.PixelUnshuffle(2), conv(4 * width, hyper),
            )  # fmt: skip
            self.prior = FactorizedPrior(hyper)
            # B,hyper+1,h/4,w/4 -> B,width,h,w
            self.h_s = nn.Sequential(
                exact_conv(hyper + 1, 4 * width), nn.PixelShuffle(2), Activation(),
                exact_conv(width, 4 * width), nn.PixelShuffle(2), Activation(),
                exact_conv(width, width), Activation(),
            )  # fmt: skip
        # B,known,h,w -> B,2*n,h,w: mean and scale index of the n channels of a slice, for the anchors (which know the
        # slices before), then for the non-anchors (which know the anchors of this slice too)
        self.contexts = nn.ModuleList()
        for i, n in enumerate(self.slices):
            for phase in self.phases:
                known = self.features + sum(self.slices[:i]) + (n if phase == NON_ANCHOR else 0)
                share = 1 / len(self.phases)
                network = [exact_conv(known, context, share=share), Activation()]
                network += [exact_conv(context, context, kernel=1, share=share), Activation()]
                network += [exact_conv(context, 2 * n, kernel=1, scale=0.5, share=share), Output()]
                self.contexts.append(nn.Sequential(*network))
        with torch.no_grad():
            for network in self.contexts:  # start at a standard deviation of about one step
                last = network[-2]
                last.bias[last.out_channels // 2 :] = math.log(1 / SCALE_MIN) / LOG_STEP

    @staticmethod
    def quality_plane(like, quality):
        """B qualities -> B,1,h,w: the result of round_quality() at each position."""
        return round_quality(quality).to(like.dtype)[:, None, None, None].expand(-1, 1, *like.shape[2:])

    def _predict(self, network, known):
        """B,known,h,w in parts -> mean and index of the scale: B,n,h,w each."""

        def predict(*parts):
            return network(torch.cat(parts, dim=1))

        if self.recompute and self.training and torch.is_grad_enabled():
            both = checkpoint(predict, *known, use_reentrant=False, preserve_rng_state=False)  # no random numbers
        else:
            both = predict(*known)
        mean, index = both.chunk(2, dim=1)
        return mean, clamp(index, 0.0, SCALES - 1.0)

    def forward(self, y, quality):
        """Estimate the rate. In training: noise in place of rounding for the likelihoods, straight-through
        rounding for everything downstream. In evaluation: what the coder will do.

        Args:
            y: B,C,h,w latents in quantization steps, h and w multiples of 4.
            quality: B numbers in [0, 100].

        Returns:
            y_hat: B,C,h,w; likelihoods: {"y": B,C,h,w, "z": B,hyper,h/4,w/4}, the latter with a hyperprior only.
        """
        known, likelihoods = [self.quality_plane(y, quality)], {}
        if self.hyperprior:
            z = self.h_a(torch.cat([y * CONTEXT_SCALE, self.quality_plane(y, quality)], dim=1))
            z_hat = clamp(straight_through_round(z), -Z_LIMIT, Z_LIMIT)
            likelihoods["z"] = self.prior(z + torch.rand_like(z) - 0.5 if self.training else z_hat)
            hyper = self.h_s(torch.cat([z_hat * CONTEXT_SCALE, self.quality_plane(z_hat, quality)], dim=1))
            known = [hyper, *known]
        non_anchor = checkerboard(*y.shape[2:], device=y.device) == NON_ANCHOR
        parts, y_hat, y_likelihoods = len(self.phases), [], []
        for i, y_slice in enumerate(y.split(self.slices, dim=1)):
            mean, index = self._predict(self.contexts[parts * i], known)
            if parts > 1:
                anchors = context_input(mean + self._symbols(y_slice, mean, index), self.knee) * ~non_anchor
                at_others = self._predict(self.contexts[parts * i + NON_ANCHOR], [*known, anchors])
                mean, index = (torch.where(non_anchor, b, a) for a, b in zip((mean, index), at_others))
            symbols = self._symbols(y_slice, mean, index)
            if self.training:
                distance = y_slice - mean + torch.rand_like(mean) - 0.5
            else:
                distance, index = symbols, index.round()
            y_likelihoods.append(gaussian_likelihood(distance, index_to_scale(index)))
            y_hat.append(mean + symbols)
            known.append(context_input(y_hat[-1], self.knee))
        return torch.cat(y_hat, dim=1), {"y": torch.cat(y_likelihoods, dim=1), **likelihoods}

    def _symbols(self, y, mean, index):
        """The whole numbers to code. At the lowest index the number is zero and is not coded."""
        symbols = clamp(straight_through_round(y - mean), -Y_LIMIT, Y_LIMIT)
        return symbols if self.training else symbols * (index.round() > 0)
