"""Stage one: all parts learn, from rate, distortion and, weighted by realism, perceptual similarity (LPIPS)."""

import torch

from ganlib.model.perceptual_networks import load_lpips
from ganlib.training.cuda_graph import recorded
from ganlib.training.losses import estimated_bits_per_pixel, mean_squared_error, psnr_from_mse, rate_distortion
from ganlib.training.optimizer import Muon
from ganlib.training.run import Run, add_gradients, draw_realism, finite_step, set_learning_rate, split

# Half of the crops at realism 0: most files are decoded at it, and it needs no LPIPS, a fifth of a step's time
REALISM = (0.0, 0.0, None, 1.0)


class RateDistortionRun(Run):
    """Loss of each image: balance * (R + lambda * D) + realism * perceptual_weight * LPIPS.

    The gradient of LPIPS reaches the encoder and the entropy model too: the file must hold what decoding at realism 1
    needs (compare Agustsson et al. 2023).
    """

    STAGE = "rate-distortion"
    COLUMNS = ("loss", "bpp", "psnr", "lpips")  # psnr of the images at realism 0, lpips of those above

    def build(self, model):
        self.tables = None  # the entropy model changes, so its integer tables must be computed again
        model.g_a.recompute = model.entropy.recompute = model.g_s.recompute = self.config.recompute
        optimizer = Muon(model.parameters(), self.config.lr)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.lpips_network = load_lpips().to(self.accelerator.device)

        # On CPUs, LPIPS only of the crops above realism 0; a GPU would have to wait for their number
        self.pick = self.accelerator.device.type != "cuda"
        self.gradients = recorded(self._gradients, self.accelerator.device, self.accelerator.num_processes)

    def update(self, x, quality, factor):
        set_learning_rate(self.optimizer, factor * self.config.lr)
        realism = draw_realism(REALISM, self.step, len(x), x.device)
        return finite_step(self.optimizer, self.accelerator, self.gradients(x, quality, realism))

    def _gradients(self, x, quality, realism):
        return add_gradients(self.optimizer, self.accelerator, self.losses(x, quality, realism), self.config.clip)

    def losses(self, x, quality, realism):
        """Yield (loss, values) for each part of a batch, as add_gradients() asks for them."""
        at_zero, above = (realism == 0).sum(), (realism > 0).sum()  # of the batch; where 0, the mean is nan
        parts = split(self.config.accumulate, x, quality, realism)
        for share, x, quality, realism in parts:
            natural = realism > 0
            distance = torch.zeros_like(realism)
            with self.accelerator.autocast():
                out = self.model(x, quality, realism)
                if not self.pick:
                    distance = natural * self.lpips_network(out["x_hat"], x, normalize=True).float().flatten()
                elif natural.any():
                    pair = out["x_hat"][natural], x[natural]
                    distance[natural] = self.lpips_network(*pair, normalize=True).float().flatten()
            bpp = estimated_bits_per_pixel(out["likelihoods"], pixels=x.shape[2] * x.shape[3])
            mse = mean_squared_error(out["x_hat"], x)
            loss = rate_distortion(bpp, mse, self.bare_model.config.lambda_weight(quality))
            loss = loss + self.config.perceptual_weight * (realism * distance).mean()
            values = {"bpp": share * bpp.mean(), "psnr": (psnr_from_mse(mse) * ~natural).sum() / at_zero}
            yield share * loss, values | {"lpips": distance.sum() / above}
