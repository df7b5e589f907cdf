"""The training loop, in plain sight, and its first stage: rate and distortion."""

import csv
import dataclasses
import json
import logging
import math
import os
import time
from pathlib import Path

import accelerate
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ganlib.datasets import Crops
from ganlib.training.losses import bits_per_pixel, mean_squared_error, psnr, rate_distortion
from ganlib.model.compression_model import CompressionModel
from ganlib.training.optimizer import OutputSideSOAP
from ganlib.model.perceptual_networks import load_lpips
from ganlib.precision import chosen
from ganlib.zoo import load_weights, save_weights

log = logging.getLogger(__name__)


def learning_rate_factor(step, progress, config):
    """1 after a linear warm-up, then down to 0 over the last part of the run: warm-up, stable, decay.

    The long flat part has no end built in, so that a run can be prolonged from its checkpoint.
    """
    return min(1.0, (step + 1) / config.warmup, (1.0 - progress) / config.decay)


def split(count, *tensors):
    """Cut a batch: B,... tensors -> `count` times (share of the images, this part of each tensor)."""
    for part in zip(*(tensor.chunk(count) for tensor in tensors)):
        yield len(part[0]) / len(tensors[0]), *part


def summed(parts):
    """[{name: number}, ...] -> {name: sum}."""
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def draw_realism(step, batch, device):
    """Realism of each image of a batch: two at 0, one at 1 and one in between, in turn.

    The ends are what people will use most, and a uniform draw would never hit them.
    """
    turn = (step * batch + torch.arange(batch, device=device)) % 4
    realism = torch.where(turn == 2, torch.rand(batch, device=device), 0.0)
    return torch.where(turn == 3, 1.0, realism)


def update_model(model, optimizer, accelerator, perceptual, x, quality, realism, config):
    """One step on balanced rate + lambda * distortion + realism * LPIPS, summed over config.accumulate parts.

    Args:
        perceptual: module (x_hat, x) -> B,1,1,1, as `load_lpips` gives it.
        x: B,3,H,W in [0, 1]; quality, realism: B numbers each.

    Returns:
        {"loss", "bpp", "psnr", "lpips"} as floats, the last two at realism 0 and above it; or None where the step was
        skipped because it was not finite.
    """
    optimizer.zero_grad()
    faithful, natural = (realism == 0).sum().clamp_min(1), (realism > 0).sum().clamp_min(1)
    parts, done = split(config.accumulate, x, quality, realism), []
    for share, x, quality, realism in parts:
        with accelerator.autocast():
            out = model(x, quality, realism)
            seen = realism > 0  # the others need no LPIPS, which costs a fifth of a step
            unlike = realism.new_zeros(len(realism))
            if seen.any():
                unlike[seen] = perceptual(out["x_hat"][seen], x[seen], normalize=True).float().flatten()
        bpp = bits_per_pixel(out["likelihoods"], pixels=x.shape[2] * x.shape[3])
        mse = mean_squared_error(out["x_hat"], x)
        loss = rate_distortion(bpp, mse, accelerator.unwrap_model(model).config.lam(quality))
        loss = share * (loss + config.perceptual_weight * (realism * unlike).mean())
        accelerator.backward(loss)
        means = {"bpp": share * bpp.mean(), "psnr": (psnr(mse) * ~seen).sum() / faithful}
        means["lpips"] = unlike.sum() / natural
        done.append({"loss": loss.item()} | {name: value.item() for name, value in means.items()})
    values = summed(done)
    norm = accelerator.clip_grad_norm_(model.parameters(), config.clip)
    if not (math.isfinite(values["loss"]) and torch.isfinite(norm)):
        return None
    optimizer.step()
    return values


def accelerator_for(config):
    """Accelerator of a run with this TrainConfig."""
    precision = chosen(config.precision)  # of g_a and g_s; the entropy model switches it off for itself
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


def set_rate(optimizer, lr):
    """Learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class Run:
    """What a training run is between two steps: everything that a checkpoint must hold. Stage one."""

    COLUMNS = ("loss", "bpp", "psnr", "lpips")  # what update() returns, and the log shows
    NOTE = "rate-distortion"

    def __init__(self, model_config, train_config, accelerator, init=None):
        torch.manual_seed(train_config.seed)
        model = CompressionModel(model_config)
        self.tables, self.history = None, ""
        if init:
            weights, self.tables, _, self.history = load_weights(init)
            if weights.config != model_config:
                raise ValueError(f"{init} holds another model than preset {model_config.name!r}: name its preset")
            model.load_state_dict(weights.state_dict())
        self.accelerator, self.config = accelerator, train_config
        self.build(model)
        bare = accelerator.unwrap_model(self.model)
        self.average = AveragedModel(bare, multi_avg_fn=averaging(train_config.ema))
        self.step, self.seconds, self.skipped = 0, 0.0, 0

    def build(self, model):
        """Optimizers, and what a stage needs beside the model."""
        self.tables = None  # the entropy model trains, so old tables are void
        model.g_a.recompute = model.g_s.recompute = self.config.recompute
        self.model, self.optimizer = self.accelerator.prepare(model, OutputSideSOAP(model.parameters(), self.config.lr))
        self.perceptual = load_lpips().to(self.accelerator.device)

    def update(self, x, quality, factor):
        """One step at `factor` of the learning rate; None where it was skipped."""
        set_rate(self.optimizer, factor * self.config.lr)
        realism = draw_realism(self.step, len(x), x.device)
        return update_model(
            self.model, self.optimizer, self.accelerator, self.perceptual, x, quality, realism, self.config
        )

    def extra_state(self):
        """What a stage adds to the checkpoint: {name: object with state_dict() and load_state_dict()}."""
        return {}

    def save(self, path):
        """Write the checkpoint to a new file and swap it in: a kill at any moment leaves one that is whole.

        The averaged weights go beside it as weights.safetensors, ready for `load_codec`.
        """
        state = {
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {"step": self.step, "seconds": self.seconds, "skipped": self.skipped},
            "model_config": dataclasses.asdict(self.accelerator.unwrap_model(self.model).config),
            "stage": self.NOTE,
        }
        state |= {name: part.state_dict() for name, part in self.extra_state().items()}
        part = path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, path)
        note = f"{self.NOTE}, {self.step} steps of {self.config.batch} crops of {self.config.crop} pixels"
        note = f"{self.history}; {note}" if self.history else note
        save_weights(self.average.module, path.with_name("weights.safetensors"), note, self.tables)

    def load(self, path):
        """Go on from a checkpoint that this program wrote; ValueError where it is of another model."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        bare = self.accelerator.unwrap_model(self.model)
        if state["model_config"] != dataclasses.asdict(bare.config):
            raise ValueError(f"{path} holds another model: choose another --out, or the preset that it began with")
        stage = state.get("stage", Run.NOTE)
        if stage != self.NOTE:
            raise ValueError(f"{path} is of stage {stage!r}: choose another --out, or that --stage")
        bare.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self.extra_state().items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self.skipped = (state["progress"][k] for k in ("step", "seconds", "skipped"))


class Log:
    """log.csv: a row every few steps, averaged over them. Opened anew, it goes on after the row of `step`."""

    def __init__(self, path, columns, step, every, images_per_step):
        rows = []
        if path.exists():  # rows after `step` belong to steps that a kill undid
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        part = path.with_suffix(".part")
        self.file = open(part, "w", newline="")
        names = ("step", *columns, "learning_rate", "skipped", "images_per_second")
        self.writer = csv.DictWriter(self.file, names)
        self.writer.writeheader()
        self.writer.writerows(rows)
        self.file.flush()
        os.replace(part, path)
        self.every, self.images_per_step = every, images_per_step
        self.recent, self.since = [], time.monotonic()

    def add(self, step, values, learning_rate, skipped):
        """Take the values of one step (None where it was skipped); return the row where one is due, else None."""
        if values is not None:
            self.recent.append(values)
        if step % self.every or not self.recent:
            return None
        row = {key: round(sum(r[key] for r in self.recent) / len(self.recent), 5) for key in self.recent[0]}
        speed = self.every * self.images_per_step / (time.monotonic() - self.since)
        row |= {"step": step, "learning_rate": round(learning_rate, 8), "skipped": skipped}
        row["images_per_second"] = round(speed, 1)
        self.writer.writerow(row)
        self.file.flush()
        self.recent, self.since = [], time.monotonic()
        return row

    def close(self):
        self.file.close()


def train(folders, out, model_config, config, hours=None, init=None, on_log=None, stage=Run, progress=True):
    """Train, and return the averaged model.

    Goes on from `out/checkpoint.pt` where there is one. Ctrl-C writes a checkpoint and returns.

    Args:
        folders: of training images.
        out: folder for checkpoint.pt, weights.safetensors, log.csv and config.json.
        model_config, config: ModelConfig and TrainConfig.
        hours: train for this long in all, resumed parts included, instead of config.steps.
        init: name or path of weights to begin with, of the same model_config.
        on_log: called with each row of the log, a dict, and the Run; to stop, it may raise KeyboardInterrupt.
        stage: Run for rate and distortion, or adversarial.AdversarialRun, which takes an AdversarialConfig.
        progress: show a bar.

    Returns:
        CompressionModel in eval mode, with the averaged weights.

    Raises:
        NoImagesError: before anything is written.
        ValueError: the checkpoint in `out` is of another model.
    """
    crops = Crops(folders, config.crop, config.seed, (config.quality_low, config.quality_high))
    accelerator = accelerator_for(config)
    run = stage(model_config, config, accelerator, init)
    out = Path(out)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    per_step = config.batch * accelerator.num_processes
    main = accelerator.is_main_process  # the others compute, and write nothing
    if main:
        out.mkdir(parents=True, exist_ok=True)
        both = {"model": dataclasses.asdict(model_config), "train": dataclasses.asdict(config)}
        (out / "config.json").write_text(json.dumps(both, indent=1))
        journal = Log(out / "log.csv", run.COLUMNS, run.step, config.log_every, per_step)
    log.info("%d images, on %s, from step %d", len(crops.files), accelerator.device, run.step)

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
            x = x.float() / 255
            values = run.update(x, quality, factor)
            run.step += 1
            if values is None:
                run.skipped += 1
            else:
                run.average.update_parameters(accelerator.unwrap_model(run.model))
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
                run.save(checkpoint)
                saved = time.monotonic()
    except KeyboardInterrupt:
        log.warning("stopped at step %d; the same command goes on from there", run.step)
    finally:
        bar.close()
        if main:
            journal.close()
    if main:
        run.save(checkpoint)
    return run.average.module.eval()
