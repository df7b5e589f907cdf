"""A training run with all its results in one folder; it runs in its own thread or in the calling cell."""

import json
import shutil
import threading
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import torch
from PIL import Image

from ganlib.atomic_write import atomic_write
from ganlib.codec.pixel_tensors import to_pixels, to_tensor
from ganlib.training.loop import train


@torch.inference_mode()
def reconstruct(model, pixels, config):
    """A crop as the model rebuilds it: H,W,3 uint8, sides multiples of 64 -> the same.

    At the middle of the qualities and of the realisms that `config` trains at; in stage one at realism 0.
    """
    model.eval()
    x = to_tensor(pixels)
    middle = torch.tensor([(config.quality_low + config.quality_high) / 2])
    realism = torch.tensor([(getattr(config, "realism_low", 0.0) + getattr(config, "realism_high", 0.0)) / 2])
    x_hat = model(x, middle, realism)["x_hat"][0]
    return to_pixels(x_hat.permute(1, 2, 0))


class Thread(threading.Thread):
    """The thread of a run, with events to pause and to stop it."""

    def __init__(self, work):
        super().__init__(target=work, daemon=True)
        self.go_on, self.halt = threading.Event(), threading.Event()
        self.go_on.set()
        self.held, self.over, self.error = False, False, None


class BackgroundRun:
    """One training run, with all its results in one folder.

        out/log.csv  config.json  checkpoint.pt  weights.safetensors   as `train` writes them
        out/before.png  now.png                                        the watched crop

    Another BackgroundRun on the same folder, in this process or in a later one, shows the same run and can continue
    it. Two kernels never write to the same folder: `train` locks it.

    Args:
        data: folders or files of training images.
        out: folder of the run.
        start: StartingPoint; None if the run is only shown.
        watched: H,W,3 uint8 crop, sides multiples of 64, that shows the progress.
    """

    # Of this process, by folder: a cell that is run again must find the run that it started, and get its updates.
    threads, listeners = {}, {}

    def __init__(self, data, out, start, watched):
        self.data, self.out, self.beginning, self.watched = data, Path(out).resolve(), start, watched

    @property
    def thread(self):
        """The Thread that is running, or None."""
        thread = self.threads.get(self.out)
        return thread if thread is not None and not thread.over else None

    @property
    def state(self):
        """ "idle", "training", "pausing", "paused" or "stopping"."""
        thread = self.thread
        if thread is None:
            return "idle"
        if thread.halt.is_set():
            return "stopping"
        return "training" if thread.go_on.is_set() else "paused" if thread.held else "pausing"

    @property
    def error(self):
        """The exception that ended the last run of this process, or None."""
        thread = self.threads.get(self.out)
        return None if thread is None else thread.error

    def listen(self, listener):
        """Call a function after each row of the log; it replaces the last listener."""
        self.listeners[self.out] = listener

    def log(self):
        """The rows so far, from disk; empty where there are none."""
        try:
            return pd.read_csv(self.out / "log.csv")
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return pd.DataFrame(columns=["step"])

    def configs(self):
        """The settings of the run, from disk: a dict of "stage", "from_step" and the fields of its configuration for
        each time that they changed; empty where nothing was trained."""
        settings = self._settings()
        return [{"stage": settings["stage"], **config} for config in settings.get("train", [])]

    def preset(self):
        """Name of the preset that is trained, from disk; None where nothing was."""
        return self._settings().get("model", {}).get("name")

    def _settings(self):
        try:
            return json.loads((self.out / "config.json").read_text())
        except FileNotFoundError:
            return {}

    def picture(self, name):
        """before or now: H,W,3 uint8, or None."""
        path = self.out / f"{name}.png"
        if not path.exists():
            return None
        with Image.open(path) as image:
            return np.array(image)

    def start(self, config, change=False):
        """Train in a thread, from the checkpoint if there is one.

        Args:
            config: TrainConfig or AdversarialConfig.
            change: continue with another configuration than before; config.json records the step.

        Raises:
            RuntimeError: it is running already.
        """
        if self.thread is not None:
            raise RuntimeError("this run is active already: stop it first")

        def work():
            try:
                self._train(config, change, lambda: self._between_rows(thread), progress=False)
            except Exception as error:  # the panel shows it
                thread.error = error
            finally:
                thread.over = True
                self._notify()

        thread = self.threads[self.out] = Thread(work)
        thread.start()

    def run_here(self, config):
        """Train to the end in the thread of the caller, with a bar, from the checkpoint if there is one.

        When interrupted, it writes a checkpoint and raises KeyboardInterrupt, so that the notebook stops there; the
        next call continues. A run that is finished returns at once.

        Raises:
            RuntimeError: it is running in the background.
            ValueError: the folder holds a run with another configuration, or another kernel is training there.
        """
        if self.thread is not None:
            raise RuntimeError("this run is active in the background: stop it first")
        try:
            interrupted = self._train(config, False, lambda: None, progress=True)
        except KeyboardInterrupt:
            interrupted = True
        if interrupted:
            raise KeyboardInterrupt(f"stopped before step {config.steps}: run the cell again to continue") from None

    def pause(self):
        """Pause at the next row of the log, or continue."""
        if thread := self.thread:
            (thread.go_on.clear if thread.go_on.is_set() else thread.go_on.set)()

    def stop(self):
        """Write a checkpoint and end; start() continues from there."""
        if thread := self.thread:
            thread.halt.set()
            thread.go_on.set()

    def wait(self, seconds=60.0):
        """Block until the run is over; TimeoutError where that takes longer."""
        if thread := self.thread:
            thread.join(seconds)
            if thread.is_alive():
                raise TimeoutError(f"still training after {seconds:g} s")

    def clear(self):
        """Delete the run's folder. RuntimeError while it is running, here or in another kernel."""
        if self.thread is not None:
            raise RuntimeError("stop the run first")
        self.threads.pop(self.out, None)
        if self.out.exists():
            try:
                with filelock.FileLock(self.out / ".lock", timeout=0):
                    shutil.rmtree(self.out, ignore_errors=True)
            except filelock.Timeout:
                raise RuntimeError(f"another kernel is training in {self.out}: stop it there first") from None
            shutil.rmtree(self.out, ignore_errors=True)  # on Windows the lock's own file stays until it is free

    def _train(self, config, change, between_rows, progress):
        """Train; return whether a row of the log was interrupted. KeyboardInterrupt if between two rows."""
        start = self.beginning
        before, interrupts = reconstruct(start.model(), self.watched, config), []

        def after_row(row, run):  # train() holds the lock, so no other process writes here
            try:
                if self.picture("before") is None:
                    self._keep("before", before)
                self._keep("now", reconstruct(run.average.module, self.watched, config))
                self._notify()
                between_rows()
            except KeyboardInterrupt as interrupt:  # train() writes a checkpoint and returns
                interrupts.append(interrupt)
                raise

        train(
            start.run, self.data, self.out, start.model_config, config,
            init=start.init, on_log=after_row, change=change, progress=progress,
        )  # fmt: skip
        return bool(interrupts)

    def _between_rows(self, thread):
        if not thread.go_on.is_set():
            thread.held = True
            self._notify()
            thread.go_on.wait()
            thread.held = False
        if thread.halt.is_set():
            raise KeyboardInterrupt

    def _notify(self):
        if listener := self.listeners.get(self.out):
            listener()

    def _keep(self, name, pixels):
        with atomic_write(self.out / f"{name}.png") as part:
            Image.fromarray(pixels).save(part, format="png")
