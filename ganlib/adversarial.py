"""Stage two: the generator learns against a discriminator; encoder and entropy model stand still."""

from contextlib import contextmanager

import torch

from ganlib.discriminator import Discriminator
from ganlib.losses import deception, discriminator_loss, distortion, mean_squared_error, psnr, repetition
from ganlib.perceptual import load_lpips
from ganlib.training import Run, set_rate, soap

# Of the generator's gradient. Each adversary answers the other's last move; with momentum it answers moves of long
# ago, and the two circle: at stage one's 0.95 the discriminator's loss swung between 0.6 and 1.7 every 60 steps.
MOMENTUM = 0.5
FAR_BEHIND = 20  # steps in a row that were not finite, after which the generator goes back to its average


@contextmanager
def frozen(network):
    """Let gradients pass through a network and leave nothing in it: no gradient, no power iteration."""
    training = network.training
    network.requires_grad_(False).eval()
    try:
        yield network
    finally:
        network.requires_grad_(True).train(training)


def update_discriminator(discriminator, optimizer, accelerator, x, x_hat, y_hat, realism, config):
    """One step of the discriminator: photographs up, reconstructions down.

    Args:
        x, x_hat: B,3,H,W in [0, 1]; no gradient leaves through x_hat.
        y_hat: B,C,H/16,W/16 dequantized latents of both.
        realism: B numbers, the weight of each image.

    Returns:
        {"d_loss", "d_real", "d_fake"} as floats, the last two as mean probabilities of being a photograph; None
        where the step was skipped because it was not finite.
    """
    optimizer.zero_grad()
    with accelerator.autocast():
        logits = discriminator(torch.cat([x, x_hat.detach()]), torch.cat([y_hat, y_hat]))
    real, fake = logits.chunk(2)
    loss = discriminator_loss(real, fake, realism)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(discriminator.parameters(), config.clip)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        return None
    optimizer.step()
    deceives = realism / realism.sum().clamp_min(1e-6)
    d_real, d_fake = ((t.sigmoid().mean(dim=(1, 2, 3)) * deceives).sum().item() for t in (real, fake))
    return {"d_loss": loss.item(), "d_real": d_real, "d_fake": d_fake}


def update_generator(
    generator, discriminator, optimizer, accelerator, perceptual, x, x_hat, y_hat, realism, lam, config
):
    """One step of the generator: distortion + realism * (LPIPS - log D(x_hat)), weighted.

    An image at realism 1 is judged by three losses and one at 0 by a single one; divided by 1 + 2 * realism, each
    image has about the same say, and the faithful end is not dragged along by the natural one.

    Args:
        x_hat: B,3,H,W, the generator's own output, with its graph.
        perceptual: module (x_hat, x) -> B,1,1,1, as `load_lpips` gives it.
        lam: B numbers, lambda of each image.
        (the others as in update_discriminator)

    Returns:
        {"loss", "psnr", "lpips", "deception", "repetition"} as floats, or None where the step was skipped.
    """
    optimizer.zero_grad()
    with frozen(accelerator.unwrap_model(discriminator)) as judge, accelerator.autocast():
        unnatural = deception(judge(x_hat, y_hat))
        unlike = perceptual(x_hat, x, normalize=True).float().flatten()
        mse = mean_squared_error(x_hat, x)
        grid = repetition(x_hat, x)
        natural = config.perceptual_weight * unlike + config.adversarial_weight * unnatural
        natural = natural + config.repetition_weight * grid
        loss = ((distortion(mse, lam) + realism * natural) / (1 + 2 * realism)).mean()
        accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(generator.parameters(), config.clip)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return {
        "loss": loss.item(),
        "psnr": psnr(mse).mean().item(),
        "lpips": unlike.mean().item(),
        "deception": unnatural.mean().item(),
        "repetition": grid.mean().item(),
    }


def draw_realism(step, batch, device, low=0.0, high=1.0):
    """Realism of each image of a batch: the lowest, the highest and two in between, in turn.

    The ends are what people will use most, and a uniform draw would never hit them.
    """
    realism = low + (high - low) * torch.rand(batch, device=device)
    turn = (step * batch + torch.arange(batch, device=device)) % 4
    return torch.where(turn == 0, low, torch.where(turn == 1, high, realism))


class Guard:
    """Keeps the discriminator from running away: each time it has won for so many steps, its rate is halved.

    A discriminator that is always right is flat around every reconstruction, and teaches nothing.
    """

    def __init__(self, gap, steps):
        self.gap, self.steps = gap, steps
        self.factor, self.won = 1.0, 0

    def add(self, d_real, d_fake):
        self.won = self.won + 1 if d_real - d_fake > self.gap else 0
        if self.won >= self.steps:
            self.factor, self.won = self.factor / 2, 0

    def state_dict(self):
        return {"factor": self.factor, "won": self.won}

    def load_state_dict(self, state):
        self.factor, self.won = state["factor"], state["won"]


class AdversarialRun(Run):
    """Stage two. Needs weights to begin with; of those, only g_s moves."""

    COLUMNS = ("loss", "psnr", "lpips", "deception", "repetition", "d_loss", "d_real", "d_fake", "d_rate")
    NOTE = "adversarial"

    def build(self, model):
        if self.tables is None:
            raise ValueError("stage two goes on from stage one: name its weights with init (--init light)")
        model.requires_grad_(False).eval()
        model.g_s.requires_grad_(True)
        if self.NOTE not in self.history:
            model.g_s.forget_realism()
        discriminator = Discriminator(model.config.latent_channels).to(memory_format=torch.channels_last)
        judge = torch.optim.Adam(discriminator.parameters(), lr=self.config.discriminator_lr, betas=(0.0, 0.9))
        prepare = self.accelerator.prepare
        self.model, self.optimizer = prepare(model, soap(model.g_s.parameters(), self.config.lr, MOMENTUM))
        self.discriminator, self.discriminator_optimizer = prepare(discriminator, judge)
        self.perceptual = load_lpips().to(self.accelerator.device)
        self.guard = Guard(self.config.guard_gap, self.config.guard_steps)
        self.not_finite = 0

    def extra_state(self):
        return {
            "discriminator": self.accelerator.unwrap_model(self.discriminator),
            "discriminator_optimizer": self.discriminator_optimizer,
            "guard": self.guard,
        }

    def update(self, x, quality, factor):
        set_rate(self.optimizer, factor * self.config.lr)
        # no factor: the adversary stays awake while the generator slows down
        set_rate(self.discriminator_optimizer, self.guard.factor * self.config.discriminator_lr)
        realism = draw_realism(self.step, len(x), x.device, self.config.realism_low, self.config.realism_high)
        bare = self.accelerator.unwrap_model(self.model)
        bare.eval()  # rounding as in the file, not noise
        with self.accelerator.autocast():
            out = self.model(x, quality, realism)
        y_hat = (out["y_hat"] * bare.inverse_gain(quality)).detach()
        x_hat = out["x_hat"]
        judged = update_discriminator(
            self.discriminator, self.discriminator_optimizer, self.accelerator, x, x_hat, y_hat, realism, self.config
        )
        made = update_generator(
            bare.g_s, self.discriminator, self.optimizer, self.accelerator, self.perceptual,
            x, x_hat, y_hat, realism, bare.config.lam(quality), self.config,
        )  # fmt: skip
        if judged is None or made is None:
            self.not_finite += 1
            if self.not_finite >= FAR_BEHIND:  # the average has seen good steps only
                bare.load_state_dict(self.average.module.state_dict())
                self.not_finite = 0
            return None
        self.not_finite = 0
        self.guard.add(judged["d_real"], judged["d_fake"])
        return made | judged | {"d_rate": self.guard.factor}
