"""Solutions of notebook 02, one function for each exercise, and answers to its questions."""

import numpy as np
import torch

ANSWERS = {
    1: """32 * 64 * 3 * 3 = 18,432 weights (and 64 biases). Each weight is used once at each position, so there are
    18,432 multiplications for each position.""",
    2: """Each coefficient is a dot product of a block with a cosine wave: a convolution with that wave as its kernel.
    Blocks stand side by side, so the stride is the side of a block: 8 in JPEG, 16 here.""",
    3: """round() is flat almost everywhere, so its derivative is zero and nothing before it learns. Uniform noise
    from -1/2 to 1/2 has the same mean error and, where a channel spans several steps, the same variance of
    1/12. It passes the gradient.""",
    4: """With a small scale nearly all probability is at zero, and each latent costs nearly 0 bits. With a large one
    the probability is spread over many whole numbers, and each zero costs several bits.""",
    5: """Train with one, two and three photographs, with the same number of steps, and compare on photographs that
    were never trained on. If the results still improve from two to three, more photographs would help.""",
}


def conv2d_by_hand(x, weight, bias):
    """C,H,W; O,C,k,k; O -> O,H,W."""
    k = weight.shape[2]
    height, width = x.shape[1:]
    padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    # k * k shifted pictures, each weighted by one tap of every kernel: fewer loops than a window at a time
    for i in range(k):
        for j in range(k):
            shifted = padded[:, i : i + height, j : j + width]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], shifted)
    return out


def laplace_likelihood(y, mean, scale):
    """Tensors of one shape -> tensor of that shape: the area from y - 1/2 to y + 1/2."""

    def cdf(t):
        tail = torch.exp(-t.abs() / scale) / 2
        return torch.where(t < 0, tail, 1 - tail)

    return cdf(y - mean + 0.5) - cdf(y - mean - 0.5)
