"""Integer inference: the exact networks as matrix products, at all positions or at one phase of a checkerboard.

Products and sums are those of model/integer_layers.py. They are not rounded, so they may be split and joined freely:
by taps, by channels, by phases. Winograd and FFT must not be used: their intermediate numbers are not integers.
Everything here is float32, whatever the caller's default type; autocast must be off (entropy_coder.py does that).
"""

import torch
from torch import nn

from ganlib.model.integer_layers import Activation, ExactConv2d, Output, largest_sums


class Grid:
    """h,w,C numbers inside a margin of zeros, one row for each position: the input of a convolution.

    Args:
        height, width, channels: of the inside; margin: positions on each side.

    Attributes:
        rows: n,C with the margin, in reading order.
        inside: h,w,C view of rows without the margin; zero at first.
    """

    def __init__(self, height, width, channels, margin=1, device="cpu"):
        self.height, self.width, self.margin = height, width, margin
        self.step = width + 2 * margin  # rows from a position to the one below it
        count = (height + 2 * margin) * self.step
        self.rows = torch.zeros(count, channels, dtype=torch.float32, device=device)
        padded = self.rows.view(height + 2 * margin, self.step, channels)
        self.inside = padded[margin : margin + height, margin : margin + width]
        self._near = {}

    def places(self, phase=None):
        """Indices of the positions of one phase of the checkerboard, or of both (None), in reading order.

        Returns:
            indices into `rows`, and into `inside.flatten(0, 1)`.
        """
        flat = torch.arange(self.height * self.width, device=self.rows.device)
        row, column = flat // self.width, flat % self.width
        if phase is not None:
            chosen = (row + column) % 2 == phase
            flat, row, column = flat[chosen], row[chosen], column[chosen]
        return (row + self.margin) * self.step + column + self.margin, flat

    def columns(self, kernel, phase=None, first=0, channels=None):
        """The inputs of a kernel at each position of a phase.

        Args:
            kernel: k, odd; the margin is k // 2 or more.
            first, channels: the first channel, and how many; None for all that follow.

        Returns:
            n,k*k*C.
        """
        reach = kernel // 2
        if reach > self.margin:
            raise ValueError(f"a kernel of {kernel} needs a margin of {reach}, not {self.margin}")
        if (kernel, phase) not in self._near:
            taps = torch.arange(-reach, reach + 1, device=self.rows.device)
            near = (taps[:, None] * self.step + taps).flatten()
            self._near[kernel, phase] = (self.places(phase)[0][:, None] + near).flatten()
        channels = self.rows.shape[1] - first if channels is None else channels
        near, taps = self._near[kernel, phase], kernel * kernel
        return self.rows.narrow(1, first, channels).index_select(0, near).view(len(near) // taps, taps * channels)


def convolve(grid, weight, sums, phase=None, first=0):
    """A same-size convolution as one matrix product.

    Args:
        grid: Grid, of which the channels first .. first + C - 1 are read.
        weight: k,k,C,C'.
        sums: to which the product is added: C' biases, or n,C' sums from other channels.
        phase: ANCHOR or NON_ANCHOR for the positions of one phase, None for all.

    Returns:
        n,C' in reading order.
    """
    kernel, channels = weight.shape[0], weight.shape[2]
    return torch.addmm(sums, grid.columns(kernel, phase, first, channels), weight.flatten(0, 2))


class ExactNetwork:
    """A trained nn.Sequential of ExactConv2d, PixelShuffle, Activation and Output, run exactly.

    Args:
        network: nn.Sequential.

    Raises:
        ValueError: a layer of another kind, or weights that are not finite.
    """

    def __init__(self, network):
        self.layers, self.largest_sum = [], 0.0
        for layer in network:
            if isinstance(layer, ExactConv2d):
                weight, bias = (t.float() for t in layer.rounded())
                self.largest_sum = max(self.largest_sum, largest_sums(weight, bias).max().item())
                self.layers.append((weight.permute(2, 3, 1, 0).contiguous(), bias))  # k,k,C,C'
            elif isinstance(layer, (nn.PixelShuffle, Activation, Output)):
                self.layers.append(layer)
            else:
                raise ValueError(f"{layer} cannot be run exactly")

    @torch.no_grad()
    def __call__(self, x):
        """h,w,C float32, already quantized by quantize() -> h',w',C', multiples of 2^-6."""
        for layer in self.layers:
            if isinstance(layer, nn.PixelShuffle):
                x = layer(x.permute(2, 0, 1)).permute(1, 2, 0)
            elif isinstance(layer, tuple):
                grid = Grid(*x.shape, margin=len(layer[0]) // 2, device=x.device)
                grid.inside.copy_(x)
                x = convolve(grid, *layer).view(grid.height, grid.width, -1)
            else:
                x = layer(x)
        return x


class ExactContexts:
    """Context networks at one phase of the checkerboard: a convolution each, then 1x1 layers.

    All of them see the same features, and each sees more latents than the one before. In their first layers, the
    features are multiplied in one product for all networks.

    Args:
        networks: ExactNetworks without PixelShuffle, convolutions after the first 1x1.
        features: channels that all of them see, the first ones.
        phase: ANCHOR or NON_ANCHOR.

    Raises:
        ValueError: a network of another form. One phase of the checkerboard has no neighbours for a second kernel.
    """

    def __init__(self, networks, features, phase):
        for network in networks:
            first, *others = network.layers
            wider = [layer for layer in others if isinstance(layer, tuple) and layer[0].shape[:2] != (1, 1)]
            if not isinstance(first, tuple) or wider or any(isinstance(layer, nn.PixelShuffle) for layer in others):
                raise ValueError("a context network is one convolution, then 1x1 convolutions and activations alone")
        self.networks, self.features, self.phase = networks, features, phase
        weights, biases = zip(*(network.layers[0] for network in networks))
        self.shared = torch.cat([weight[:, :, :features] for weight in weights], dim=3)
        self.bias = torch.cat(biases)
        self.own = [weight[:, :, features:].contiguous() for weight in weights]

    @torch.no_grad()
    def begin(self, grid):
        """Grid whose features are known -> n,C' for each network, to be given to call()."""
        return convolve(grid, self.shared, self.bias, self.phase).chunk(len(self.networks), dim=1)

    @torch.no_grad()
    def call(self, i, grid, begun):
        """Network number i on a grid with the latents that it may see -> n,C': its phase, in reading order."""
        x = convolve(grid, self.own[i], begun, self.phase, self.features)
        for layer in self.networks[i].layers[1:]:
            x = torch.addmm(layer[1], x, layer[0][0, 0]) if isinstance(layer, tuple) else layer(x)
        return x
