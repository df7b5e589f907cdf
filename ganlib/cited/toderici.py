"""Toderici 2017: in each pass, recurrent units code the residual of the picture and add a layer of bits.

    r_0 = x - 1/2, x_hat_0 = 1/2; then for t = 1, 2, ... iterations:

      r_t-1 --* gain_t--conv /2--GRU /2--GRU /2--GRU /2--conv 1x1--tanh--binarize--> b_t: 32 bits for 16x16 pixels
                                  |       |       |  states of pass t - 1
                                  |       |       |         |       |       |       |
      b_t --conv 1x1-----------------------------------GRU--shuffle--GRU--shuffle--GRU--shuffle--GRU--shuffle--.
      x_hat_t = x_hat_t-1 + result / gain_t, r_t = x - x_hat_t <--------------------------conv 1x1, tanh-------.

One pass costs 32 / 256 = 1/8 bit per pixel before entropy coding. The units' states hold what earlier passes have
coded, so that each pass can code something new. The decoder needs b_1 ... b_t for x_hat_t and nothing later: every
prefix of the file is a coarser picture. The gain enlarges the shrinking residual to a size that suits the network.

Source: G. Toderici et al., "Full Resolution Image Compression with Recurrent Neural Networks", CVPR 2017,
arXiv:1608.05148: the GRU, additive reconstruction, L1 loss.
Left out: LSTM, associative LSTM and residual GRU; the gain is one learnt number for each pass, not a network's; the
recurrent network that predicts bits (here adaptive counts, bit_coder.py); 3x3 kernels on the states of the last two
units; 16 passes and widths of 64 to 512 channels.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ganlib.cited.presets import RecurrentConfig
from ganlib.model.layers import conv


class ConvGRU(nn.Module):
    """A gated recurrent unit whose products are convolutions: 3x3 on the input, 1x1 on the state.

    h' = h + update * (new - h), update = sigmoid(W_u x + U_u h), reset = sigmoid(W_r x + U_r h),
    new = tanh(W x + U (reset * h)).
    """

    def __init__(self, c_in, channels, stride=1):
        super().__init__()
        self.from_input = nn.Conv2d(c_in, 3 * channels, 3, stride=stride, padding=1)
        self.from_state = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.from_reset = nn.Conv2d(channels, channels, 1, bias=False)
        with torch.no_grad():
            self.from_input.weight *= 2  # torch's initialization leaves an eighth of the signal after three units

    def forward(self, x, h=None):
        """x: B,C,H,W; h: B,C',H/stride,W/stride, None for zero -> the new h."""
        update, reset, new = self.from_input(x).chunk(3, dim=1)
        if h is None:
            h = torch.zeros_like(new)
        from_update, from_reset = self.from_state(h).chunk(2, dim=1)
        update, reset = torch.sigmoid(update + from_update), torch.sigmoid(reset + from_reset)
        return h + update * (torch.tanh(new + self.from_reset(reset * h)) - h)


def binarize(p, training):
    """Numbers in [-1, 1] -> -1 or 1. In training it is 1 with probability (1 + p) / 2: then its mean is p, and the
    gradient, which passes unchanged, is that of the mean."""
    limit = 2 * torch.rand_like(p) - 1 if training else torch.zeros_like(p)
    return p + (torch.where(p >= limit, 1.0, -1.0) - p).detach()


class Encoder(nn.Module):
    """Residual -> bits. Stage by stage 1/2, 1/4, 1/8, 1/16."""

    def __init__(self, config, enter):
        super().__init__()
        widths = config.encoder_widths
        self.enter = enter
        self.units = nn.ModuleList(ConvGRU(a, b, stride=2) for a, b in zip(widths, widths[1:]))
        self.leave = nn.Conv2d(widths[-1], config.bits, 1)
        with torch.no_grad():
            self.leave.weight *= 10  # near zero every bit would be random, without information

    def forward(self, residual, states):
        """B,3,H,W and the states of the pass before -> B,bits,H/16,W/16 of -1 and 1, and the new states."""
        h, new = self.enter(residual), []
        for unit, state in zip(self.units, states):
            new.append(h := unit(h, state))
        return binarize(torch.tanh(self.leave(h)), self.training), new


class Decoder(nn.Module):
    """Bits -> what they add to the picture. Stage by stage 1/16, 1/8, 1/4, 1/2, 1."""

    def __init__(self, config, enter):
        super().__init__()
        widths = config.decoder_widths[::-1]
        self.enter = enter
        self.units = nn.ModuleList(ConvGRU(a, b) for a, b in zip((widths[0], *(n // 4 for n in widths)), widths))
        self.leave = conv(widths[-1] // 4, 3, 1, scale=0.1)  # untrained passes change little
        # The residual is 0.2 at first; a pass reduces it by about 2 dB, a factor of 1.25
        self.log_gain = nn.Parameter((5 * 1.25 ** torch.arange(config.iterations)).log())

    def gain(self, t):
        """Gain of pass t, counted from 0."""
        return self.log_gain[t].exp()

    def forward(self, bits, states, t):
        """B,bits,h,w of -1 and 1 -> B,3,16h,16w and the new states."""
        h, new = self.enter(bits), []
        for unit, state in zip(self.units, states):
            new.append(state := unit(h, state))
            h = F.pixel_shuffle(state, 2)
        return torch.tanh(self.leave(h)) / self.gain(t), new


class Toderici(nn.Module):
    """Encoder and decoder, and the loop around them."""

    Config = RecurrentConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, self.analysis(3, config.encoder_widths[0]))
        self.decoder = Decoder(config, self.synthesis(config.bits, config.decoder_widths[-1]))

    @staticmethod
    def analysis(c_in, c_out):
        """The encoder's first block, B,C,H,W -> B,C',H/2,W/2. (islam.py replaces it.)"""
        return nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)

    @staticmethod
    def synthesis(c_in, c_out):
        """The decoder's first block, B,C,h,w -> B,C',h,w."""
        return nn.Conv2d(c_in, c_out, 1)

    def encode(self, x, iterations):
        """B,3,H,W in [0, 1], multiples of 16 -> yields for each pass bits: B,bits,H/16,W/16, and x_hat: B,3,H,W."""
        x_hat, coding, decoding = torch.full_like(x, 0.5), [None] * 3, [None] * 4
        for t in range(iterations):
            bits, coding = self.encoder((x - x_hat) * self.decoder.gain(t), coding)
            more, decoding = self.decoder(bits, decoding, t)
            x_hat = x_hat + more
            yield bits, x_hat

    def decode(self, layers):
        """Bits of the first passes, in order, each B,bits,h,w of -1 and 1 -> x_hat: B,3,16h,16w, not clipped."""
        x_hat, states = 0.5, [None] * 4
        for t, bits in enumerate(layers):
            more, states = self.decoder(bits, states, t)
            x_hat = x_hat + more
        return x_hat

    def forward(self, x):
        """B,3,H,W -> x_hat after each pass, a list of `iterations`."""
        return [x_hat for _, x_hat in self.encode(x, self.config.iterations)]
