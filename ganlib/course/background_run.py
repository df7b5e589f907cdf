"""A training run in a thread of its own, whose every result lies on disk."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ganlib.atomic_write import atomic_write
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import train
from ganlib.weights import load_weights


@torch.inference_mode()
def reconstruct(model, pixels, config):
    """A crop as the model rebuilds it: H,W,3 uint8, sides multiples of 64 -> the same."""
    model.eval()
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    middle = torch.tensor([(config.quality_low + config.quality_high) / 2])
    realism = torch.tensor([(config.realism_low + config.realism_high) / 2])
    x_hat = model(x, middle, realism)["x_hat"][0]
    return (x_hat.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


class Thread(threading.Thread):
    """A run that is going on, and how to halt it."""

    def __init__(self, work):
        super().__init__(target=work, daemon=True)
        self.go_on, self.halt = threading.Event(), threading.Event()
        self.go_on.set()
        self.held, self.over, self.error = False, False, None


class BackgroundRun:
    """One run of stage two in a thread, whose every result lies in a folder.

        out/log.csv  checkpoint.pt  weights.safetensors   as `train` writes them
        out/before.png  now.png                           the watched crop

    Another BackgroundRun on the same folder, in this process or after it has died, shows the same run and goes on
    with it.

    Args:
        data: folders or files of training images.
        out: folder of the run.
        init: weights that it begins with.
        watched: H,W,3 uint8 crop, sides multiples of 64, that shows the progress.
    """

    # Of this process, by folder: a cell that is run again must find the run that it started, and be told of its news.
    threads, listeners = {}, {}

    def __init__(self, data, out, init, watched):
        self.data, self.out, self.init, self.watched = data, Path(out).resolve(), init, watched

    @property
    def thread(self):
        """The Thread that is at work, or None."""
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
        """What ended the last run of this process, or None where it ended well."""
        thread = self.threads.get(self.out)
        return None if thread is None else thread.error

    def listen(self, listener):
        """Have a function called after each row of the log, in place of the last listener."""
        self.listeners[self.out] = listener

    def log(self):
        """The rows so far, from disk; empty where there are none."""
        try:
            return pd.read_csv(self.out / "log.csv")
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return pd.DataFrame(columns=["step"])

    def picture(self, name):
        """before or now: H,W,3 uint8, or None."""
        path = self.out / f"{name}.png"
        if not path.exists():
            return None
        with Image.open(path) as image:
            return np.array(image)

    def start(self, config):
        """Begin, or go on from the checkpoint; RuntimeError where it is running already."""
        if self.thread is not None:
            raise RuntimeError("this run is going on already")
        thread = self.threads[self.out] = Thread(lambda: self._work(thread, config))
        thread.start()

    def pause(self):
        """Hold at the next row of the log, or go on."""
        if thread := self.thread:
            (thread.go_on.clear if thread.go_on.is_set() else thread.go_on.set)()

    def stop(self):
        """Write a checkpoint and end; start() goes on from there."""
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
        """Forget the run: its folder is deleted. RuntimeError while it is running."""
        if self.thread is not None:
            raise RuntimeError("stop the run first")
        self.threads.pop(self.out, None)
        if self.out.exists():
            shutil.rmtree(self.out)

    def _work(self, thread, config):
        def after_row(row, run):
            self._keep("now", run.average.module, config)
            self._tell()
            if not thread.go_on.is_set():
                thread.held = True
                self._tell()
                thread.go_on.wait()
                thread.held = False
            if thread.halt.is_set():
                raise KeyboardInterrupt

        try:
            weights = load_weights(self.init).model
            if self.picture("before") is None:
                self._keep("before", weights, config)
            train(
                AdversarialRun, self.data, self.out, weights.config, config,
                init=self.init, on_log=after_row, progress=False,
            )  # fmt: skip
        except Exception as error:  # the panel shows it
            thread.error = error
        finally:
            thread.over = True
            self._tell()

    def _tell(self):
        if listener := self.listeners.get(self.out):
            listener()

    def _keep(self, name, model, config):
        with atomic_write(self.out / f"{name}.png") as part:
            Image.fromarray(reconstruct(model, self.watched, config)).save(part, format="png")
