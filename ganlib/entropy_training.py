"""A stage between the two: the entropy model alone, on latents that stand still.

    x --g_a (frozen)--> y --> [h_a, h_s, contexts: learn] --> bits

Not a pixel changes but by how y is rounded: what the entropy model foretells better is saved, whatever the generator.
"""

import math

import torch

from ganlib.losses import balance, bits_per_pixel
from ganlib.training import Run, set_rate, soap, split, summed


def update_entropy(model, optimizer, accelerator, x, quality, config):
    """One step of the entropy model on the rate alone. (Arguments and result as in training.update_model.)

    Returns:
        {"loss", "bpp", "error"} as floats, error the mean square of y_hat - y in quantization steps (1/12 where every
        latent is rounded to the nearest step); None where the step was skipped because it was not finite.
    """
    bare = accelerator.unwrap_model(model)
    optimizer.zero_grad()
    parts, done = split(config.accumulate, x, quality), []
    for share, x, quality in parts:
        with torch.no_grad(), accelerator.autocast():
            y = bare.g_a(x) * bare.gain(quality)
        y_hat, likelihoods = bare.entropy(y.float(), quality)
        bpp = bits_per_pixel(likelihoods, pixels=x.shape[2] * x.shape[3])
        loss = share * (balance(bare.config.lam(quality)) * bpp).mean()
        accelerator.backward(loss)
        error = (y_hat.detach() - y).square().mean()
        done.append({"loss": loss.item(), "bpp": share * bpp.mean().item(), "error": share * error.item()})
    values = summed(done)
    norm = accelerator.clip_grad_norm_(bare.entropy.parameters(), config.clip)
    if not (math.isfinite(values["loss"]) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return values


class EntropyRun(Run):
    """Needs weights to begin with; of those, only the entropy model moves."""

    COLUMNS = ("loss", "bpp", "error")
    NOTE = "entropy"

    def build(self, model):
        if self.tables is None:
            raise ValueError("this stage goes on from trained weights: name them with init (--init light)")
        self.tables = None  # made anew from what this stage learns
        model.requires_grad_(False)
        model.entropy.requires_grad_(True)
        optimizer = soap(model.entropy.parameters(), self.config.lr)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def update(self, x, quality, factor):
        set_rate(self.optimizer, factor * self.config.lr)
        return update_entropy(self.model, self.optimizer, self.accelerator, x, quality, self.config)
