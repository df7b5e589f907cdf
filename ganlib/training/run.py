"""A training run between two steps, and the pieces that a step of any stage is made of."""

import dataclasses
import hashlib
import math

import torch
from torch.optim.swa_utils import AveragedModel

from ganlib.version import __version__
from ganlib.weights import model_class, save_weights

WEIGHTS = "weights.safetensors"  # what a run writes into its folder, beside checkpoint.pt


def split(count, *tensors):
    """Cut a batch: B,... tensors -> `count` times (share of the images, this part of each tensor)."""
    for part in zip(*(tensor.chunk(count) for tensor in tensors)):
        yield len(part[0]) / len(tensors[0]), *part


def draw_realism(turns, step, batch, device):
    """Realism of each image of a batch, from a list that the images of a run use in turn.

    People will use the two ends of the scale most, and a uniform draw would never give them.

    Args:
        turns: realism of one image after the other, None for a uniform draw between the lowest and the highest.
        step: number of the step; batch: B.

    Returns:
        B numbers.
    """
    ends = [realism for realism in turns if realism is not None]
    low, high = min(ends), max(ends)
    drawn = low + (high - low) * torch.rand(batch, device=device)
    turn = (step * batch + torch.arange(batch, device=device)) % len(turns)
    fixed = torch.tensor([math.nan if realism is None else realism for realism in turns], device=device)[turn]
    return torch.where(fixed.isnan(), drawn, fixed)


def set_learning_rate(optimizer, lr):
    """Learning rate of the next step: lr, or for a group of weights its "share" of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)


def add_gradients(optimizer, accelerator, losses, clip):
    """Gradients of a sum of losses: zero them, add them up part by part, clip them.

    Args:
        optimizer: of the parameters that learn.
        losses: yields (loss, {name: value}), scalar tensors, for each part of a batch, each computed when
            asked for, so that only one part's graph is in memory at a time.
        clip: largest norm of the gradient.

    Returns:
        {name: sum over the parts}, scalar tensors, with the loss as "loss", and "norm" of the gradient before it was
        clipped. No value is read in Python, so that CUDA can record the function.
    """
    optimizer.zero_grad()
    total = {}
    for loss, values in losses:
        accelerator.backward(loss)
        for name, value in {"loss": loss, **values}.items():
            total[name] = total.get(name, 0.0) + value.detach()
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    return total | {"norm": accelerator.clip_grad_norm_(parameters, clip)}


def finite_step(optimizer, accelerator, values):
    """One step with the gradients that were computed, unless the loss or the gradient is not finite.

    Args:
        values: what add_gradients() returned.

    Returns:
        {name: number}, means over all processes; or None where loss or gradient was not finite. Then no
        process has changed a weight.
    """
    means = accelerator.reduce(torch.stack(list(values.values())), reduction="mean")
    means = dict(zip(values, means.tolist()))  # the only point at which Python waits for a GPU
    if not (math.isfinite(means["loss"]) and math.isfinite(means.pop("norm"))):
        return None
    optimizer.step()
    return means


def optimizer_step(optimizer, accelerator, losses, clip):
    """add_gradients(), then finite_step()."""
    return finite_step(optimizer, accelerator, add_gradients(optimizer, accelerator, losses, clip))


def digest(model):
    """First 8 bytes of SHA-256 over all weights of a model, in hexadecimal."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


class MovingAverage(AveragedModel):
    """Exponential moving average of a model's weights, over a shorter window at the start, when weights move most.

    (AveragedModel's own update reads its count on the GPU, where Python would have to wait for the optimizer.)
    """

    def __init__(self, model, decay):
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model):
        """Take in the weights of `model` after one more step. Frozen ones stay as they are, to the last bit."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        # a mean of -0.0 and -0.0 is 0.0: equal, but the fingerprint of frozen networks would be another
        pairs = [pair for pair in zip(self.module.parameters(), model.parameters()) if pair[1].requires_grad]
        if pairs:
            torch._foreach_lerp_(*map(list, zip(*pairs)), 1 - decay)
        for averaged, current in zip(self.module.buffers(), model.buffers(), strict=True):
            averaged.copy_(current)
        self.n_averaged += 1


class Run:
    """The state of a training run between two steps: everything that a checkpoint must hold. Stages are subclasses.

    Args:
        model_config, train_config: ModelConfig and TrainConfig.
        accelerator: accelerate.Accelerator.
        init: Weights to begin with, of the same model_config, or None for random ones.
        hours: how long to train in all, instead of train_config.steps.
        data: {"images": how many, "folders": their names}, for the record.

    A stage defines STAGE, COLUMNS, build() and update().
    """

    STAGE = ""  # its name in checkpoints and weights
    COLUMNS = ()  # what update() returns and the log shows

    def __init__(self, model_config, train_config, accelerator, init=None, hours=None, data=None):
        torch.manual_seed(train_config.seed)
        model = model_class(model_config.family)(model_config)
        self.tables, self.earlier_stages = None, []
        if init:
            if init.model.config != model_config:
                raise ValueError(
                    f"{init.name} holds another model than preset {model_config.name!r} "
                    f"({_differences(init.model.config, model_config)}): leave out --preset to train the model of "
                    f"{init.name}"
                )
            model.load_state_dict(init.model.state_dict())
            self.tables, self.earlier_stages = init.tables, list(init.stages)
        self.accelerator, self.config, self.hours = accelerator, train_config, hours
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        # Its settings, and the step from which they hold. Two numbers identify the weights that it began with: the
        # fingerprint of those that control decoding, and one over all.
        self.settings = {"hours": hours, "init": init.fingerprint.hex() if init else None}
        self.settings |= {"init_weights": digest(init.model) if init else None}
        self.settings |= {"processes": accelerator.num_processes, **(data or {}), **dataclasses.asdict(train_config)}
        self.configs = [{"from_step": 0, **self.settings}]
        if train_config.compile:
            for part in model.children():  # g_a, entropy model, g_s
                part.compile(dynamic=False, fullgraph=True)
        self.build(model)
        self.average = MovingAverage(self.bare_model, train_config.ema)

    def build(self, model):
        """Choose what learns; set self.model and self.optimizer (prepared by the accelerator), self.lpips_network."""
        raise NotImplementedError

    def update(self, x, quality, factor):
        """One step.

        Args:
            x: B,3,H,W in [0, 1]; quality: B numbers; factor: of the learning rate.

        Returns:
            {column: number, nan where no image of the batch has one}, or None where the step was skipped because it
            was not finite.
        """
        raise NotImplementedError

    @property
    def bare_model(self):
        """The CompressionModel without what the accelerator may have wrapped around it."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def progress(self):
        """How much of the run is done: 0 at the start, 1 at the end."""
        return self.seconds / (3600 * self.hours) if self.hours else self.step / self.config.steps

    def extra_state(self):
        """What a stage adds to the checkpoint: {name: object with state_dict() and load_state_dict()}."""
        return {}

    def state(self):
        """All that the next step depends on, and the run's history: the argument of restore()."""
        state = {
            "model": self.bare_model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"step": self.step, "seconds": self.seconds, "skipped": self.skipped},
            "model_config": dataclasses.asdict(self.bare_model.config),
            "configs": self.configs,
            "stage": self.STAGE,
            "tables": self.tables,
            "earlier_stages": self.earlier_stages,
        }
        return state | {name: part.state_dict() for name, part in self.extra_state().items()}

    def restore(self, state):
        """Continue from a result of state(): the next step is the one that would have followed."""
        self.bare_model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self.extra_state().items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self.skipped = (state["progress"][name] for name in ("step", "seconds", "skipped"))
        self.tables = state.get("tables", self.tables)
        self.earlier_stages = state.get("earlier_stages", self.earlier_stages)

    def description(self):
        """This stage as the weights' metadata record it: a dict that JSON can hold."""
        return {
            "stage": self.STAGE,
            "steps": self.step,
            "seconds": round(self.seconds),
            "skipped": self.skipped,
            "seed": self.config.seed,
            "version": __version__,
            "configs": self.configs,
        }

    def export(self, folder, stages):
        """Write the averaged weights as weights.safetensors, ready for `load_codec`.

        Args:
            folder: Path.
            stages: how they were trained: descriptions, this stage's last.
        """
        save_weights(self.average.module, folder / WEIGHTS, stages, self.tables)


def _differences(found, wanted):
    """Which fields differ between two model configurations, in words."""
    found, wanted = dataclasses.asdict(found), dataclasses.asdict(wanted)
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    return ", ".join(f"{name}={found.get(name)!r}, not {wanted.get(name)!r}" for name in names)
