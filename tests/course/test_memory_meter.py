"""The meter counts the bytes that are there, to the byte, and agrees with what a process holds."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ganlib.course.memory_meter import MemoryBudget

KB = 1024  # bytes of a vector of 256 float32 numbers


def kilobyte():
    return torch.zeros(256)


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


def test_it_counts_its_own_thread_only():
    with MemoryBudget() as budget:
        thread = threading.Thread(target=kilobyte)
        thread.start()
        thread.join()
    assert budget.peak == 0


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
