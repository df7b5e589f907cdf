"""Stage two: the generator learns against a discriminator; encoder and entropy model stand still."""

import math
from contextlib import contextmanager, nullcontext

import torch

from ganlib.model.discriminator import Discriminator
from ganlib.training.losses import deception, discriminator_loss, distortion, mean_squared_error, psnr, repetition
from ganlib.training.optimizer import OutputSideSOAP
from ganlib.model.perceptual_networks import load_lpips
from ganlib.training.loop import Run, set_rate, split, summed

# Of the generator's gradient. Each adversary answers the other's last move; with momentum it answers moves of long
# ago, and the two circle: at stage one's 0.95 the discriminator's loss swung between 0.6 and 1.7 every 60 steps.
MOMENTUM = 0.5
FAR_BEHIND = 20  # steps in a row that were not finite, after which the generator goes back to its average


@contextmanager
def evaluating(network):
    """Evaluation mode for a while: no power iteration."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)


@contextmanager
def frozen(network):
    """Let gradients pass through a network and leave nothing in it: no gradient, no power iteration."""
    network.requires_grad_(False)
    try:
        with evaluating(network):
            yield network
    finally:
        network.requires_grad_(True)


def update_discriminator(discriminator, optimizer, accelerator, x, x_hat, y_hat, realism, config):
    """One step of the discriminator: photographs up, reconstructions down, config.accumulate parts in turn.

    Args:
        x, x_hat: B,3,H,W in [0, 1]; no gradient leaves through x_hat.
        y_hat: B,C,H/16,W/16 dequantized latents of both.
        realism: B numbers, the weight of each image.

    Returns:
        {"d_loss", "d_real", "d_fake"} as floats, the last two as mean probabilities of being a photograph; None
        where the step was skipped because it was not finite.
    """
    optimizer.zero_grad()
    total = realism.sum().clamp_min(1e-6)
    parts, done = split(config.accumulate, x, x_hat.detach(), y_hat, realism), []
    for _, x, x_hat, y_hat, realism in parts:
        # one power iteration a step: all parts are judged by one and the same network
        with evaluating(discriminator) if done else nullcontext(), accelerator.autocast():
            logits = discriminator(torch.cat([x, x_hat]), torch.cat([y_hat, y_hat]))
        real, fake = logits.chunk(2)
        loss = realism.sum() / total * discriminator_loss(real, fake, realism)  # its share, by realism, of the whole
        accelerator.backward(loss)
        deceives = realism / total
        d_real, d_fake = ((t.sigmoid().mean(dim=(1, 2, 3)) * deceives).sum().item() for t in (real, fake))
        done.append({"d_loss": loss.item(), "d_real": d_real, "d_fake": d_fake})
    values = summed(done)
    norm = accelerator.clip_grad_norm_(discriminator.parameters(), config.clip)
    if not (math.isfinite(values["d_loss"]) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return values


def update_generator(generator, discriminator, optimizer, accelerator, perceptual, parts, config):
    """One step of the generator: distortion + realism * (LPIPS - log D(x_hat)), weighted.

    An image at realism 1 is judged by three losses and one at 0 by a single one; divided by 1 + 4 * realism, the
    natural end has no more say than the faithful one, and does not drag it along.

    Args:
        perceptual: module (x_hat, x) -> B,1,1,1, as `load_lpips` gives it.
        parts: of a batch, taken in turn: (share of its images, x, x_hat, y_hat, realism, lam) each. x_hat is the
            generator's own output, with its graph; lam are B numbers, lambda of each image.
        (the others as in update_discriminator)

    Returns:
        {"loss", "psnr", "lpips", "deception", "repetition"} as floats, or None where the step was skipped.
    """
    optimizer.zero_grad()
    done = []
    for share, x, x_hat, y_hat, realism, lam in parts:
        with frozen(accelerator.unwrap_model(discriminator)) as judge, accelerator.autocast():
            unnatural = deception(judge(x_hat, y_hat))
            unlike = perceptual(x_hat, x, normalize=True).float().flatten()
            mse = mean_squared_error(x_hat, x)
            grid = repetition(x_hat, x)
            natural = config.perceptual_weight * unlike + config.adversarial_weight * unnatural
            natural = natural + config.repetition_weight * grid
            loss = share * ((distortion(mse, lam) + realism * natural) / (1 + 4 * realism)).mean()
            accelerator.backward(loss)
        means = {"psnr": psnr(mse), "lpips": unlike, "deception": unnatural, "repetition": grid}
        done.append({"loss": loss.item()} | {name: share * t.mean().item() for name, t in means.items()})
    values = summed(done)
    norm = accelerator.clip_grad_norm_(generator.parameters(), config.clip)
    if not (math.isfinite(values["loss"]) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return values


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
        model.g_s.recompute = self.config.recompute  # nothing is kept in the others, which stand still
        if self.NOTE not in self.history:
            model.g_s.forget_realism()
        discriminator = Discriminator(model.config.latent_channels).to(memory_format=torch.channels_last)
        judge = torch.optim.Adam(discriminator.parameters(), lr=self.config.discriminator_lr, betas=(0.0, 0.9))
        prepare = self.accelerator.prepare
        self.model, self.optimizer = prepare(model, OutputSideSOAP(model.g_s.parameters(), self.config.lr, betas=(MOMENTUM, 0.95)))
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

    def rebuild(self, x, quality, realism):
        """The parts of a batch as update_generator asks for them, each made when its turn comes."""
        bare = self.accelerator.unwrap_model(self.model)
        parts = split(self.config.accumulate, x, quality, realism)
        for share, x, quality, realism in parts:
            with self.accelerator.autocast():
                out = self.model(x, quality, realism)
            y_hat = (out["y_hat"] * bare.inverse_gain(quality)).detach()
            yield share, x, out["x_hat"], y_hat, realism, bare.config.lam(quality)

    def update(self, x, quality, factor):
        set_rate(self.optimizer, factor * self.config.lr)
        # no factor: the adversary stays awake while the generator slows down
        set_rate(self.discriminator_optimizer, self.guard.factor * self.config.discriminator_lr)
        realism = draw_realism(self.step, len(x), x.device, self.config.realism_low, self.config.realism_high)
        bare = self.accelerator.unwrap_model(self.model)
        bare.eval()  # rounding as in the file, not noise
        bare.g_s.train()  # all the same to it, but for TrainConfig.recompute
        whole = self.config.accumulate == 1
        with torch.set_grad_enabled(whole):  # a graph for the whole batch is what its parts are there to avoid
            parts = list(self.rebuild(x, quality, realism))
        x_hat, y_hat = (torch.cat([part[i] for part in parts]) for i in (2, 3))
        judged = update_discriminator(
            self.discriminator, self.discriminator_optimizer, self.accelerator, x, x_hat, y_hat, realism, self.config
        )
        parts = parts if whole else self.rebuild(x, quality, realism)
        made = update_generator(
            bare.g_s, self.discriminator, self.optimizer, self.accelerator, self.perceptual, parts, self.config
        )
        if judged is None or made is None:
            self.not_finite += 1
            if self.not_finite >= FAR_BEHIND:  # the average has seen good steps only
                bare.load_state_dict(self.average.module.state_dict())
                self.not_finite = 0
            return None
        self.not_finite = 0
        self.guard.add(judged["d_real"], judged["d_fake"])
        return made | judged | {"d_rate": self.guard.factor}
