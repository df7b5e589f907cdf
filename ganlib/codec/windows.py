"""g_a and g_s window by window: memory then depends on the window, not on the picture.

     ______________________
    |  halo                |    A latent depends on the pixels within `reach` of it, and a pixel on the latents
    |   ________________   |    within `reach` of it. So a window that is computed with a halo of that width, which
    |  |                |  |    is then cut off, holds what the whole picture would have given. Where the picture
    |  |     window     |  |    ends the window ends too: the convolutions' zero padding belongs there, and only
    |  |________________|  |    there.
    |______________________|    The price is (side + 2 halo)^2 / side^2 of the work.

All areas are counted in latents, of 16x16 pixels each.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from ganlib.codec import image_io, mapped_arrays
from ganlib.config import STRIDE, autocast

PATIENCE = 3  # seconds without a progress bar


@dataclass(frozen=True)
class Area:
    """A rectangle of whole numbers: rows top..bottom-1, columns left..right-1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self):
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self):
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def widened(self, margin, limit):
        """With a margin on every side, as far as the area `limit` goes."""
        return Area(
            max(self.top - margin, limit.top),
            max(self.left - margin, limit.left),
            min(self.bottom + margin, limit.bottom),
            min(self.right + margin, limit.right),
        )

    def common(self, other):
        """What both cover; its shape is 0 or less where that is nothing."""
        return self.widened(0, other)

    def seen_from(self, other):
        """The same area, counted from the corner of another."""
        return self.moved(-other.top, -other.left)

    def moved(self, rows, columns):
        return Area(self.top + rows, self.left + columns, self.bottom + rows, self.right + columns)

    def scaled(self, factor):
        return Area(*(factor * n for n in (self.top, self.left, self.bottom, self.right)))

    def cut(self, side):
        """Rows of areas of about equal size, none larger than side x side, that cover this one."""

        def edges(low, high):
            return np.linspace(low, high, -(-(high - low) // side) + 1).round().astype(int).tolist()

        rows, columns = edges(self.top, self.bottom), edges(self.left, self.right)
        return [
            [Area(top, left, bottom, right) for left, right in zip(columns, columns[1:])]
            for top, bottom in zip(rows, rows[1:])
        ]


def reach(network, stride=1):
    """How far away an input can be and still matter, counted from the layers of g_a or g_s.

    A 3x3 convolution reaches one position further, which is `stride` pixels; pooling and pixel shuffles change the
    stride and see no neighbours.

    Args:
        network: module whose convolutions follow one another, as they do in g_a.cnn and g_s.
        stride: pixels that a position of the input covers: 1 for g_a, 16 for g_s.

    Returns:
        pixels.
    """
    pixels = 0.0
    for layer in network.modules():
        if isinstance(layer, nn.PixelUnshuffle):
            stride *= layer.downscale_factor
        elif isinstance(layer, nn.PixelShuffle):
            stride /= layer.upscale_factor
        elif isinstance(layer, nn.MaxPool2d):
            stride *= layer.kernel_size
        elif isinstance(layer, nn.Conv2d):
            pixels += layer.kernel_size[0] // 2 * stride
    return pixels


def halos(model):
    """Latents that a window of g_a and one of g_s needs on each side: (8, 12) for `light`."""
    return tuple(math.ceil(n / STRIDE) for n in (reach(model.g_a.cnn), reach(model.g_s, STRIDE)))


def whole(height, width):
    """The area of all latents of a picture of height x width pixels."""
    return Area(0, 0, -(-height // STRIDE), -(-width // STRIDE))


def eroded(there, halo):
    """h,w bool -> the same, True where all within `halo` is True; beyond the edge counts as True."""
    missing = torch.tensor(~there, dtype=torch.float32)[None, None]
    return (F.max_pool2d(missing, 2 * halo + 1, stride=1, padding=halo)[0, 0] == 0).numpy()


def progress(work, text, unit):
    """A bar over a list, or over a number of things, that goes away at the end and does not come for quick work."""
    things, total = (None, work) if isinstance(work, int) else (work, None)
    return tqdm(things, total=total, desc=text, unit=unit, delay=PATIENCE, leave=False)


class Windows:
    """g_a and g_s of a model, window by window.

    Args:
        model: CompressionModel.
        side: largest side of a window, in latents, without its halo. What is no larger than a window with its halo is
            worked on in one piece.
        device: where the networks run; pixels and latents lie in NumPy arrays, which may be mapped files.
        precision: "no" or "bf16".
    """

    def __init__(self, model, side, device="cpu", precision="no"):
        self.model, self.side, self.device, self.precision = model, side, device, precision

    def _cut(self, wanted, known, halo):
        """Rows of windows; the whole at once where it takes no more memory than one of them with its halo."""
        return [[wanted]] if math.prod(known.shape) <= (self.side + 2 * halo) ** 2 else wanted.cut(self.side)

    @torch.inference_mode()
    def analyse(self, pixels):
        """A picture to latents.

        Args:
            pixels: H,W,3 or H,W uint8.

        Returns:
            y: h,w,C float32, before the gain; in a temporary file where it is large.
        """
        height, width = pixels.shape[:2]
        picture, halo = whole(height, width), halos(self.model)[0]
        y = mapped_arrays.array((*picture.shape, self.model.config.latent_channels), np.float32)
        for window in progress(sum(self._cut(picture, picture, halo), []), "analysing", "window"):
            wide = window.widened(halo, picture)
            near = image_io.as_rgb(pixels[wide.scaled(STRIDE).slices])
            x = torch.tensor(near, device=self.device).permute(2, 0, 1)[None].float().div_(255)  # 1,3,H,W
            # the last latents may cover more than the picture has
            missing = [n * STRIDE - size for n, size in zip(wide.shape, x.shape[2:])]
            if any(missing):  # to pad by nothing would be a copy
                x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
            with autocast(self.device, self.precision):
                features = self.model.g_a(x)[0].permute(1, 2, 0)  # 1,3,16h,16w -> h,w,C
            y[window.slices] = features[window.seen_from(wide).slices].float().cpu().numpy()
            if mapped_arrays.release(y, pixels):
                mapped_arrays.give_back()
        return y

    @torch.inference_mode()
    def synthesize(self, y_hat, known, wanted, quality, realism, channels=3):
        """Latents to pixels, in bands of windows from top to bottom.

        Args:
            y_hat: h,w,C float32 in quantization steps, of the area `known`.
            known: Area of y_hat: `wanted` with the halo of g_s around it, where the picture goes on.
            wanted: Area to compute.
            quality, realism: numbers, 0 to 100 and 0 to 1.
            channels: 3 RGB, or 1: their mean.

        Yields:
            bands of `wanted`, from top to bottom: 16h,16w,3 or 16h,16w uint8. The next one overwrites it.
        """
        halo = halos(self.model)[1]
        quality, realism = (torch.tensor([float(n)], device=self.device) for n in (quality, realism))
        bands = self._cut(wanted, known, halo)
        depth = (3,) if channels == 3 else ()
        tallest = max(band[0].shape[0] for band in bands)
        canvas = mapped_arrays.array((tallest * STRIDE, wanted.shape[1] * STRIDE, *depth), np.uint8)
        with progress(sum(map(len, bands)), "synthesizing", "window") as bar:
            for band in bands:
                for window in band:
                    wide = window.widened(halo, known)
                    near = torch.tensor(y_hat[wide.seen_from(known).slices], device=self.device)
                    near = near.permute(2, 0, 1)[None] * self.model.inverse_gain(quality)  # 1,C,h,w
                    with autocast(self.device, self.precision):
                        x_hat = self.model.g_s(near, quality, realism)[0].permute(1, 2, 0)  # -> 16h,16w,3
                    x_hat = x_hat[window.seen_from(wide).scaled(STRIDE).slices]
                    if channels == 1:
                        x_hat = x_hat.mean(dim=2)
                    place = window.moved(-band[0].top, -wanted.left).scaled(STRIDE).slices
                    canvas[place] = x_hat.clamp(0, 1).mul_(255).round_().byte().cpu().numpy()
                    bar.update()
                    if mapped_arrays.release(y_hat, canvas):
                        mapped_arrays.give_back()
                yield canvas[: band[0].shape[0] * STRIDE]
