"""Receptive field of a network. It decides how wide the halo of a window must be."""

import math

from torch import nn

from ganlib.config import STRIDE
from ganlib.model.encoder import FeatureEncoder
from ganlib.model.generator import Generator
from ganlib.model.layers import PatchConvTranspose2d, ResidualBlock


def reach(layer, stride):
    """The largest distance from which an input affects an output, added up over the layers of a network.

    A 3x3 convolution reaches one position further, which is `stride` pixels; pooling and pixel shuffles change the
    stride and see no neighbours. Any layer that is not known to follow these rules is refused: with too narrow a halo
    a window would have wrong pixels along its border.

    Args:
        layer: a layer or network of the kinds in RULES; or one that has a method reach(stride) of its own, with the
            same result. Lists and Sequentials are layers that follow one another.
        stride: pixels that a position of its input covers: 1 for g_a, 16 for g_s.

    Returns:
        pixels, and the stride of its output.

    Raises:
        ValueError: a layer of another kind, or with a stride or padding to which the rules do not apply.
    """
    if hasattr(layer, "reach"):
        return layer.reach(stride)
    rule = RULES.get(type(layer))  # a subclass may do anything
    if rule is None:
        raise ValueError(
            f"{type(layer).__name__} may look further than its window: give it a method reach(stride), see "
            "ganlib.codec.receptive_field.reach, or leave it out. Norms over the image cannot be used"
        )
    return rule(layer, stride)


def _chain(layers, stride):
    pixels = 0.0
    for layer in layers:
        further, stride = reach(layer, stride)
        pixels += further
    return pixels, stride


def _with_shortcut(layers, stride):
    """Layers that follow one another, except the last: it is a shortcut beside them, and its output is added."""
    *chain, shortcut = layers
    (pixels, after), (pixels_beside, after_beside) = _chain(chain, stride), reach(shortcut, stride)
    if after != after_beside:
        raise ValueError(f"added outputs have different strides: {after:g} and, in the shortcut, {after_beside:g}")
    return max(pixels, pixels_beside), after


def _parts(module, *names, vectors=()):
    """Children of a module by name, in the order in which its forward() uses them; there must be no others.

    Args:
        vectors: names of children that compute one vector for the whole image, such as a condition: no reach.
    """
    if others := {name for name, _ in module.named_children()} - {*names, *vectors}:
        raise ValueError(f"{type(module).__name__} has parts that are not counted: {', '.join(sorted(others))}")
    return [getattr(module, name) for name in names]


def _pair(number):
    return (number, number) if isinstance(number, int) else tuple(number)


def _square(layer, *names):
    """Fields of a layer that must be the same along both sides."""
    values = [_pair(getattr(layer, name)) for name in names]
    if any(across != down for across, down in values):
        raise ValueError(f"{layer} is not the same along both sides")
    return [across for across, _ in values]


def _convolution(layer, stride):
    if isinstance(layer.padding, str):
        raise ValueError(f"{layer} names its padding; give a number")
    kernel, step, padding, dilation = _square(layer, "kernel_size", "stride", "padding", "dilation")
    if step == kernel and padding == 0 and dilation == 1:  # patches side by side
        return 0.0, stride * step
    if step != 1 or dilation != 1 or kernel != 2 * padding + 1 or layer.padding_mode != "zeros":
        raise ValueError(f"{layer} is neither a same-size convolution with zero padding nor one over patches")
    return padding * stride, stride


def _pooling(layer, stride):
    kernel, step, padding, dilation = _square(layer, "kernel_size", "stride", "padding", "dilation")
    if step != kernel or padding or dilation != 1 or layer.ceil_mode:
        raise ValueError(f"{layer} pools patches that overlap")
    return 0.0, stride * step


RULES = dict.fromkeys(
    (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU, nn.Identity), lambda layer, stride: (0.0, stride)
) | dict.fromkeys((list, nn.Sequential, nn.ModuleList), _chain)
RULES |= {
    nn.Conv2d: _convolution,
    nn.MaxPool2d: _pooling,
    nn.PixelUnshuffle: lambda layer, stride: (0.0, stride * layer.downscale_factor),
    nn.PixelShuffle: lambda layer, stride: (0.0, stride / layer.upscale_factor),
    PatchConvTranspose2d: lambda layer, stride: (0.0, stride / layer.stride[0]),
    ResidualBlock: lambda block, stride: _chain(
        _parts(block, "act", "conv1", "act", "conv2", vectors=["film"]), stride
    ),
    FeatureEncoder: lambda g_a, stride: _with_shortcut(_parts(g_a, "cnn", "head", "shortcut"), stride),
    Generator: lambda g_s, stride: _with_shortcut(
        _parts(g_s, "enter", "stages", "leave", "shortcut", vectors=["condition"]), stride
    ),
}


def halos(model):
    """Latents that a window of g_a and one of g_s needs on each side: (8, 12) for `light`.

    Raises:
        ValueError: see reach().
    """
    (of_g_a, latent), (of_g_s, pixel) = reach(model.g_a, 1), reach(model.g_s, STRIDE)
    if (latent, pixel) != (STRIDE, 1):
        raise ValueError(f"g_a must end at {STRIDE} pixels a latent and g_s at 1, not at {latent:g} and {pixel:g}")
    return math.ceil(of_g_a / STRIDE), math.ceil(of_g_s / STRIDE)
