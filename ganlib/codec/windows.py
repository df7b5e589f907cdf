"""g_a and g_s window by window: memory then depends on the window, not on the picture.

     ______________________
    |  halo                |    A latent depends on the pixels within `reach` of it, and a pixel on the latents
    |   ________________   |    within `reach` of it. So a window that is computed with a halo of that width, which
    |  |                |  |    is then cut off, holds what the whole picture would have given. Where the picture
    |  |     window     |  |    ends the window ends too: the convolutions' zero padding belongs there, and only
    |  |________________|  |    there.
    |______________________|    This costs (side + 2 halo)^2 / side^2 times the work.

All areas are counted in latents, of 16x16 pixels each.
"""

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ganlib.codec import image_io, mapped_arrays
from ganlib.codec.geometry import Area
from ganlib.codec.pixel_tensors import to_pixels, to_tensor
from ganlib.codec.receptive_field import halos
from ganlib.config import STRIDE, autocast

PATIENCE = 3  # seconds before a progress bar appears


def conditioning(number, device):
    """A quality of 0 to 100, or a realism of 0 to 1, as input of the networks: a batch of one."""
    return torch.tensor([float(number)], dtype=torch.float32, device=device)


def eroded(decoded, halo):
    """h,w bool -> h,w bool: True where all positions within `halo` are True; those beyond the edge count as True."""
    missing = torch.tensor(~decoded, dtype=torch.float32, device="cpu")[None, None]
    return (F.max_pool2d(missing, 2 * halo + 1, stride=1, padding=halo)[0, 0] == 0).numpy()


def progress(work, text, unit):
    """A progress bar over a list, or over a number of steps. Only slow work shows it; it vanishes at the end."""
    things, total = (None, work) if isinstance(work, int) else (work, None)
    return tqdm(things, total=total, desc=text, unit=unit, delay=PATIENCE, leave=False)


class Windows:
    """g_a and g_s of a model, window by window.

    Args:
        model: CompressionModel.
        side: largest side of a window, in latents, without its halo. An area no larger than a window with its halo
            is computed in one piece.
        device: where the networks run; pixels and latents lie in NumPy arrays, which may be mapped files.
        precision: "no" or "bf16".
    """

    def __init__(self, model, side, device="cpu", precision="no"):
        self.model, self.side, self.device, self.precision = model, side, device, precision

    def _cut(self, wanted, known, halo):
        """Rows of windows; only one window where `known` is no larger than a window with its halo."""
        return [[wanted]] if known.size <= (self.side + 2 * halo) ** 2 else wanted.cut(self.side)

    @torch.inference_mode()
    def analyse(self, pixels):
        """A picture to latents.

        Args:
            pixels: H,W,3 or H,W uint8.

        Returns:
            y: h,w,C float32, before the gain; in a temporary file where it is large.
        """
        picture, halo = Area.of_picture(*pixels.shape[:2]), halos(self.model)[0]
        y = mapped_arrays.array((*picture.shape, self.model.channels), np.float32)
        for window in progress(sum(self._cut(picture, picture, halo), []), "analysing", "window"):
            wide = window.widened(halo, picture, self.model.grid)
            near = image_io.as_rgb(pixels[wide.scaled(STRIDE).slices])
            x = to_tensor(near, self.device)  # 1,3,H,W
            # the last latents may reach beyond the picture
            missing = [n * STRIDE - size for n, size in zip(wide.shape, x.shape[2:])]
            if any(missing):  # F.pad() copies even where nothing is missing
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
            known: Area of y_hat: `wanted` with the halo of g_s around it, cut off at the picture's edge.
            wanted: Area to compute.
            quality: in hundredths, 0 to 10000; realism: 0 to 1.
            channels: 3 for RGB, or 1 for the mean of RGB.

        Yields:
            bands of `wanted`, from top to bottom: 16h,16w,3 or 16h,16w uint8. Each is overwritten by the next.
        """
        halo = halos(self.model)[1]
        quality, realism = conditioning(quality / 100, self.device), conditioning(realism, self.device)
        bands = self._cut(wanted, known, halo)
        depth = (3,) if channels == 3 else ()
        tallest = max(band[0].shape[0] for band in bands)
        canvas = mapped_arrays.array((tallest * STRIDE, wanted.shape[1] * STRIDE, *depth), np.uint8)
        with progress(sum(map(len, bands)), "synthesizing", "window") as bar:
            for band in bands:
                for window in band:
                    wide = window.widened(halo, known, self.model.grid)
                    near = torch.tensor(y_hat[wide.seen_from(known).slices], device=self.device)
                    near = near.permute(2, 0, 1)[None] * self.model.inverse_gain(quality)  # 1,C,h,w
                    with autocast(self.device, self.precision):
                        x_hat = self.model.g_s(near, quality, realism)[0].permute(1, 2, 0)  # -> 16h,16w,3
                    x_hat = x_hat[window.seen_from(wide).scaled(STRIDE).slices]
                    if channels == 1:
                        x_hat = x_hat.mean(dim=2)
                    place = window.moved(-band[0].top, -wanted.left).scaled(STRIDE).slices
                    canvas[place] = to_pixels(x_hat)
                    bar.update()
                    if mapped_arrays.release(y_hat, canvas):
                        mapped_arrays.give_back()
                yield canvas[: band[0].shape[0] * STRIDE]
