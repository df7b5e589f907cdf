"""Shared by all tests: the frozen fixture weights, and photographs that need no network."""

import os

# The tests' pictures and models are so small that a second thread costs more than it gives: a step of training a
# small invertible network took 0.9 s with two and 0.25 s with one. Tests of what threads change set their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import ganlib  # isort: skip, before torch: it says how OpenMP's threads wait

import contextlib
import csv
import errno
import importlib.util
import signal
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import skimage.data
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image

from ganlib.codec import container

# Tests send these signals, which a shell's background job and nohup ignore
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), handler)

# On a busy machine an example may take any time
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

FIXTURES = Path(__file__).parent / "fixtures"
TINY = FIXTURES / "tiny.safetensors"  # frozen: golden.gic decodes with these and no others

SMALL = dict(batch=2, crop=64, precision="no", log_every=2, warmup=2)  # a training run of seconds


def latents(codec, data):
    """y_hat of the whole picture: h,w,C."""
    index = container.Index(data)
    return codec.latents(index, index.header.area)[0]


@pytest.fixture(scope="session")
def codec():
    """The small fixture model; fast, and not good. In float32, which gives the same pixels on every machine."""
    return ganlib.load_codec(TINY, precision="no")


@pytest.fixture(scope="session")
def photo():
    """A 512x512 RGB photograph."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def folder(tmp_path_factory, photo):
    """Four pictures to train on."""
    path = tmp_path_factory.mktemp("photographs")
    for i in range(4):
        Image.fromarray(photo[128 * i : 128 * (i + 1)]).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def accelerator():
    """On the CPU: accelerate's state is one for the whole process, and to the last bit runs agree on one device."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def unreadable(monkeypatch):
    """Call it with a path, and that folder cannot be listed, even by root."""
    paths, real = set(), os.scandir

    def scandir(path="."):
        if Path(path) in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return paths.add


@pytest.fixture
def third_is_nan(monkeypatch):
    """Makes the third call of a loss function, third_is_nan(module, name), come out as not a number."""

    def spoil(module, name):
        calls, real = [], getattr(module, name)

        def sometimes(*args):
            calls.append(1)
            return real(*args) * (float("nan") if len(calls) == 3 else 1.0)

        monkeypatch.setattr(module, name, sometimes)

    return spoil


@contextlib.contextmanager
def files_at_most(size):
    """Inside, no file can become larger, in bytes: as on a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def one_thread_then_two():
    """Calls a function under one thread and under two, and gives both results."""
    before = torch.get_num_threads()

    def both(function):
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(function())
        return results

    yield both
    torch.set_num_threads(before)


def blurred(pixels, side=4):
    """Means of side x side pixels, at the picture's own size: the same bytes on every machine."""
    height, width = (n // side for n in pixels.shape[:2])
    means = pixels.reshape(height, side, width, side, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return means.repeat(side, axis=0).repeat(side, axis=1)


def mean_squared_error(a, b):
    return float(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2))


def rows(out):
    """The log of a training run, without the column that no two runs share."""
    with open(out / "log.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


COURSE = Path(__file__).resolve().parent.parent / "notebooks"


def module_of(path):
    """A Python file of the course, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def solutions(notebook):
    """The module notebooks/solutions/NOTEBOOK.py."""
    return module_of(COURSE / "solutions" / f"{notebook}.py")


def stub(*args):
    """An exercise as the student finds it."""
    ...


def until(condition, seconds=300):
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
