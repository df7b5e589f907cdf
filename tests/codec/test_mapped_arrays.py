"""Arrays larger than memory: where they lie, and that letting go of pages loses nothing."""

import errno
import os
import sys

import numpy as np
import pytest

from ganlib.codec import mapped_arrays


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(mapped_arrays, "LARGEST_IN_MEMORY", 1000)


def test_small_arrays_are_in_memory_and_large_ones_in_a_file(little):
    assert not isinstance(mapped_arrays.array((10, 100), np.uint8), np.memmap)
    large = mapped_arrays.array((10, 101), np.uint8)
    assert isinstance(large, np.memmap) and large.shape == (10, 101) and not large.any()


def test_released_pages_leave_memory_and_come_back():
    array = mapped_arrays.array((2**26,), np.uint8)
    before = _resident()
    array[:] = 7
    full = _resident()
    mapped_arrays.release(array[5:10].reshape(5, 1))  # a view of a view
    assert (array == 7).all()
    mapped_arrays.release(array)
    if sys.platform == "linux":
        assert full - before > 60_000 and _resident() - before < 10_000  # kB


def _resident():
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_private_copies_and_arrays_in_memory_are_left_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(10_000))
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[:] = 3
    plain = np.ones(5)
    mapped_arrays.release(private, plain, plain[1:])
    assert (private == 3).all() and (plain == 1).all()


def test_other_peoples_mapped_files_keep_what_was_written(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(10_000))
    array = np.load(tmp_path / "a.npy", mmap_mode="r+")
    array[:] = 3
    mapped_arrays.release(np.asarray(array))
    assert (array == 3).all() and (np.load(tmp_path / "a.npy") == 3).all()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="not on this system")
def test_a_full_disk_is_told_before_it_kills(little, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="TMPDIR") as error:
        mapped_arrays.array((10**6,), np.uint8)
    assert error.value.errno == errno.ENOSPC
