"""Weights that become a shipped model, and what happens to those that they replace."""

import shutil

import pytest
import torch
from conftest import TINY

from ganlib import WeightsError
from ganlib.cli import ship
from ganlib.version import __version__
from ganlib.weights import load_weights, save_weights


def changed(path, part):
    """TINY with one number more in a weight of a part -> Path."""
    weights = load_weights(TINY)
    with torch.no_grad():
        next(weights.model.get_submodule(part).parameters()).view(-1)[0] += 1
    save_weights(weights.model, path)
    return path


def test_what_is_replaced_is_kept_where_its_files_need_it(tmp_path):
    target, earlier = tmp_path / "shipped" / "tiny.safetensors", tmp_path / "shipped" / "earlier"
    target.parent.mkdir()
    ship.main([str(TINY), str(target)])
    assert target.read_bytes() == TINY.read_bytes() and not earlier.exists()

    generator = changed(tmp_path / "generator.safetensors", "g_s")
    ship.ship(generator, target)  # it decodes the same latents from old files
    assert target.read_bytes() == generator.read_bytes() and not earlier.exists()

    others = [changed(tmp_path / f"{n}.safetensors", "entropy.contexts.0") for n in range(2)]
    marks = [load_weights(target).fingerprint]
    ship.ship(others[0], target)
    assert [path.name for path in earlier.iterdir()] == [f"tiny-{__version__}.safetensors"]
    marks.append(load_weights(target).fingerprint)
    ship.ship(TINY, target)
    assert sorted(path.name for path in earlier.iterdir()) == [
        f"tiny-{__version__}-2.safetensors",
        f"tiny-{__version__}.safetensors",
    ]
    kept = {load_weights(path).fingerprint for path in earlier.iterdir()}
    assert kept == set(marks) and target.read_bytes() == TINY.read_bytes()


def test_what_is_no_weights_changes_nothing(tmp_path):
    target, nothing = tmp_path / "tiny.safetensors", tmp_path / "nothing.safetensors"
    shutil.copyfile(TINY, target)
    nothing.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="holds no ganlib weights"):
        ship.ship(nothing, target)
    assert target.read_bytes() == TINY.read_bytes()
    target.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="holds no ganlib weights"):
        ship.ship(TINY, target)
    assert target.read_bytes() == b"something else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nothing.safetensors", "tiny.safetensors"]
