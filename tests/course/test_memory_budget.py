"""A budget stops what exceeds it, says so, and leaves everything as it was; on a GPU it asks the allocator."""

import pytest
import torch

from ganlib.course.memory_meter import MemoryBudget

KB = 1024  # bytes of a vector of 256 float32 numbers


def kilobyte():
    return torch.zeros(256)


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


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="positive number of bytes"):
        MemoryBudget(limit)


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
