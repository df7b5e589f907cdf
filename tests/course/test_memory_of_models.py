"""What a model takes: beyond its budget, in a rehearsal, at the largest image, layer by layer."""

import contextlib
import gc

import pytest
import torch
from torch import nn

from ganlib.config import preset
from ganlib.course.memory_meter import MemoryBudget, largest_image, layer_table, rehearsal
from ganlib.model.compression_model import CompressionModel


def through(model, side, batch=1):
    """x -> g_a -> g_s, noise in place of a photograph."""
    x = torch.rand(batch, 3, side, side)
    one = torch.ones(batch)
    return model.g_s(model.g_a(x), one, one)


def small_model():
    torch.manual_seed(0)
    return CompressionModel(preset("tiny")).eval()


def test_after_the_error_memory_is_free_and_the_process_goes_on():
    model = small_model()
    with MemoryBudget() as outer:
        try:
            with MemoryBudget(limit=3e6) as inner:
                through(model, 256)
        except torch.OutOfMemoryError:
            pass
        gc.collect()
        weights = outer.live  # nothing but the weights that were used
        assert weights <= sum(p.numel() * 4 for p in model.parameters()) + 4096
        assert inner.peak <= 3e6 < outer.peak
        through(model, 64).sum().backward()
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    with MemoryBudget(limit=3e6):
        torch.ones(1000)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("half", [False, True])
def test_a_rehearsal_counts_what_the_run_takes(mode, half):
    model, peaks = small_model(), []
    for context in (contextlib.nullcontext(), rehearsal()):
        with context, mode(), torch.autocast("cpu", torch.bfloat16, half), MemoryBudget() as budget:
            through(model, 256)
        peaks.append(budget.peak)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.02)  # a transposed weight counts twice in a rehearsal
    assert peaks[0] > 256 * 256 * 40


def test_a_rehearsal_counts_accumulated_gradients_too():
    model, peaks = small_model(), []
    for context in (contextlib.nullcontext(), rehearsal()):
        with context, MemoryBudget() as budget:
            for _ in range(2):
                through(model, 128, batch=2).square().mean().backward()
        model.zero_grad(set_to_none=True)
        peaks.append(budget.peak)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.02)


def test_largest_image_is_where_one_step_more_fails():
    tried = []

    def run(side):
        tried.append(side)
        torch.empty(side, side, 4, dtype=torch.uint8)

    limit = 4 * 200**2  # 200 is no multiple of 16: 192 fits, 208 does not
    assert largest_image(run, limit) == 192
    assert 192 in tried and 208 in tried and len(tried) < 12
    assert largest_image(run, limit, multiple=64) == 192
    assert largest_image(run, 4 * 208**2) == 208
    assert largest_image(run, 1) == 0
    tried.clear()
    assert largest_image(run, 1e9, highest=100) == 96
    assert max(tried) == 96


def test_largest_image_of_a_model_can_be_rehearsed():
    model = small_model()

    def run(side):
        with torch.inference_mode():
            through(model, side)

    real = largest_image(run, 2e6)
    with rehearsal():
        assert largest_image(run, 2e6) == real
        assert largest_image(run, 200e6) > 5 * real  # at once, and without 200 MB
    assert 0 < real < 1024


def test_largest_image_lets_other_errors_through():
    def run(side):
        raise KeyError(side)

    with pytest.raises(KeyError):
        largest_image(run, 1e6)


def test_layer_table_lists_the_layers_in_order():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 64, 5))
    with torch.inference_mode():
        table = layer_table(model, torch.rand(2, 3, 16, 16))
    assert list(table.columns) == ["name", "resolution", "channels", "output_mb", "live_mb", "peak_mb"]
    assert list(table["name"]) == ["0", "1", "2", "3"]
    assert list(table["resolution"]) == ["16x16", "8x8", "", ""]
    assert list(table["channels"]) == [8, 8, 512, 5]
    assert list(table["output_mb"] * 1e6) == pytest.approx([2 * 8 * 256 * 4, 2 * 8 * 64 * 4, 2 * 8 * 64 * 4, 40])
    assert table["peak_mb"].is_monotonic_increasing and (table["live_mb"] <= table["peak_mb"]).all()
    assert not any(layer._forward_hooks for layer in model.modules())


def test_layer_table_leaves_no_hooks_behind_an_error():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    with pytest.raises(RuntimeError):
        layer_table(model, torch.rand(1, 4, 8, 8))
    assert not model[0]._forward_hooks


def test_before_spends_its_memory_at_full_resolution():
    def at_full_resolution(name):
        model = CompressionModel(preset(name))
        with rehearsal(), torch.inference_mode():
            table = layer_table(model.g_a, torch.rand(1, 3, 64, 64))
        return table.loc[table["resolution"] == "64x64", "output_mb"].sum() / table["output_mb"].sum()

    assert at_full_resolution("before") > 0.6
    assert at_full_resolution("light") == 0
