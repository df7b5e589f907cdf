"""Windows: they cover everything once, see far enough, agree with the whole, leave no seam, and bound memory."""

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
from ganlib.config import PRESETS, STRIDE
from ganlib.course.memory_meter import MemoryBudget
from ganlib.model.compression_model import CompressionModel
from ganlib.codec.windows import Area, Windows

EVERYTHING = 2**20  # a window larger than any picture here


@pytest.fixture
def windowed(codec, monkeypatch):
    def use(window):
        monkeypatch.setattr(codec, "_window", window)
        return codec

    return use


@given(
    top=st.integers(0, 9), left=st.integers(0, 9), h=st.integers(1, 90), w=st.integers(1, 90), side=st.integers(1, 40)
)
@settings(deadline=None)
def test_windows_cover_an_area_once_and_are_no_larger_than_asked(top, left, h, w, side):
    count = np.zeros((100, 100), int)
    rows = Area(top, left, top + h, left + w).cut(side)
    for row in rows:
        assert len({(window.top, window.bottom) for window in row}) == 1
        for window in row:
            assert 0 < min(window.shape) and max(window.shape) <= side
            count[window.slices] += 1
    assert count.sum() == h * w and (count[top : top + h, left : left + w] == 1).all()


@pytest.mark.parametrize("name", ["tiny", "light", "before"])
def test_reach_is_as_far_as_a_gradient_comes(name):
    """The oracle is autograd: where the gradient of one output is not zero, there it can see."""
    torch.manual_seed(0)
    model = CompressionModel(PRESETS[name])
    positions = 25  # latents on a line; the middle one is looked at
    middle, one = positions // 2, torch.zeros(1)
    x = torch.rand(1, 3, STRIDE, positions * STRIDE, requires_grad=True)
    model.g_a(x)[0, :, 0, middle].square().sum().backward()
    seen = x.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    further = max(middle * STRIDE - seen.min(), seen.max() - ((middle + 1) * STRIDE - 1)).item()
    reach = windows.reach(model.g_a.cnn)
    assert reach - STRIDE < further <= reach  # max-pooling hands the gradient to one of its inputs only

    y_hat = torch.rand(1, model.config.latent_channels, 1, positions, requires_grad=True)
    x_hat = model.g_s(y_hat, one, one)[..., middle * STRIDE : (middle + 1) * STRIDE]
    x_hat.square().sum().backward()
    seen = y_hat.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    assert max(middle - seen.min(), seen.max() - middle).item() == windows.halos(model)[1]


@given(height=st.integers(1, 400), width=st.integers(1, 400), side=st.integers(1, 5), gray=st.booleans())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_give_what_the_whole_gives(codec, photo, height, width, side, gray):
    pixels = photo[100 : 100 + height, 50 : 50 + width]
    pixels = pixels[..., 1] if gray else pixels
    whole, parts = Windows(codec.model, EVERYTHING), Windows(codec.model, side)
    y, y_parts = whole.analyse(pixels), parts.analyse(pixels)
    assert y.shape == (-(-height // 16), -(-width // 16), codec.model.config.latent_channels)
    assert np.abs(y - y_parts).max() < 1e-5
    steps, area = (y * 30).round(), windows.whole(height, width)
    channels = 1 if gray else 3
    bands = [
        np.concatenate([band.copy() for band in w.synthesize(steps, area, area, 50, 1.0, channels)]).astype(int)
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
    for window in (0, -16, 100):
        with pytest.raises(ValueError, match="multiple of 16"):
            codec.window = window


def test_live_tensors_do_not_grow_with_the_picture(windowed, photo):
    codec, peaks = windowed(64), []
    for repeats in (1, 3):
        pixels = np.tile(photo, (repeats, 1, 1))
        with MemoryBudget() as budget:
            y = codec._windows.analyse(pixels)
            area = windows.whole(*pixels.shape[:2])
            for _ in codec._windows.synthesize(y, area, area, 50, 0.0):
                pass
        peaks.append(budget.peak)
    assert peaks[1] <= 1.01 * peaks[0]


RESIDENT = """
import sys, numpy as np, ganlib
from ganlib.codec import mapped_arrays
mapped_arrays.LARGEST_IN_MEMORY = 2**21
codec = ganlib.load_codec(sys.argv[1], precision="no")
codec.window = 256
path, side = sys.argv[2], int(sys.argv[3])
pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (side, side, 3))
pattern = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
for top in range(0, side, 256):
    pixels[top : top + 256] = np.tile(pattern, (1, side // 256, 1))
    mapped_arrays.release(pixels)
data = codec.compress(pixels, quality=0)
codec.decompress(data, out=pixels)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_hardly_grows_with_the_picture(tmp_path):
    """A picture of 1 megapixel and one of 9.4; pixels and latents of the larger are 113 MB in memory."""
    peaks = []
    for side in (1024, 3072):
        command = [sys.executable, "-c", RESIDENT, str(TINY), str(tmp_path / "pixels.npy"), str(side)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 40_000  # kB
