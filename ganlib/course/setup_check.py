"""Is this machine set up for the course? One line per question, with a remedy."""

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ganlib.codec.codec import load_codec
from ganlib.evaluation import baselines
from ganlib.evaluation.metrics import psnr
from ganlib.model.perceptual_networks import FILES
from ganlib.weights import WeightsError

PYTHON = (3, 11)  # the oldest
FREE_GB = 3.0  # 10^9 bytes: kernels took up to 2, and a browser needs some too
REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"  # of a clone
ROUND_TRIP_DB = 20.0  # any trained model does better on a smooth picture; a damaged one does not


@dataclass(frozen=True)
class Finding:
    """Answer to one question; `remedy` tells what to do where it is not "ok"."""

    state: str  # "ok"; "note": something optional is missing; "fail": notebooks will stop
    what: str
    remedy: str = ""

    def __str__(self):
        return f"[{self.state.upper()}] {self.what}" + (f"\n       -> {self.remedy}" if self.remedy else "")


def _finding(fine, what, remedy, otherwise="fail"):
    return Finding("ok", what) if fine else Finding(otherwise, what, remedy)


def python():
    """Is this Python new enough?"""
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, PYTHON))
    remedy = f"install Python {oldest} or later, then make lab"
    return _finding(sys.version_info >= PYTHON, f"Python {version}", remedy)


def _required(package, requirements):
    """Packages that a package requires, ["numpy==2.4.6", ...]; empty if unknown."""
    if requirements.is_file():  # the metadata of an editable install may be missing or older than the file
        lines = (line.partition("#")[0].strip() for line in requirements.read_text().splitlines())
        return [line for line in lines if line]
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def packages(package="ganlib", requirements=REQUIREMENTS):
    """Are the packages there, in the versions that a package pins?

    Args:
        package: its name; requirements: Path of its requirements.txt. Without it, the installed metadata is used.
    """
    required = _required(package, requirements)
    if not required:
        remedy = "python -m pip install --no-deps -e . in the folder of requirements.txt"
        return Finding("note", f"nothing tells which packages {package} needs", remedy)
    remedy = "python -m pip install -r requirements.txt, then restart the kernel"
    others = []
    for name, pinned in (line.split("==") for line in required):
        try:
            found = importlib.metadata.version(name).split("+")[0]  # 2.11.0+cpu is 2.11.0 built for a CPU
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found != pinned:
            others.append(f"{name} {found} (pinned: {pinned})")
    if not others:
        return Finding("ok", f"{len(required)} packages, as requirements.txt pins them")
    missing = any(" missing " in other for other in others)
    return Finding("fail" if missing else "note", f"other packages than pinned: {', '.join(others)}", remedy)


def torchvision():
    """Do torch and torchvision match? A CPU build of one and a CUDA build of the other do not."""
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        remedy = "install the pair that requirements.txt pins, from one package index"
        return Finding("fail", f"torchvision does not import: {error}", remedy)
    return Finding("ok", f"torch {torch.__version__} and torchvision {torchvision.__version__}")


def weights(name):
    """Does a shipped model load, and can it code and decode a picture?"""
    ramp = np.linspace(40, 215, 64, dtype=np.uint8)
    picture = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 128, np.uint8)], 2)
    remedy = "fetch data/weights/ again: git checkout -- data/weights"
    try:
        codec = load_codec(name)
    except WeightsError as error:
        return Finding("fail", str(error), remedy)
    decoded = np.asarray(codec.decompress(codec.compress(picture)))
    return _finding(psnr(picture, decoded) > ROUND_TRIP_DB, f"the model {name!r} codes and decodes a picture", remedy)


def perception():
    """Can LPIPS, DISTS and the Frechet distance be measured?"""
    missing = ", ".join(str(path) for path in FILES if not path.is_file())
    what = f"{missing} is missing: no perceptual metrics" if missing else "LPIPS, DISTS and patch Frechet distance"
    return _finding(not missing, what, "git checkout -- data/weights/perceptual")


def baseline_codecs():
    """Are the codecs available that ours is compared with?"""
    written = baselines.available()
    missing = [name for name in baselines.CODECS if name not in written]
    what = f"Pillow lacks {', '.join(missing)}" if missing else f"Pillow writes {', '.join(written)}"
    packages = " ".join(sorted({baselines.CODECS[name].package for name in missing}))
    return _finding(not missing, what, f"pip install --force-reinstall {packages}; or charts omit them", "note")


def memory():
    """Is there enough memory? None if the system does not report it."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (ValueError, OSError, AttributeError):
        return None
    return _finding(
        free > FREE_GB, f"{free:.1f} GB of memory free",
        f"close other programs: a notebook and its browser need {FREE_GB:g} GB", "note",
    )  # fmt: skip


def device():
    """What the training will run on."""
    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.get_device_name()}")
    return Finding("ok", f"no GPU: {os.cpu_count()} CPU cores, for which every notebook's time is stated")


def check_setup():
    """Every question above -> list of Finding."""
    findings = [python(), packages(), torchvision(), weights("light"), weights("tiny")]
    findings += [perception(), baseline_codecs(), memory(), device()]
    return [finding for finding in findings if finding]
