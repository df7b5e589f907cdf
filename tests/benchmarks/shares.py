"""Where ganlib's time goes: what share of a whole call each part takes. Run by bench.py --profile.

A part's time is its own, without that of the parts that it calls, so that the shares add up to one.
"""

import functools
import inspect
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import ours
import torch

import ganlib
from ganlib.codec import range_coder

REST = "rest"
BITSTREAM = "bitstream and checksums"
PICTURES = "pictures: windows, colour, padding, uint8"
# Modules of ganlib.codec whose functions and methods are timed as a whole; those that read and write the file
FILE_MODULES = ("container", "header", "salvage")
PICTURE_MODULES = ("windows", "image_io", "large_images", "mapped_arrays")


class Stopwatch:
    """Seconds by part. Parts may nest: the clock of the outer one stands while the inner one runs."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._running, self._since = [], 0.0

    def _switch(self):
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name):
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def timed(self, function, name):
        """A function, or generator function, whose work counts as a part's."""

        @functools.wraps(function)
        def call(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        @functools.wraps(function)
        def generate(*args, **kwargs):
            items = function(*args, **kwargs)
            while True:
                with self.part(name):
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item

        return generate if inspect.isgeneratorfunction(function) else call


def _places(codec):
    """(owner, attribute, part) of every function of a codec that is timed by itself."""
    entropy, coder = codec.model.entropy, codec.coder
    yield codec.model.g_a, "forward", "g_a"
    yield codec.model.g_s, "forward", "g_s"
    yield entropy.h_a, "forward", "h_a"
    yield coder, "h_s", "h_s, integer inference"
    for contexts in coder.contexts:
        for name in ("begin", "call"):
            yield contexts, name, "contexts, integer inference"
    yield coder, "_code_part", "sorting of symbols"
    for direction in ("encode", "decode"):
        yield coder, direction, "latents: rounding, copies"
    for side in (range_coder.Writer, range_coder.Reader):
        yield side, "run", "range coder"
    yield range_coder.Writer, "bytes", "range coder"
    for names, part in ((FILE_MODULES, BITSTREAM), (PICTURE_MODULES, PICTURES)):
        for name in names:
            if module := sys.modules.get(f"ganlib.codec.{name}"):
                yield from ((owner, attribute, part) for owner, attribute in _functions(module))


def _functions(module):
    """(owner, attribute) of every function of a module and every method of its classes, special ones left out."""
    classes = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    for owner in (module, *classes):
        for name, function in vars(owner).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and not name.startswith("__") and not hasattr(function, "__wrapped__"):
                yield owner, name


@contextmanager
def watched(codec):
    """A Stopwatch that runs in every part of a codec for as long as the block lasts."""
    watch = Stopwatch()
    with ExitStack() as patches:
        for owner, name, part in list(_places(codec)):
            patches.enter_context(mock.patch.object(owner, name, watch.timed(getattr(owner, name), part)))
        yield watch


def profile(picture, repeats, threads):
    """Time compress and decompress by parts, each after a warm-up.

    Args:
        picture: H,W,3 uint8.
        repeats: calls to take the mean of.
        threads: for PyTorch.

    Returns:
        {"compress", "decompress"}: {part: seconds}, the largest first; they sum to the mean of a whole call.
    """
    torch.set_num_threads(threads)
    codec = ganlib.load_codec("light")
    data = codec.compress(picture, quality=ours.QUALITY)
    calls = {
        "compress": lambda: codec.compress(picture, quality=ours.QUALITY),
        "decompress": lambda: np.asarray(codec.decompress(data)),
    }
    seconds = {}
    for name, call in calls.items():
        call()
        with watched(codec) as watch:
            for _ in range(repeats):
                with watch.part(REST):
                    call()
        ranked = sorted(watch.seconds.items(), key=lambda item: -item[1])
        seconds[name] = {part: total / repeats for part, total in ranked}
    return seconds


def markdown(seconds):
    """A table for each direction: part, milliseconds, per cent of the whole call."""
    lines = []
    for name, parts in seconds.items():
        whole = sum(parts.values())
        lines += [f"| {name} | ms | % |", "| --- | --- | --- |"]
        lines += [f"| {part} | {1000 * t:.1f} | {100 * t / whole:.1f} |" for part, t in parts.items()]
        lines += [f"| whole call | {1000 * whole:.1f} | 100.0 |", ""]
    return "\n".join(lines)
