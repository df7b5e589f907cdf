"""The training loop, which all stages share. A stage defines only which parts learn, and its losses."""

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path

import accelerate
import filelock
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ganlib.config import MAX_HOURS, chosen_precision
from ganlib.datasets.crops import Crops
from ganlib.training.checkpoint import export, load_checkpoint, save_checkpoint
from ganlib.training.log import Log, Record, write_config
from ganlib.training.run import WEIGHTS
from ganlib.training.validation import Validation
from ganlib.weights import find_weights, load_weights

log = logging.getLogger(__name__)

LOADING_PROCESSES_MAX = 16  # each keeps pictures of its own in memory


def learning_rate_factor(step, progress, config):
    """1 after a linear warm-up, then down to 0 over the last part of the run: warm-up, stable, decay.

    In the long constant part the rate does not depend on the run's length, so a checkpoint of it can be prolonged.

    Args:
        step: number of the step, from 0; progress: 0 to 1, how much of the run is done.
    """
    warmup = (step + 1) / config.warmup if config.warmup else 1.0
    decay = (1.0 - progress) / config.decay if config.decay else 1.0
    return min(1.0, warmup, decay)


def accelerator_for(config):
    """Accelerator of a run with this TrainConfig."""
    precision = chosen_precision(config.precision)  # of g_a and g_s; the entropy model uses float32
    # cpu=True on a machine without a GPU: otherwise accelerate does not connect several processes there
    options = {"mixed_precision": precision, "cpu": not torch.accelerator.is_available()}
    try:
        return accelerate.Accelerator(**options)
    except ValueError:  # accelerate has one state per process, with the precision of an earlier run
        accelerate.state.AcceleratorState._reset_state()
        return accelerate.Accelerator(**options)


def loading_processes(accelerator):
    """Number of processes that prepare crops in advance: 1 or more with a GPU; none on CPUs, which compute the steps.

    Args:
        accelerator: of the run, whose processes share the machine's cores.
    """
    if accelerator.device.type == "cpu":
        return 0
    return min(LOADING_PROCESSES_MAX, max(1, (os.cpu_count() or 1) // accelerator.num_processes - 1))


@contextmanager
def interrupts_between_steps():
    """Inside, the first Ctrl-C or request to terminate is held back, so that the loop can first complete its step.

    Only signals with a handler are held back (Ctrl-C's default raises KeyboardInterrupt). A signal that ends the
    process directly, or is ignored, does so here too. In other threads than the main one nothing changes: they get
    no signals.

    Yields:
        list of that signal's number, empty until then. Afterwards, signal.raise_signal() delivers it.
    """
    received, handlers = [], {}

    def restore(*signal_and_frame):
        received.extend(signal_and_frame[:1])
        for number, handler in handlers.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        handlers |= {number: signal.getsignal(number) for number in numbers if callable(signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, restore)
    try:
        yield received
    finally:
        restore()


@contextmanager
def only_process_in(folder):
    """Make the folder of a run and lock it; ValueError if that is a file, or another process holds the lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{folder} is a file, or in one: choose a folder for the run (--out)") from None
    lock = filelock.FileLock(folder / ".lock", timeout=0)  # the operating system frees it however the process ends
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ValueError(f"another process is training in {folder}: choose another folder, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def train(
    stage, folders, out, model_config, config, hours=None, init=None, on_log=None, change=False, validation=None,
    progress=True,
):  # fmt: skip
    """Train, and return the averaged model.

    Resumes from `out/checkpoint.pt` if there is one. If the run is finished already, the log says so, and only
    missing weights are written.

    Args:
        stage: RateDistortionRun or AdversarialRun, or a function of the same arguments that makes one.
        folders: of training images.
        out: folder for checkpoint.pt, weights.safetensors, log.csv and config.json.
        model_config, config: ModelConfig and TrainConfig (AdversarialConfig for AdversarialRun).
        hours: train for this long in all, resumed parts included, instead of config.steps.
        init: name or path of weights to begin with, of the same model_config.
        on_log: called with each row of the log, a dict, and the Run; to stop, it may raise KeyboardInterrupt. Then a
            checkpoint is written, and train() returns.
        change: continue with another config than the run began with. config.json and the weights record from which
            step.
        validation: folder of photographs that the averaged weights are measured on at each checkpoint, into
            validation.csv.
        progress: show a bar.

    Returns:
        CompressionModel in eval mode, with the averaged weights.

    Raises:
        NoImagesError: before anything is written.
        ValueError: a number out of its limits; a file in `out` cannot be continued; or another process is
            training there.
        KeyboardInterrupt: at Ctrl-C, after the step is complete and a checkpoint is written. Other signals, such as
            SIGTERM, are treated alike if they have a handler; the command line sets one.
    """
    if hours is not None and not 0 < hours <= MAX_HOURS:
        raise ValueError(f"hours={hours!r} must be above 0, and at most {MAX_HOURS:,.0f}")
    crops = Crops(folders, config.crop, config.seed, (config.quality_low, config.quality_high))
    held_out = Validation(validation) if validation else None
    accelerator = accelerator_for(config)
    out = Path(out)
    if init and find_weights(init).resolve() == (out / WEIGHTS).resolve():
        raise ValueError(
            f"training would overwrite the weights that it begins with: choose another folder than {out}"
        )
    data = {"images": len(crops.files), "folders": crops.folders}
    run = stage(model_config, config, accelerator, load_weights(init) if init else None, hours, data)
    # the other processes compute, and write nothing
    with only_process_in(out) if accelerator.is_main_process else nullcontext():
        recent = load_checkpoint(run, out, change)
        if run.progress >= 1:
            log.warning("finished already, at step %d: more --steps or --hours continue it", run.step)
            if accelerator.is_main_process and not (out / WEIGHTS).exists():
                export(run, out)
        else:
            _train(run, crops, out, recent, on_log, held_out, progress)
    return run.average.module.eval()


def _train(run, crops, out, recent, on_log, held_out, progress):
    """The loop itself, after all preparations. (Arguments as in train.)"""
    config, accelerator, main = run.config, run.accelerator, run.accelerator.is_main_process
    per_step = config.batch * accelerator.num_processes
    with ExitStack() as stack:
        if main:
            journal = stack.enter_context(closing(Log(out / "log.csv", run, recent, per_step)))
            if held_out:
                record = Record(out / "validation.csv", held_out.COLUMNS, run.step)
                stack.enter_context(closing(record))
            write_config(out / "config.json", run)
            log.info("%d images, on %s, from step %d", len(crops.files), accelerator.device, run.step)

        def save():
            save_checkpoint(run, out, journal.recent)
            if held_out:
                record.write(*held_out.measure(run))

        # item i of the endless sequence depends on i alone: begin where the checkpoint ended
        sampler, workers = range(run.step * per_step, 2**40), loading_processes(accelerator)
        loader = DataLoader(crops, config.batch, sampler=sampler, num_workers=workers, pin_memory=workers > 0)
        batches = iter(accelerator.prepare(loader))
        total = None if run.hours else config.steps
        hidden = not (main and progress)
        bar = stack.enter_context(tqdm(total=total, initial=run.step, unit="step", disable=hidden, mininterval=1.0))
        interrupted = stack.enter_context(interrupts_between_steps())
        saved, stop, interrupts = time.monotonic(), False, 0
        run.model.train()
        while run.progress < 1 and not (stop or interrupts):
            began = time.monotonic()
            factor = learning_rate_factor(run.step, run.progress, config)
            x, quality = next(batches)
            # every step seeds its own noise, so that a resumed run equals one that was never stopped
            torch.manual_seed(
                config.seed * 1_000_003 + run.step * accelerator.num_processes + accelerator.process_index
            )
            values = run.update(x.float() / 255, quality, factor)
            run.step += 1
            if values is None:
                run.skipped += 1
            else:
                run.average.update_parameters(run.bare_model)
            seconds, interrupts = time.monotonic() - began, bool(interrupted)
            if accelerator.num_processes > 1:  # all must agree on the time and on Ctrl-C, and so on the last step
                shared = torch.tensor([seconds, interrupts], device=accelerator.device)
                seconds, interrupts = accelerator.reduce(shared, reduction="mean").tolist()
            run.seconds += seconds
            bar.update()
            if not main:
                continue
            if row := journal.add(values, factor * config.lr):
                bar.set_postfix({name: f"{row[name]:.3f}" for name in run.COLUMNS}, skipped=run.skipped)
                try:
                    if on_log:
                        on_log(row, run)
                except KeyboardInterrupt:
                    stop = True
            if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                save()
                saved = time.monotonic()
        if main:
            save()
    if run.progress < 1:
        log.warning("stopped at step %d; the same command continues from there", run.step)
    if interrupts:
        for number in interrupted:
            signal.raise_signal(number)
        raise KeyboardInterrupt  # another process received the signal
