"""Shared by all tests: the frozen fixture weights, and photographs that need no network."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

import ganlib

FIXTURES = Path(__file__).parent / "fixtures"
TINY = FIXTURES / "tiny.safetensors"  # frozen: golden.gic decodes with these and no others


@pytest.fixture(scope="session")
def codec():
    """The small fixture model; fast, and not good."""
    return ganlib.load_codec(TINY)


@pytest.fixture(scope="session")
def photo():
    """A 512x512 RGB photograph."""
    return skimage.data.astronaut()


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


def mean_squared_error(a, b):
    return float(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2))
