"""Windows: they agree with the whole, leave no seam, and bound memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TINY, latents, mean_squared_error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ganlib
from ganlib.codec import windows
from ganlib.codec.geometry import Area
from ganlib.codec.pixel_tensors import to_pixels, to_tensor
from ganlib.codec.windows import Windows
from ganlib.course.memory_meter import MemoryBudget

EVERYTHING = 2**20  # a window larger than any picture here


@pytest.fixture
def windowed(codec, monkeypatch):
    def use(window):
        monkeypatch.setattr(codec, "_window", window)
        return codec

    return use


@given(height=st.integers(1, 400), width=st.integers(1, 400), side=st.integers(1, 5), gray=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_give_what_the_whole_gives(codec, photo, height, width, side, gray):
    pixels = photo[100 : 100 + height, 50 : 50 + width]
    pixels = pixels[..., 1] if gray else pixels
    whole, parts = Windows(codec.model, EVERYTHING), Windows(codec.model, side)
    y, y_parts = whole.analyse(pixels), parts.analyse(pixels)
    assert y.shape == (-(-height // 16), -(-width // 16), codec.model.config.latent_channels)
    assert np.abs(y - y_parts).max() < 1e-5
    steps, area = (y * 30).round(), Area.of_picture(height, width)
    channels = 1 if gray else 3
    bands = [
        np.concatenate([band.copy() for band in w.synthesize(steps, area, area, 5000, 1.0, channels)]).astype(int)
        for w in (whole, parts)
    ]
    assert bands[0].shape[:2] == (16 * y.shape[0], 16 * y.shape[1]) and bands[0].ndim == pixels.ndim
    assert np.abs(bands[0] - bands[1]).max() <= 1


def test_symbols_agree_but_for_ties(windowed, photo):
    whole = latents(windowed(EVERYTHING), windowed(EVERYTHING).compress(photo, quality=80))
    parts = latents(windowed(64), windowed(64).compress(photo, quality=80))
    assert np.abs(whole).max() > 3 and (whole != parts).mean() < 1e-5


def test_half_precision_agrees_with_float32(codec, photo):
    half = ganlib.load_codec(TINY, precision="bf16")
    data = codec.compress(photo)
    assert abs(len(half.compress(photo)) / len(data) - 1) < 0.02
    a, b = (np.asarray(c.decompress(data, realism=1.0)).astype(int) for c in (codec, half))
    assert 0 < np.abs(a - b).max() <= 6 and np.abs(a - b).mean() < 0.5
    with pytest.raises(ValueError, match="precision='half'"):
        ganlib.load_codec(TINY, precision="half")


def border_error(picture, photo, side):
    """Mean squared error next to the borders of windows, and elsewhere."""
    error = ((np.asarray(picture).astype(float) - photo) ** 2).mean(axis=2)
    near = np.zeros(error.shape, bool)
    for axis, n in enumerate(error.shape):
        for border in range(side, n, side):
            near[(slice(None),) * axis + (slice(border - 1, border + 1),)] = True
    return error[near].mean(), error[~near].mean()


def test_no_seam_can_be_measured(windowed, photo):
    data = windowed(EVERYTHING).compress(photo, quality=50)
    near, elsewhere = border_error(windowed(EVERYTHING).decompress(data, realism=1.0), photo, 64)
    near_in_windows, elsewhere_in_windows = border_error(windowed(64).decompress(data, realism=1.0), photo, 64)
    assert near_in_windows / elsewhere_in_windows == pytest.approx(near / elsewhere, rel=0.002)


def test_with_too_narrow_a_halo_a_seam_shows(windowed, photo, monkeypatch):
    data = windowed(EVERYTHING).compress(photo, quality=50)
    whole = windowed(EVERYTHING).decompress(data)
    near, elsewhere = border_error(whole, photo, 64)
    monkeypatch.setattr(windows, "halos", lambda model: (0, 0))
    seamed, _ = border_error(windowed(64).decompress(data), photo, 64)
    assert seamed > 1.1 * near
    assert mean_squared_error(windowed(64).decompress(data), np.asarray(whole)) > 0.5


def test_windows_that_are_no_multiple_of_16_are_refused(codec):
    for window in (0, -16, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="window="):
            codec.window = window
    for window in (100, 16.5):
        with pytest.raises(ValueError, match="multiple of 16"):
            codec.window = window
    for window in ("1024", None, True):
        with pytest.raises(TypeError, match="window="):
            codec.window = window
    assert codec.window == 1024


def test_live_tensors_do_not_grow_with_the_picture(codec, photo):
    peaks = []
    for repeats in (1, 3):
        pixels = np.tile(photo, (repeats, 1, 1))
        with MemoryBudget() as budget:
            parts, area = Windows(codec.model, 4), Area.of_picture(*pixels.shape[:2])
            y = parts.analyse(pixels)
            for _ in parts.synthesize(y, area, area, 5000, 0.0):
                pass
        peaks.append(budget.peak)
    assert peaks[1] <= 1.01 * peaks[0]


RESIDENT = """
import sys, numpy as np, ganlib
from ganlib.codec import mapped_arrays
mapped_arrays.LARGEST_IN_MEMORY = 2**21
codec = ganlib.load_codec(sys.argv[1], precision="no")
codec.window = 256
pattern = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
for side in (1024, 3072):
    pixels = np.lib.format.open_memmap(sys.argv[2], "w+", np.uint8, (side, side, 3))
    for top in range(0, side, 256):
        pixels[top : top + 256] = np.tile(pattern, (1, side // 256, 1))
        mapped_arrays.release(pixels)
    data = codec.compress(pixels, quality=0)
    codec.decompress(data, out=pixels)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]))  # the most so far
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_hardly_grows_with_the_picture(tmp_path):
    """A picture of 1 megapixel and one of 9.4; pixels and latents of the larger are 113 MB in memory."""
    command = [sys.executable, "-c", RESIDENT, str(TINY), str(tmp_path / "pixels.npy")]
    small, large = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert large - small < 40_000  # kB


def test_pixels_survive_the_way_to_a_tensor_and_back(photo):
    x = to_tensor(photo[:40, :50])
    assert x.shape == (1, 3, 40, 50) and x.dtype == torch.float32 and 0 <= x.min() < x.max() <= 1
    assert np.array_equal(to_pixels(x[0].permute(1, 2, 0)), photo[:40, :50])
    assert to_pixels(torch.tensor([[-0.1, 0.5, 1.1]])).tolist() == [[0, 128, 255]]
