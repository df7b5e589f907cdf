"""How the cited models learn: the same loop, data and optimizer for all, and each family's own loss.

All that this package needs of ganlib.training is imported here.
"""

from collections import defaultdict

import torch
import torch.nn.functional as F

from ganlib.config import HYPER_STRIDE, QUALITY_MAX
from ganlib.model.perceptual_networks import load_lpips
from ganlib.training.losses import (
    balance,
    distortion,
    estimated_bits_per_pixel,
    mean_squared_error,
    psnr_from_mse,
    rate_distortion,
)
from ganlib.training.optimizer import Muon
from ganlib.training.run import Run, optimizer_step, set_learning_rate, split

SPREAD = 50.0  # how far a region's quality may be from that of its crop


def groups(model):
    """Weights by their share of the learning rate: that of the innermost module around them that has one, else 1.

    Returns:
        list of {"params": [...], "share": number}, as an optimizer takes them.
    """
    shares = dict.fromkeys(model.parameters(), 1.0)
    for module in model.modules():  # outer ones first
        if hasattr(module, "learning_share"):
            shares |= dict.fromkeys(module.parameters(), module.learning_share)
    by_share = defaultdict(list)
    for weight, share in shares.items():
        by_share[share].append(weight)
    return [{"params": weights, "share": share} for share, weights in by_share.items()]


def prepare(run, model):
    """Set a run's model and optimizer. ValueError for an option that only our own models have."""
    if run.config.recompute:
        raise ValueError("the cited models do not support recompute=True: use accumulate to train in less memory")
    optimizer = Muon(groups(model), run.config.lr)
    run.model, run.optimizer = run.accelerator.prepare(model, optimizer)


class TransformRun(Run):
    """xie, zou, and `mini`: balance * (R + lambda * D) as in stage one of our model, without a perceptual loss."""

    STAGE = "rate-distortion"
    COLUMNS = ("loss", "bpp", "psnr")

    def build(self, model):
        self.tables = None  # the entropy model changes, so its integer tables must be computed again
        prepare(self, model)
        self.lpips_network = load_lpips().to(self.accelerator.device)  # validation uses it

    def update(self, x, quality, factor):
        set_learning_rate(self.optimizer, factor * self.config.lr)
        return optimizer_step(self.optimizer, self.accelerator, self.losses(x, quality), self.config.clip)

    def losses(self, x, quality):
        """Yield (loss, values) for each part of a batch, as optimizer_step() asks for them."""
        parts = split(self.config.accumulate, x, quality)
        for share, x, quality in parts:
            with self.accelerator.autocast():
                out = self.model(x, quality, torch.zeros_like(quality))
            bpp = estimated_bits_per_pixel(out["likelihoods"], pixels=x.shape[2] * x.shape[3])
            mse = mean_squared_error(out["x_hat"], x)
            loss = rate_distortion(bpp, mse, self.bare_model.config.lambda_weight(quality))
            yield share * loss, {"bpp": share * bpp.mean(), "psnr": share * psnr_from_mse(mse).mean()}


def draw_maps(quality, height, width):
    """Quality of each region of a crop: for every second crop the same everywhere, for the others within +-SPREAD.

    Args:
        quality: B numbers.

    Returns:
        B,1,height,width, each 0 to 100.
    """
    spread = SPREAD * (2 * torch.rand(len(quality), 1, height, width, device=quality.device) - 1)
    spread[::2] = 0
    return (quality.view(-1, 1, 1, 1) + spread).clamp(0, QUALITY_MAX)


class MapRun(TransformRun):
    """song: R + mean of lambda_i * D_i over the regions, with a map for each crop.

    A crop is balanced by the geometric mean of its lambdas, where our model uses its one lambda.
    """

    def losses(self, x, quality):
        maps = draw_maps(quality, *(n // HYPER_STRIDE for n in x.shape[2:]))
        parts = split(self.config.accumulate, x, maps)
        for share, x, quality_map in parts:
            with self.accelerator.autocast():
                out = self.model(x, quality_map)
            bpp = estimated_bits_per_pixel(out["likelihoods"], pixels=x.shape[2] * x.shape[3])
            errors = F.avg_pool2d((out["x_hat"] - x).square().mean(dim=1, keepdim=True), HYPER_STRIDE)
            lambdas = self.bare_model.config.lambda_weight(quality_map)
            middle = lambdas.log().mean(dim=(1, 2, 3)).exp()
            # distortion() uses one lambda for each picture; here every region has its own
            weighted = (errors * lambdas).mean(dim=(1, 2, 3)) / middle
            loss = (balance(middle) * bpp + distortion(weighted, middle)).mean()
            psnr = psnr_from_mse(errors.mean(dim=(1, 2, 3))).mean()
            yield share * loss, {"bpp": share * bpp.mean(), "psnr": share * psnr}


class RecurrentRun(Run):
    """toderici, islam: the mean of |x - x_hat| after each pass. Quality is not used."""

    STAGE = "residual"
    COLUMNS = ("loss", "psnr_first", "psnr_last")  # after the first and after the last pass

    def build(self, model):
        prepare(self, model)

    def update(self, x, quality, factor):
        set_learning_rate(self.optimizer, factor * self.config.lr)
        return optimizer_step(self.optimizer, self.accelerator, self.losses(x), self.config.clip)

    def losses(self, x):
        """Yield (loss, values) for each part of a batch, as optimizer_step() asks for them."""
        parts = split(self.config.accumulate, x)
        for share, x in parts:
            with self.accelerator.autocast():
                passes = self.model(x)
            loss = sum((x_hat - x).abs().mean() for x_hat in passes) / len(passes)
            first, last = (psnr_from_mse(mean_squared_error(x_hat, x)).mean() for x_hat in (passes[0], passes[-1]))
            yield share * loss, {"psnr_first": share * first, "psnr_last": share * last}
