"""Islam 2021: Toderici's recurrent codec with divisive normalization in its analysis and synthesis blocks.

    analysis block    r --conv 3x3 /2--GDN--> features of the recurrent encoder
    synthesis block   b --conv 1x1--inverse GDN--> features of the recurrent decoder
    all else          as drawn in toderici.py

GDN divides each channel by a pool of all of them, y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2). Neighbouring
filters respond to the same edges: where one response is large, the others are too. Divided by their common size, the
responses become more alike in size, nearer to Gaussian and less dependent on each other. The inverse multiplies.

beta and gamma must stay positive, or the root fails: the parameters are their square roots, so no clipping is needed.

Source: K. Islam, L. M. Dang, S. Lee, H. Moon, "Image Compression with Recurrent Neural Network and Generalized
Divisive Normalization", CVPR Workshops 2021, pp. 1875-1879. GDN: J. Balle, V. Laparra, E. P. Simoncelli, "Density
Modeling of Images using a Generalized Normalization Transformation", arXiv:1511.06281.
Left out: the paper's LSTM cells; this model has Toderici's GRU, so that only the normalization differs. Also
what toderici.py leaves out.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ganlib.cited.presets import IslamConfig
from ganlib.cited.toderici import Toderici

BETA_MIN = 1e-6  # keeps the root away from zero
GAMMA_START, GAMMA_ELSEWHERE = 0.1, 1e-3  # on the diagonal, and off it: zero would have no gradient


class GDN(nn.Module):
    """Generalized divisive normalization over the channels of each position, or its approximate inverse.

    x / sqrt(beta + gamma x^2), or x * sqrt(beta + gamma x^2).
    """

    def __init__(self, channels, inverse=False):
        super().__init__()
        self.inverse = inverse
        gamma = torch.full((channels, channels), GAMMA_ELSEWHERE).fill_diagonal_(GAMMA_START)
        self.root_gamma = nn.Parameter(gamma.sqrt())
        self.root_beta = nn.Parameter(torch.ones(channels))

    def pool(self, x):
        """B,C,H,W -> what each number is divided by, all positive."""
        gamma = self.root_gamma.square()[:, :, None, None]
        return F.conv2d(x.square(), gamma, self.root_beta.square() + BETA_MIN).sqrt()

    def forward(self, x):
        return x * self.pool(x) if self.inverse else x / self.pool(x)


class Islam(Toderici):
    """The recurrent codec with the two blocks."""

    Config = IslamConfig

    @staticmethod
    def analysis(c_in, c_out):
        return nn.Sequential(Toderici.analysis(c_in, c_out), GDN(c_out))

    @staticmethod
    def synthesis(c_in, c_out):
        return nn.Sequential(Toderici.synthesis(c_in, c_out), GDN(c_out, inverse=True))
