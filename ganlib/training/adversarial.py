"""Stage two: the generator learns against a discriminator; encoder and entropy model are frozen."""

from contextlib import contextmanager, nullcontext

import torch

from ganlib.model.discriminator import Discriminator
from ganlib.model.perceptual_networks import load_lpips
from ganlib.training.cuda_graph import recorded
from ganlib.training.losses import (
    discriminator_loss,
    distortion,
    grid_artifact_penalty,
    mean_squared_error,
    non_saturating_loss,
    psnr_from_mse,
)
from ganlib.training.optimizer import Muon
from ganlib.training.run import (
    Run,
    add_gradients,
    draw_realism,
    finite_step,
    optimizer_step,
    set_learning_rate,
    split,
)
from ganlib.weights import save_discriminator

# Of the generator's gradient. Each network adapts to the other's last step. With a high momentum it still adapts to
# much earlier steps, and the two losses oscillate.
MOMENTUM = 0.5


@contextmanager
def evaluation_mode(network):
    """Evaluation mode for a while: no power iteration of the spectral norms."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


@contextmanager
def frozen(network):
    """Let gradients pass through a network without changing it: no gradient stored, no power iteration."""
    network.requires_grad_(False)
    try:
        with evaluation_mode(network):
            yield network
    finally:
        network.requires_grad_(True)


def _joined(parts):
    """x_hat of a whole batch, from what AdversarialRun.reconstruct() yields."""
    return torch.cat([part[2] for part in parts])


class AdversarialRun(Run):
    """Stage two. It needs weights to begin with, and changes only their g_s.

        x --g_a, entropy model (frozen)--> y_hat --g_s--> x_hat --> Discriminator(x_hat, y_hat)
        |__________________________________________________________> Discriminator(x, y_hat)

    Each step updates the discriminator once, then the generator once.

    Args:
        discriminator: Discriminator to begin with; None for random weights.
        (the others as of Run)
    """

    STAGE = "adversarial"
    COLUMNS = ("loss", "psnr", "lpips", "adversarial", "grid_artifact", "d_loss", "d_real", "d_fake")

    def __init__(self, *args, discriminator=None, **more):
        self.discriminator = discriminator
        super().__init__(*args, **more)

    def build(self, model):
        if self.tables is None:
            raise ValueError("stage two continues stage one: name its weights with init (--init light)")
        model.requires_grad_(False).eval()
        model.g_s.requires_grad_(True)
        model.g_s.recompute = self.config.recompute  # the other parts are frozen and keep no activations
        discriminator = self.discriminator or Discriminator(model.config.latent_channels)
        if discriminator.latent_channels != model.config.latent_channels:
            raise ValueError(
                f"the discriminator is of a model with {discriminator.latent_channels} latent channels, and this one "
                f"has {model.config.latent_channels}"
            )
        adam = torch.optim.Adam(discriminator.parameters(), lr=self.config.discriminator_lr, betas=(0.0, 0.9))
        muon = Muon(model.g_s.parameters(), self.config.lr, betas=(MOMENTUM, 0.95))
        self.model, self.optimizer = self.accelerator.prepare(model, muon)
        self.discriminator, self.discriminator_optimizer = self.accelerator.prepare(discriminator, adam)
        self.lpips_network = load_lpips().to(self.accelerator.device)
        where = self.accelerator.device, self.accelerator.num_processes
        self.latents = recorded(self._latents, *where)
        self.discriminator_gradients = recorded(self._discriminator_gradients, *where)
        self.generator_gradients = recorded(self._generator_gradients, *where)

    def extra_state(self):
        return {
            "discriminator": self.accelerator.unwrap_model(self.discriminator),
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def export(self, folder, stages):
        """The discriminator is written beside the weights, as discriminator.safetensors."""
        super().export(folder, stages)
        discriminator = self.accelerator.unwrap_model(self.discriminator)
        save_discriminator(discriminator, folder / "discriminator.safetensors", stages)

    def update(self, x, quality, factor):
        set_learning_rate(self.optimizer, factor * self.config.lr)
        # without the factor: the discriminator keeps its rate while the generator's decays
        set_learning_rate(self.discriminator_optimizer, self.config.discriminator_lr)
        low, high = self.config.realism_low, self.config.realism_high
        turns = (low, high, low, None)  # half of the crops at the faithful end, never both of a pair
        realism = draw_realism(turns, self.step, len(x), x.device)
        self.bare_model.eval()  # rounding as in the file, not noise
        self.bare_model.g_s.train()  # needed for TrainConfig.recompute only
        y_hat = self.latents(x, quality)
        batch = x, y_hat, quality, realism
        if self.accelerator.device.type == "cuda" or self.config.accumulate > 1:
            gradients = self.discriminator_gradients(*batch)
            d_values = finite_step(self.discriminator_optimizer, self.accelerator, gradients)
            gradients = self.generator_gradients(*batch)
            g_values = finite_step(self.optimizer, self.accelerator, gradients)
        else:  # nothing is recorded or split: one reconstruction serves both networks
            parts = list(self.reconstruct(*batch))
            losses = self.discriminator_losses(x, _joined(parts), y_hat, realism)
            d_values = optimizer_step(self.discriminator_optimizer, self.accelerator, losses, self.config.clip)
            losses = self.generator_losses(parts)
            g_values = optimizer_step(self.optimizer, self.accelerator, losses, self.config.clip)
        if d_values is None or g_values is None:
            return None
        return g_values | {"d_loss": d_values["loss"], "d_real": d_values["d_real"], "d_fake": d_values["d_fake"]}

    @torch.no_grad()
    def _latents(self, x, quality):
        """y_hat of a batch, the input of generator and discriminator. Encoder and entropy model are frozen."""
        parts = split(self.config.accumulate, x, quality)
        with self.accelerator.autocast():
            return torch.cat([self.bare_model.latents(x, quality)[1] for _, x, quality in parts])

    def _discriminator_gradients(self, x, y_hat, quality, realism):
        with torch.no_grad():
            x_hat = _joined(self.reconstruct(x, y_hat, quality, realism))
        losses = self.discriminator_losses(x, x_hat, y_hat, realism)
        return add_gradients(self.discriminator_optimizer, self.accelerator, losses, self.config.clip)

    def _generator_gradients(self, x, y_hat, quality, realism):
        losses = self.generator_losses(self.reconstruct(x, y_hat, quality, realism))
        return add_gradients(self.optimizer, self.accelerator, losses, self.config.clip)

    def reconstruct(self, x, y_hat, quality, realism):
        """Yield the parts of a batch, each computed when asked for: share, x, x_hat, y_hat, realism, lambda."""
        parts = split(self.config.accumulate, x, y_hat, quality, realism)
        for share, x, y_hat, quality, realism in parts:
            with self.accelerator.autocast():
                x_hat = self.model(x, quality, realism, y_hat)["x_hat"]
            yield share, x, x_hat, y_hat, realism, self.bare_model.config.lambda_weight(quality)

    def discriminator_losses(self, x, x_hat, y_hat, realism):
        """Losses that raise D of photographs and lower D of reconstructions, each image weighted by its realism.

        Args:
            x, x_hat: B,3,H,W in [0, 1]; no gradient goes back through x_hat.
            y_hat: B,C,H/16,W/16 dequantized latents of both.
            realism: B numbers.

        Yields:
            (loss, {"d_real", "d_fake"}) for each part, the latter as mean probabilities of being a photograph.
        """
        total, first = realism.sum().clamp_min(1e-6), True
        parts = split(self.config.accumulate, x, x_hat.detach(), y_hat, realism)
        for _, x, x_hat, y_hat, realism in parts:
            # one power iteration per step, so that the same network judges all parts
            once = nullcontext() if first else evaluation_mode(self.discriminator)
            first = False
            with once, self.accelerator.autocast():
                logits = self.discriminator(torch.cat([x, x_hat]), torch.cat([y_hat, y_hat]))
            real, fake = logits.chunk(2)
            share = realism.sum() / total  # by realism, of the whole batch
            means = [(t.sigmoid().mean(dim=(1, 2, 3)) * realism / total).sum() for t in (real, fake)]
            yield share * discriminator_loss(real, fake, realism), dict(zip(("d_real", "d_fake"), means))

    def generator_losses(self, parts):
        """Distortion + realism * (LPIPS - log D(x_hat) + grid penalty), weighted.

        An image at realism 1 has four losses, an image at 0 only one. They are divided by 1 + 4 * realism, so that
        both have about the same weight, and images at realism 1 do not lower the PSNR of images at 0.

        Args:
            parts: as reconstruct() yields them, with the graph of x_hat.

        Yields:
            (loss, {"psnr", "lpips", "adversarial", "grid_artifact"}) for each part.
        """
        config = self.config
        for share, x, x_hat, y_hat, realism, lambda_weight in parts:
            discriminator = self.accelerator.unwrap_model(self.discriminator)
            with frozen(discriminator), self.accelerator.autocast():
                adversarial = non_saturating_loss(discriminator(x_hat, y_hat))
                distance = self.lpips_network(x_hat, x, normalize=True).float().flatten()
                mse = mean_squared_error(x_hat, x)
                grid = grid_artifact_penalty(x_hat, x)
                natural = config.perceptual_weight * distance + config.adversarial_weight * adversarial
                natural = natural + config.grid_artifact_weight * grid
                each = (distortion(mse, lambda_weight) + realism * natural) / (1 + 4 * realism)
                means = {"psnr": psnr_from_mse(mse), "lpips": distance, "adversarial": adversarial}
                means["grid_artifact"] = grid
                # the backward pass runs before the loop continues: the discriminator is still frozen then
                yield share * each.mean(), {name: share * value.mean() for name, value in means.items()}
