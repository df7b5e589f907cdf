"""The meter counts the bytes that are there, and the budget stops what exceeds it."""

import contextlib
import gc
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ganlib.config import preset
from ganlib.course.memory_meter import MemoryBudget, largest_image, layer_table, rehearsal
from ganlib.model.compression_model import CompressionModel

KB = 1024  # bytes of a vector of 256 float32 numbers


def kilobyte():
    return torch.zeros(256)


def through(model, side, batch=1):
    """x -> g_a -> g_s, noise in place of a photograph."""
    x = torch.rand(batch, 3, side, side)
    one = torch.ones(batch)
    return model.g_s(model.g_a(x), one, one)


def small_model():
    torch.manual_seed(0)
    return CompressionModel(preset("tiny")).eval()


def test_known_allocations_are_counted_to_the_byte():
    with MemoryBudget() as budget:
        a = kilobyte()
        assert (budget.live, budget.peak) == (KB, KB)
        b = torch.zeros(128, dtype=torch.float64)
        assert (budget.live, budget.peak) == (2 * KB, 2 * KB)
        del a
        assert (budget.live, budget.peak) == (KB, 2 * KB)
        b = b.to(torch.uint8)  # 128 bytes, while the float64 still lives
        assert (budget.live, budget.peak) == (128, 2 * KB)
    assert (budget.live, budget.peak) == (128, 2 * KB)


def test_views_and_in_place_operations_add_nothing():
    with MemoryBudget() as budget:
        a = kilobyte()
        view = a.view(16, 16).t()[2:].expand(3, 14, 16).unbind()[0]
        a.add_(1).relu_()
        view.mul_(2)
        torch.sin(a, out=a)
        assert (budget.live, budget.peak) == (KB, KB)
        del a
        assert budget.live == KB  # the view holds the storage
        del view
        assert budget.live == 0


def test_resizing_a_storage_is_followed():
    with MemoryBudget() as budget:
        a = kilobyte()
        a.resize_(1024)
        assert budget.live == budget.peak == 4 * KB
        a.untyped_storage().resize_(0)
        a.detach()  # a resize without an operation is seen with the next one
        assert budget.live == 0


def test_what_was_there_before_counts_once_it_is_used():
    weight, idle = kilobyte(), kilobyte()
    with MemoryBudget() as budget:
        assert budget.live == 0
        result = weight + 1
        assert budget.live == 2 * KB
        result = result + weight
        assert (budget.live, budget.peak) == (2 * KB, 3 * KB)
    assert idle.sum() == 0 and result.sum() == 256


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_chain_of_layers_peaks_where_it_is_reckoned(mode):
    layers = nn.Sequential(*(nn.Conv2d(c, d, 1, bias=False) for c, d in ((1, 8), (8, 4), (4, 1))))
    weights = 4 * (8 + 32 + 4)
    plane = 4 * 32 * 32
    with mode(), MemoryBudget() as budget:
        x = torch.rand(1, 1, 32, 32)
        layers(x)
    # autograd keeps every input; else a layer's input goes with the next layer's output
    kept = plane * (1 + 8 + 4 + 1) + weights if mode is torch.enable_grad else plane * (1 + 8 + 4) + weights - 16
    assert budget.peak == kept


def test_composite_operations_are_taken_apart_in_inference_mode():
    def work():
        a = torch.rand(64, 64)
        return torch.linalg.multi_dot([a, a, a, a]).sum()

    peaks = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), MemoryBudget() as budget:
            work()
        peaks.append(budget.peak)
    assert peaks == [3 * 64 * 64 * 4] * 2  # a, one product, the next; unopened, the product within would be missing


def test_backward_is_counted_and_frees_what_forward_saved():
    weight = torch.rand(256, requires_grad=True)
    with MemoryBudget() as budget:
        loss = weight.exp().exp().exp().sum()
        forward = budget.live
        assert forward == 4 * KB + 4  # the weight, three results that backward needs, the loss
        loss.backward()
        assert weight.grad is not None
        assert budget.live == 2 * KB + 4  # the weight, its gradient, the loss
        assert budget.peak > forward


def test_checkpointing_lowers_the_peak_and_gives_the_same_gradient():
    torch.manual_seed(0)
    block = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()) for _ in range(6)))
    x = torch.rand(1, 8, 64, 64)
    results = []
    for call in (lambda h, part: part(h), lambda h, part: checkpoint(part, h, use_reentrant=False)):
        block.zero_grad()
        with MemoryBudget() as budget:
            h = x
            for part in (block[:3], block[3:]):
                h = call(h, part)
            h.square().mean().backward()
        results.append((budget.peak, block[0][0].weight.grad.clone()))
        del h
    assert results[1][0] < 0.8 * results[0][0]
    assert torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_beyond_the_limit_it_raises_what_a_card_would(mode):
    with mode(), MemoryBudget() as budget:
        a = kilobyte()
        b = a + a
        del a, b
    with mode(), MemoryBudget(limit=budget.peak) as budget:  # exactly enough
        a = kilobyte()
        b = a + a
        del a, b
    with mode(), pytest.raises(torch.OutOfMemoryError) as caught, MemoryBudget(limit=budget.peak - 1):
        a = kilobyte()
        a + a
    assert isinstance(caught.value, RuntimeError)
    assert "asked for 0.0 MB with 0.0 MB in use, and the limit is 0.0 MB" in str(caught.value)
    assert "inference_mode" in str(caught.value) and "tiles" in str(caught.value)


def test_the_message_holds_the_numbers():
    told = r"ones.* asked for 8.0 MB with 4.0 MB in use, and the limit is 10.0 MB"
    with pytest.raises(torch.OutOfMemoryError, match=told), MemoryBudget(limit=10e6):
        kept = torch.ones(1_000_000)
        kept = [kept, torch.ones(2_000_000)]


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


def test_budgets_nest_and_the_tighter_one_speaks():
    with MemoryBudget(limit=100 * KB) as outer:
        a = kilobyte()
        with MemoryBudget(limit=10 * KB) as inner:
            b = a + 1
            with pytest.raises(torch.OutOfMemoryError, match="limit is 0.0 MB"):
                torch.zeros(256 * 20)
        c = torch.zeros(256 * 20)
        assert (inner.peak, outer.live) == (2 * KB, 22 * KB)
        with pytest.raises(torch.OutOfMemoryError), MemoryBudget():
            torch.zeros(256 * 200)
        del a, b, c
    assert outer.peak == 22 * KB


def test_an_error_inside_passes_through_and_ends_the_count():
    with pytest.raises(ZeroDivisionError), MemoryBudget() as budget:
        kilobyte()
        1 / 0  # noqa: B018
    kilobyte(), kilobyte()
    assert budget.peak == KB


def test_a_budget_used_twice_begins_at_zero():
    budget = MemoryBudget()
    for count in (3, 1):
        with budget:
            kept = [kilobyte() for _ in range(count)]
        assert budget.peak == budget.live == count * KB
        kept.clear()


def test_it_counts_its_own_thread_only():
    with MemoryBudget() as budget:
        thread = threading.Thread(target=kilobyte)
        thread.start()
        thread.join()
    assert budget.peak == 0


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="positive number of bytes"):
        MemoryBudget(limit)


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


RESIDENT = """
import torch
from ganlib.config import preset
from ganlib.course.memory_meter import MemoryBudget
from ganlib.model.compression_model import CompressionModel

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

@torch.inference_mode()
def run(part, channels, side, *others):
    part(torch.rand(1, channels, side, side).contiguous(memory_format=torch.channels_last), *others)

torch.manual_seed(0)
model = CompressionModel(preset("light")).eval().to(memory_format=torch.channels_last)
one = torch.ones(1)
latents = model.config.latent_channels
for part, channels, side, others in ((model.g_a, 3, 1024, ()), (model.g_s, latents, 64, (one, one))):
    weights = sum(4 * p.numel() for p in part.parameters())
    run(part, channels, 16, *others)  # kernels compiled, threads started
    open("/proc/self/clear_refs", "w").write("5")  # the high-water mark falls to what is resident now
    resident = status("VmRSS")
    run(part, channels, side, *others)
    resident = status("VmHWM") - resident
    with MemoryBudget() as budget:  # apart: its first use loads parts of PyTorch that are resident too
        run(part, channels, side, *others)
    print(resident, budget.peak - weights)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark of memory is Linux's")
def test_the_meter_agrees_with_the_resident_memory_of_a_process():
    """g_a and g_s at one megapixel, channels_last: there oneDNN needs few copies, which the meter cannot see.

    The C library keeps small blocks that were freed; where it maps each tensor by itself, it gives them back.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", RESIDENT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        resident, metered = map(int, line.split())
        assert metered == pytest.approx(resident, rel=0.15)


class FakeCuda:
    """An allocator that counts: what torch.cuda tells of one, without a GPU."""

    total = 1000 * KB

    def __init__(self, monkeypatch):
        self.now = self.top = 0
        self.fraction, self.emptied = 1.0, 0
        properties = type("Properties", (), {"total_memory": self.total})
        for name, function in {
            "memory_allocated": lambda device: self.now,
            "max_memory_allocated": lambda device: self.top,
            "reset_peak_memory_stats": lambda device: setattr(self, "top", self.now),
            "get_per_process_memory_fraction": lambda device: self.fraction,
            "set_per_process_memory_fraction": lambda fraction, device: setattr(self, "fraction", fraction),
            "get_device_properties": lambda device: properties,
            "empty_cache": lambda: setattr(self, "emptied", self.emptied + 1),
        }.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def allocate(self, size):
        if self.now + size > self.fraction * self.total:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.now += size
        self.top = max(self.top, self.now)


def test_on_a_gpu_the_allocator_is_asked_and_limited(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    cuda.allocate(10 * KB)
    with MemoryBudget(limit=100 * KB, device="cuda") as outer:
        assert cuda.fraction == pytest.approx(0.1)
        cuda.allocate(50 * KB)
        cuda.now -= 40 * KB
        with MemoryBudget(limit=500 * KB, device="cuda") as inner:
            assert cuda.fraction == pytest.approx(0.1)  # the outer limit holds on
            cuda.allocate(10 * KB)
        assert (inner.peak, inner.live, cuda.fraction) == (30 * KB, 30 * KB, pytest.approx(0.1))
        assert outer.peak == 60 * KB  # though the inner one reset the allocator's mark
    assert cuda.fraction == 1.0
    cuda.allocate(500 * KB)
    assert outer.peak == 60 * KB


def test_on_a_gpu_the_error_gets_the_remedy_and_the_limit_goes(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    with pytest.raises(torch.OutOfMemoryError) as caught, MemoryBudget(limit=100 * KB, device="cuda"):
        cuda.allocate(101 * KB)
    assert "tiles" in caught.value.__notes__[0]
    assert (cuda.fraction, cuda.emptied) == (1.0, 1)
