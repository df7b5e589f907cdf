"""Checks of notebook 02: a convolution by hand, and another distribution for the first codec."""

import numpy as np
import torch
import torch.nn.functional as F

from ganlib.course.exercises import NotYet, compare, exercise, given


@exercise("a convolution is one dot product for every window and every output channel, and nothing more.")
def check_conv2d_by_hand(answer):
    """Against torch's conv2d with zero padding, for kernels of 3x3 and 1x1."""
    rng = np.random.default_rng(0)
    for kernel in (3, 1):
        x, weight, bias = (rng.normal(size=s) for s in ((3, 5, 7), (4, 3, kernel, kernel), (4,)))
        value = np.asarray(given(answer(x.copy(), weight.copy(), bias.copy())))
        tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
        oracle = F.conv2d(tensors[0][None], *tensors[1:], padding=kernel // 2)[0].numpy()
        if value.shape == (4, 6 - kernel, 8 - kernel) != oracle.shape:
            raise NotYet("the border is missing: pad x with zeros, so that output and input have the same size")
        if value.shape == oracle.shape:
            flipped = F.conv2d(tensors[0][None], tensors[1].flip(2, 3), tensors[2], padding=kernel // 2)[0].numpy()
            if kernel > 1 and np.allclose(value, flipped):
                raise NotYet("the kernel is flipped: this is done in mathematics, but not in neural networks")
            if np.allclose(value, oracle - bias[:, None, None]):
                raise NotYet("the bias is missing: one number for each output channel")
        compare(value, oracle, f"the output for a {kernel}x{kernel} kernel")


@exercise("a codec can use any distribution: the probability of a whole number is the area above its unit interval.")
def check_laplace_likelihood(answer):
    """Against the difference of torch's cumulative distributions, half a step on either side."""
    rng = np.random.default_rng(0)
    y, mean = (torch.from_numpy(rng.normal(size=(2, 3, 4, 4)) * size) for size in (4.0, 1.0))
    scale = torch.from_numpy(np.exp(rng.uniform(-0.5, 2, size=(1, 3, 1, 1))))
    one = torch.ones(1, dtype=torch.float64)
    cases = {"y = 0, mean = 0, scale = 1": (0 * one, 0 * one, one), "latents": (y, mean, scale.expand_as(y))}
    for what, (y, mean, scale) in cases.items():
        value = np.asarray(given(answer(y.clone(), mean.clone(), scale.clone())))
        laplace = torch.distributions.Laplace(mean, scale)
        oracle = (laplace.cdf(y + 0.5) - laplace.cdf(y - 0.5)).numpy()
        if value.shape == oracle.shape and not np.allclose(value, oracle, rtol=1e-4):
            if np.allclose(value, laplace.log_prob(y).exp().numpy(), rtol=1e-4):
                raise NotYet("this is the density at y; the probability is the area from y - 1/2 to y + 1/2")
            normal = torch.distributions.Normal(mean, scale)
            if np.allclose(value, (normal.cdf(y + 0.5) - normal.cdf(y - 0.5)).numpy(), rtol=1e-4):
                raise NotYet("this is still the normal distribution")
            if np.allclose(value, -np.log2(oracle), rtol=1e-4):
                raise NotYet("these are bits; the exercise asks for the likelihood, a number from 0 to 1")
        compare(value, oracle, f"the likelihood of {what}", tolerance=1e-4)
