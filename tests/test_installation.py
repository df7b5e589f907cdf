"""The wheel: all of the package, what ships with it, its dependencies, and a codec that works away from the clone."""

import ast
import email
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganlib
from ganlib.evaluation.metrics import psnr

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (  # of data/
    "weights/*.safetensors", "weights/earlier/*.safetensors", "weights/perceptual/*.safetensors",
    "weights/discriminators/*.safetensors", "reference/*.csv",
)  # fmt: skip


def pins():
    """{package: version} of requirements.txt."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if line)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the clone, since setuptools writes into the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "report", "downloads")
    for name in ("ganlib", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    return next(folder.glob("ganlib-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder like site-packages, with the wheel in it."""
    folder = tmp_path_factory.mktemp("site-packages")
    pip("install", "--target", folder, wheel)
    return folder


def pip(command, *arguments):
    """pip, without a network and without dependencies."""
    command = [sys.executable, "-m", "pip", command, "--no-deps", "--no-index", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(installed, cwd, *command):
    """A command in a folder of its own, where ganlib is the installed one -> what it prints."""
    environment = os.environ | {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_what_ships_with_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("ganlib/")}
    package = [path for path in (ROOT / "ganlib").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    code = {path.relative_to(ROOT).as_posix() for path in package}
    data = {
        path.relative_to(ROOT / "data").as_posix() for pattern in SHIPPED for path in (ROOT / "data").glob(pattern)
    }
    assert {"weights/light.safetensors", "reference/published_rd.csv"} < data
    assert "weights/discriminators/light.safetensors" in data
    assert held == code | {f"ganlib/_data/{name}" for name in data}


def test_dependencies_are_those_of_the_requirements(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert dict(line.split("==") for line in metadata.get_all("Requires-Dist")) == pins()
    assert metadata["Version"] == ganlib.__version__
    assert "ganlib = ganlib.__main__:main" in entry_points


def test_every_package_that_is_imported_is_a_requirement():
    ours = {"ganlib", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    ours |= {"compressai"}  # in an environment of its own, see tests/benchmarks/requirements.txt
    imported = set()
    for folder in ("ganlib", "tests", "notebooks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {name.name.split(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    imported.add(node.module.split(".")[0])
    providers, required = packages_distributions(), {name.lower().replace("_", "-") for name in pins()}
    missing = [
        name
        for name in sorted(imported - sys.stdlib_module_names - ours)
        if not required & {provider.lower().replace("_", "-") for provider in providers.get(name, [])}
    ]
    assert missing == []


def test_pictures_are_coded_away_from_the_clone(installed, tmp_path, photo):
    Image.fromarray(photo[:96, :128]).save(tmp_path / "photo.png")
    ganlib = installed / "bin" / "ganlib"
    run(installed, tmp_path, ganlib, "compress", "photo.png", "--quality", "60")
    run(installed, tmp_path, ganlib, "decompress", "photo.gic", "-o", "back.png", "--realism", "1")
    assert psnr(photo[:96, :128], np.asarray(Image.open(tmp_path / "back.png"))) > 25


def test_an_installed_package_measures_and_downloads_elsewhere(installed, tmp_path):
    program = """
import ganlib
from ganlib.datasets.sources import DOWNLOADS
from ganlib.evaluation.published import published
from ganlib.model.perceptual_networks import load_dists, load_lpips, load_vgg16

load_lpips(), load_dists(), load_vgg16()
print(ganlib.__file__, len(published()) > 100, DOWNLOADS, sep="|")
"""
    place, complete, downloads = run(installed, tmp_path, sys.executable, "-c", program).strip().split("|")
    assert Path(place) == installed / "ganlib" / "__init__.py"
    assert complete == "True"
    assert not Path(downloads).is_relative_to(installed) and not Path(downloads).is_relative_to(ROOT)
