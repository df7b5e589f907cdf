"""How good the averaged weights are on photographs that are not trained on, measured at every checkpoint."""

import torch

from ganlib.codec import image_io
from ganlib.codec.pixel_tensors import to_tensor
from ganlib.datasets.crops import mirrored
from ganlib.datasets.sources import image_files
from ganlib.training.losses import (
    balance,
    distortion,
    estimated_bits_per_pixel,
    mean_squared_error,
    psnr_from_mse,
)

SIDE = 192  # of the centre crops, in pixels, a multiple of 64
QUALITIES = (10.0, 50.0, 90.0)


class Validation:
    """Centre crops of the photographs of a folder, in evaluation mode: rounding as in a file, and no noise.

        x --g_a--> y --gain(q)--> entropy model --> bpp
                                        |--g_s, realism 0--> PSNR, R + lambda * D
                                        '--g_s, realism 1--> LPIPS

    Args:
        folder: searched for images, sub-folders included.

    Raises:
        NoImagesError: there is none.
        ImageError: one cannot be read.
    """

    COLUMNS = ("step", "seconds", "quality", "bpp", "psnr", "lpips", "loss")

    def __init__(self, folder):
        self.crops = [self._centre(image_io.load(path, convert=True).pixels) for path in image_files(folder)]

    @staticmethod
    def _centre(pixels):
        """H,W,3 or H,W uint8 -> SIDE,SIDE,3, mirrored outwards where it is smaller."""
        pixels = mirrored(image_io.as_rgb(pixels), SIDE)
        top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
        return pixels[top : top + SIDE, left : left + SIDE].copy()

    @torch.no_grad()
    def measure(self, run):
        """Means over the photographs, with the averaged weights of a Run.

        Returns:
            A row, {column: number}, for each of QUALITIES: bpp as the likelihoods estimate it, psnr in dB, loss as
            balanced R + lambda * D.
        """
        model, device = run.average.module.eval(), run.accelerator.device
        quality = torch.tensor(QUALITIES, device=device)
        lambda_weight = model.config.lambda_weight(quality)
        faithful, natural, sums = torch.zeros_like(quality), torch.ones_like(quality), 0
        for crop in self.crops:
            x = to_tensor(crop, device).expand(len(QUALITIES), -1, -1, -1)
            with run.accelerator.autocast():
                out = model(x, quality, faithful)
                again = model.g_s(out["y_hat"] * model.inverse_gain(quality), quality, natural)
                x_hat, natural_x_hat = (t.clamp(0, 1).mul(255).round().div(255) for t in (out["x_hat"], again))
                lpips = run.lpips_network(natural_x_hat, x, normalize=True).float().flatten()
            bpp = estimated_bits_per_pixel(out["likelihoods"], pixels=SIDE**2)
            mse = mean_squared_error(x_hat, x)
            loss = balance(lambda_weight) * bpp + distortion(mse, lambda_weight)
            sums = sums + torch.stack([quality, bpp, psnr_from_mse(mse), lpips, loss])
        means = (sums / len(self.crops)).T.tolist()  # a row for each quality
        about = {"step": run.step, "seconds": round(run.seconds, 1)}
        return [about | {name: round(v, 5) for name, v in zip(self.COLUMNS[2:], row)} for row in means]
