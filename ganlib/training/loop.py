"""The training loop: what every stage shares. A stage says only which parts learn, and its losses."""

import csv
import dataclasses
import json
import logging
import math
import pickle
import time
from pathlib import Path

import accelerate
import filelock
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ganlib.atomic_write import atomic_write
from ganlib.config import chosen_precision
from ganlib.datasets.crops import Crops
from ganlib.model.compression_model import CompressionModel
from ganlib.weights import load_weights, save_weights

log = logging.getLogger(__name__)

# Fields of a TrainConfig that may differ when a run goes on: they leave the gradient of a step what it is.
FREE = {"steps", "precision", "accumulate", "recompute", "checkpoint_minutes", "log_every"}


def learning_rate_factor(step, progress, config):
    """1 after a linear warm-up, then down to 0 over the last part of the run: warm-up, stable, decay.

    The long flat part has no end built in, so that a run can be prolonged from its checkpoint.

    Args:
        step: number of the step, from 0; progress: 0 to 1, how much of the run is done.
    """
    warmup = (step + 1) / config.warmup if config.warmup else 1.0
    decay = (1.0 - progress) / config.decay if config.decay else 1.0
    return min(1.0, warmup, decay)


def split(count, *tensors):
    """Cut a batch: B,... tensors -> `count` times (share of the images, this part of each tensor)."""
    for part in zip(*(tensor.chunk(count) for tensor in tensors)):
        yield len(part[0]) / len(tensors[0]), *part


def set_learning_rate(optimizer, lr):
    """Learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_step(optimizer, accelerator, losses, clip):
    """One step on a sum of losses: zero the gradients, add them up part by part, clip them, move.

    Args:
        optimizer: of the parameters that learn.
        losses: yields (loss, {name: number}) for each part of a batch, and makes each when it is asked for, so that
            one part's graph is in memory at a time.
        clip: largest norm of the gradient.

    Returns:
        {name: sum over the parts}, with the loss as "loss"; or None where loss or gradient was not finite. Then
        nothing has moved.
    """
    optimizer.zero_grad()
    total = {"loss": 0.0}
    for loss, values in losses:
        accelerator.backward(loss)
        for name, value in {"loss": loss.item(), **values}.items():
            total[name] = total.get(name, 0.0) + float(value)
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = accelerator.clip_grad_norm_(parameters, clip)
    if not (math.isfinite(total["loss"]) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return total


def accelerator_for(config):
    """Accelerator of a run with this TrainConfig."""
    precision = chosen_precision(config.precision)  # of g_a and g_s; the entropy model switches it off for itself
    try:
        return accelerate.Accelerator(mixed_precision=precision)
    except ValueError:  # its state is one for the whole process, and holds the precision of an earlier run
        accelerate.state.AcceleratorState._reset_state()
        return accelerate.Accelerator(mixed_precision=precision)


def averaging(decay):
    """Exponential moving average for AveragedModel, over a shorter window at the start, when weights move most."""

    def update(averaged, current, count):
        return get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averaged, current, count)

    return update


class Run:
    """What a training run is between two steps: everything that a checkpoint must hold. Stages derive from it.

    Args:
        model_config, train_config: ModelConfig and TrainConfig.
        accelerator: accelerate.Accelerator.
        init: Weights to begin with, of the same model_config, or None for chance.

    A stage defines STAGE, COLUMNS, build() and update().
    """

    STAGE = ""  # its name in checkpoints and weights
    COLUMNS = ()  # what update() returns and the log shows

    def __init__(self, model_config, train_config, accelerator, init=None):
        torch.manual_seed(train_config.seed)
        model = CompressionModel(model_config)
        self.tables, self.earlier_stages = None, ()
        if init:
            if init.model.config != model_config:
                raise ValueError(
                    f"{init.name} holds another model than preset {model_config.name!r}: name its preset"
                )
            model.load_state_dict(init.model.state_dict())
            self.tables, self.earlier_stages = init.tables, init.stages
        self.accelerator, self.config = accelerator, train_config
        self.step, self.seconds, self.skipped = 0, 0.0, 0
        self.configs = [{"from_step": 0, **dataclasses.asdict(train_config)}]
        self.build(model)
        self.average = AveragedModel(self.bare_model, multi_avg_fn=averaging(train_config.ema))

    def build(self, model):
        """Choose what learns; set self.model and self.optimizer, prepared by the accelerator."""
        raise NotImplementedError

    def update(self, x, quality, factor):
        """One step.

        Args:
            x: B,3,H,W in [0, 1]; quality: B numbers; factor: part of the learning rate.

        Returns:
            {column: number}, or None where the step was skipped because it was not finite.
        """
        raise NotImplementedError

    @property
    def bare_model(self):
        """The CompressionModel without what the accelerator may have wrapped around it."""
        return self.accelerator.unwrap_model(self.model)

    def extra_state(self):
        """What a stage adds to the checkpoint: {name: object with state_dict() and load_state_dict()}."""
        return {}

    def description(self):
        """This stage as the weights' metadata tell it: a dict that JSON can hold."""
        return {
            "stage": self.STAGE,
            "steps": self.step,
            "seconds": round(self.seconds),
            "skipped": self.skipped,
            "configs": self.configs,
        }

    def save(self, path, recent_log=(), **about):
        """Write a checkpoint; the averaged weights go beside it as weights.safetensors, ready for `load_codec`.

        Args:
            path: of the checkpoint.
            recent_log: values of the steps since the last row of the log.
            about: what else the description of the stage should say.
        """
        state = {
            "model": self.bare_model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"step": self.step, "seconds": self.seconds, "skipped": self.skipped},
            "model_config": dataclasses.asdict(self.bare_model.config),
            "configs": self.configs,
            "recent_log": list(recent_log),
            "stage": self.STAGE,
        }
        state |= {name: part.state_dict() for name, part in self.extra_state().items()}
        with atomic_write(path) as part:
            torch.save(state, part)
        stages = [*self.earlier_stages, self.description() | about]
        save_weights(self.average.module, path.with_name("weights.safetensors"), stages, self.tables)

    def load(self, path, change=False):
        """Go on from a checkpoint that save() wrote.

        Args:
            change: accept another TrainConfig than the one the run began with; it is noted in the description.

        Returns:
            The values of the steps since the last row of the log.

        Raises:
            ValueError: it cannot be read, is of another model or stage, or of another TrainConfig.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            stage, model_config = state["stage"], state["model_config"]
        except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is no checkpoint that can be read ({type(error).__name__}): delete it to begin anew, or "
                "choose another folder (--out)"
            ) from error
        if stage != self.STAGE:
            raise ValueError(f"{path} is of stage {stage!r}: choose another --out, or that --stage")
        if model_config != dataclasses.asdict(self.bare_model.config):
            raise ValueError(f"{path} holds another model: choose another --out, or the preset that it began with")
        configs = state.get("configs") or self.configs
        self._compare(path, configs, state["progress"]["step"], change)
        self.bare_model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self.extra_state().items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self.skipped = (state["progress"][k] for k in ("step", "seconds", "skipped"))
        return state.get("recent_log", [])

    def _compare(self, path, configs, step, change):
        """Set self.configs to those of a checkpoint, and the present one where it differs and may."""
        now = dataclasses.asdict(self.config)
        differing = {name: configs[-1].get(name) for name in now if configs[-1].get(name) != now[name]}
        if (forbidden := differing.keys() - FREE) and not change:
            told = ", ".join(f"{name}={differing[name]!r}, not {now[name]!r}" for name in sorted(forbidden))
            raise ValueError(
                f"{path} was trained with {told}: choose another folder (--out), the same values, or --change to go "
                "on with the new ones"
            )
        self.configs = configs if not differing else [*configs, {"from_step": step, **now}]


class Log:
    """log.csv: a row every few steps, averaged over them. Opened anew, it goes on after the row of `step`.

    Args:
        path: of the file.
        columns: of the stage.
        run: Run, whose step it begins at.
        recent: values of the steps since the last row, from the checkpoint.
        images_per_step: of all processes together.
    """

    def __init__(self, path, run, recent, images_per_step):
        names = ("step", *run.COLUMNS, "learning_rate", "skipped", "images_per_second")
        rows = []
        if path.exists():
            try:
                with open(path, newline="") as file:
                    # rows after `step` belong to steps that a kill undid
                    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= run.step]
                if any(set(row) != set(names) for row in rows):
                    raise ValueError("other columns")
            except (ValueError, KeyError, TypeError, csv.Error) as error:
                raise ValueError(
                    f"{path} is not the log of this stage ({error}): delete it, or choose another folder (--out)"
                ) from error
        with atomic_write(path) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        self.file = open(path, "a", newline="")
        self.writer = csv.DictWriter(self.file, names)
        self.every, self.images_per_step = run.config.log_every, images_per_step
        self.recent, self.since, self.steps = list(recent), time.monotonic(), 0

    def add(self, step, values, learning_rate, skipped):
        """Take the values of one step (None where it was skipped); return the row where one is due, else None."""
        self.steps += 1
        if values is not None:
            self.recent.append(values)
        if step % self.every or not self.recent:
            return None
        row = {key: round(sum(r[key] for r in self.recent) / len(self.recent), 5) for key in self.recent[0]}
        speed = self.steps * self.images_per_step / (time.monotonic() - self.since)
        row |= {"step": step, "learning_rate": round(learning_rate, 8), "skipped": skipped}
        row["images_per_second"] = round(speed, 1)
        self.writer.writerow(row)
        self.file.flush()
        self.recent, self.since, self.steps = [], time.monotonic(), 0
        return row

    def close(self):
        self.file.close()


def train(
    stage, folders, out, model_config, config, hours=None, init=None, on_log=None, change=False, progress=True
):
    """Train, and return the averaged model.

    Goes on from `out/checkpoint.pt` where there is one. Ctrl-C writes a checkpoint and returns.

    Args:
        stage: RateDistortionRun or AdversarialRun.
        folders: of training images.
        out: folder for checkpoint.pt, weights.safetensors, log.csv and config.json.
        model_config, config: ModelConfig and TrainConfig (AdversarialConfig for AdversarialRun).
        hours: train for this long in all, resumed parts included, instead of config.steps.
        init: name or path of weights to begin with, of the same model_config.
        on_log: called with each row of the log, a dict, and the Run; to stop, it may raise KeyboardInterrupt.
        change: go on with another config than the run began with.
        progress: show a bar.

    Returns:
        CompressionModel in eval mode, with the averaged weights.

    Raises:
        NoImagesError: before anything is written.
        ValueError: a number out of its limits; the checkpoint in `out` cannot be gone on with; or another process is
            training there.
    """
    if hours is not None and not 0 < hours < 1e6:
        raise ValueError(f"hours={hours} must be more than 0")
    crops = Crops(folders, config.crop, config.seed, (config.quality_low, config.quality_high))
    accelerator = accelerator_for(config)
    run = stage(model_config, config, accelerator, load_weights(init) if init else None)
    out = Path(out)
    main = accelerator.is_main_process  # the others compute, and write nothing
    if not main:
        return _train(run, crops, out, hours, on_log, change, progress)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(out / ".lock", timeout=0):  # the operating system frees it, whatever ends us
            return _train(run, crops, out, hours, on_log, change, progress)
    except filelock.Timeout:
        raise ValueError(f"another process is training in {out}: choose another folder, or stop it") from None


def _train(run, crops, out, hours, on_log, change, progress):
    """The loop itself, once everything is at hand. (Arguments as in train.)"""
    config, accelerator, main = run.config, run.accelerator, run.accelerator.is_main_process
    checkpoint = out / "checkpoint.pt"
    recent = run.load(checkpoint, change) if checkpoint.exists() else []
    per_step = config.batch * accelerator.num_processes
    if main:
        journal = Log(out / "log.csv", run, recent, per_step)
        both = {"model": dataclasses.asdict(run.bare_model.config), "train": run.configs}
        with atomic_write(out / "config.json") as part:
            part.write_text(json.dumps(both, indent=1))
    log.info("%d images, on %s, from step %d", len(crops.files), accelerator.device, run.step)

    def save():
        run.save(checkpoint, journal.recent, images=len(crops.files), folders=crops.folders)

    def done():
        return run.seconds / (3600 * hours) if hours else run.step / config.steps

    # item i of the endless sequence depends on i alone: begin where the checkpoint ended
    loader = DataLoader(crops, batch_size=config.batch, sampler=range(run.step * per_step, 2**40))
    batches = iter(accelerator.prepare(loader))
    total = None if hours else config.steps
    bar = tqdm(total=total, initial=run.step, unit="step", disable=not (main and progress), mininterval=1.0)
    saved = time.monotonic()
    run.model.train()
    try:
        while done() < 1:
            began = time.monotonic()
            factor = learning_rate_factor(run.step, done(), config)
            x, quality = next(batches)
            # every step has noise of its own seed, so that a resumed run is the run that was never stopped
            torch.manual_seed(
                config.seed * 1_000_003 + run.step * accelerator.num_processes + accelerator.process_index
            )
            values = run.update(x.float() / 255, quality, factor)
            run.step += 1
            if values is None:
                run.skipped += 1
            else:
                run.average.update_parameters(run.bare_model)
            # all processes must agree on the time, and so on the last step
            elapsed = torch.tensor(time.monotonic() - began, device=accelerator.device)
            run.seconds += accelerator.reduce(elapsed, reduction="mean").item()
            bar.update()
            row = journal.add(run.step, values, factor * config.lr, run.skipped) if main else None
            if row:
                bar.set_postfix({name: f"{row[name]:.3f}" for name in run.COLUMNS}, skipped=run.skipped)
                if on_log:
                    on_log(row, run)
            if main and time.monotonic() - saved > 60 * config.checkpoint_minutes:
                save()
                saved = time.monotonic()
    except KeyboardInterrupt:
        log.warning("stopped at step %d; the same command goes on from there", run.step)
    finally:
        bar.close()
        if main:
            journal.close()
    if main:
        save()
    return run.average.module.eval()
