"""What several notebooks draw with."""

import numpy as np
import torch

from ganlib.course.figures import as_pixels, chart
from ganlib.course.widgets.features import as_tensor


def test_a_chart_is_empty_and_names_its_axes():
    figure, ax = chart("step", "loss")
    assert figure.axes == [ax] and (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert not ax.lines and not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()


def test_pixels_become_a_tensor_and_the_same_pixels_again(photo):
    part = photo[:64, :128]  # multiples of 64: as_tensor pads others
    back = as_pixels(as_tensor(part).requires_grad_())
    assert back.dtype == np.uint8 and np.array_equal(back, part)


def test_pixels_are_rounded_and_end_at_0_and_255():
    x_hat = torch.tensor([-1.0, 0.6 / 255, 254.4 / 255, 7.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert as_pixels(x_hat)[:, :, 0].tolist() == [[0, 1], [254, 255]]
