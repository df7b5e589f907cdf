"""One step of one codec in a process of its own: seconds and peak memory of whole calls.

    SCRIPT CODEC STEP FOLDER --repeats N --threads T     STEP: prepare, encode or decode
    reads  FOLDER/picture.npy, FOLDER/CODEC.stream, and what else its preparation left there
    writes FOLDER/CODEC.STEP.json, and FOLDER/CODEC.stream when encoding

Runs in both environments, so it imports nothing but the standard library and NumPy: the memory that is measured is
that of ganlib, CompressAI or Pillow.
"""

import argparse
import ctypes
import gc
import json
import math
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATIENCE = 60.0  # seconds; a call that takes longer is repeated once, not `repeats` times
MB = 1e6  # bytes


@dataclass(frozen=True)
class Job:
    """What one process is asked to do."""

    codec: str
    step: str
    folder: Path
    repeats: int
    threads: int

    @property
    def picture(self):
        """H,W,3 uint8."""
        return np.load(self.folder / "picture.npy")

    def file(self, suffix):
        """Path of what this codec keeps under that suffix, handed from one step to the next."""
        return self.folder / f"{self.codec}.{suffix}"


class Memory:
    """Resident memory of this process, now and at its highest, in bytes.

    The peak is Linux's VmHWM, which can be set back before a call. ru_maxrss cannot, and a process inherits it from
    the one that started it. It serves where there is no /proc: there, `above` also holds what loading once took.
    """

    def __init__(self):
        self.status = Path("/proc/self/status")
        self.highest = self.peak()

    def _field(self, name):
        line = next(line for line in self.status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    def peak(self):
        """Since the start of the process, or since `forget`."""
        if self.status.exists():
            return self._field("VmHWM")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def forget(self):
        """Let the peak begin anew, and return what is resident now."""
        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)  # else freed memory that glibc keeps would count as in use
        except (OSError, AttributeError):
            pass  # another C library, which has no such call
        self.highest = max(self.highest, self.peak())
        if not self.status.exists():
            return self.peak()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass  # not granted in some containers: the peak stays that of the whole life
        return self._field("VmRSS")


def measure(call, repeats):
    """Run a call once to warm up, then `repeats` times.

    Args:
        call: takes nothing.
        repeats: 1 or more; 1 is enough where the first call took longer than PATIENCE.

    Returns:
        What the call returned, and {"seconds": median, "best_seconds", "repeats", "peak_mb": highest resident memory
        of the process with interpreter, libraries and weights, "above_mb": the highest of a call after the first,
        over what was resident before that call; MB are 10^6 bytes}.
    """
    memory = Memory()
    start = time.perf_counter()
    result = call()
    if time.perf_counter() - start > PATIENCE:
        repeats = 1
    seconds, above = [], []
    for _ in range(repeats):
        del result  # two results at once are no part of a call
        before = memory.forget()
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        above.append(memory.peak() - before)
        memory.highest = max(memory.highest, memory.peak())
    return result, {
        "seconds": statistics.median(seconds),
        "best_seconds": min(seconds),
        "repeats": repeats,
        "peak_mb": memory.highest / MB,
        "above_mb": max(above) / MB,
    }


def kmacs_per_pixel(call, pixels):
    """Thousands of multiply-accumulates a pixel in the convolutions and matrix products that a call executes.

    PyTorch counts them as it runs them, so that nothing is left out: the context model of cheng2020-anchor, which
    runs a position at a time through functions that no hook of a module sees, GDN's 1x1 convolutions, the integer
    inference of ganlib, and the margins of tiles where pictures are coded in tiles.
    """
    import torch  # not at the top: Pillow's processes must not load it
    from torch.utils.flop_counter import FlopCounterMode

    def product(total, a, b, **options):  # shapes: m,n and m,k and k,n
        return 2 * math.prod(a) * b[1]

    # the counter knows the product that adds to a matrix, but not its in-place form, which integer inference uses
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
        call()
    return counter.get_total_flops() / 2 / pixels / 1000  # it counts a multiplication and an addition


def main(prepare, encode, decode):
    """Run the step that the command line names and write its figures.

    Args:
        prepare: Job -> dict of figures; runs first, untimed.
        encode: Job -> a call that returns the bytes of a stream.
        decode: Job -> a call that returns H,W,3 uint8.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec")
    parser.add_argument("step", choices=("prepare", "encode", "decode"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    job = Job(**vars(parser.parse_args()))
    if job.step == "prepare":
        figures = prepare(job)
    elif job.step == "encode":
        data, figures = measure(encode(job), job.repeats)
        job.file("stream").write_bytes(data)
        figures["bytes"] = len(data)
    else:
        image, figures = measure(decode(job), job.repeats)
        expected = job.picture.shape
        if image.dtype != np.uint8 or image.shape != expected:
            raise SystemExit(f"{job.codec} decoded {image.dtype} {image.shape}, not uint8 {expected}")
    job.file(f"{job.step}.json").write_text(json.dumps(figures))
