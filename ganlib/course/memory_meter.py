"""A meter for memory and a budget that it enforces, with or without a GPU.

On a GPU the allocator reports how much memory is in use. On a CPU there is no such report, so the meter watches every
operation:

    operation --> its inputs, its outputs --> their storages, each once --> live bytes --> peak, limit
                                              a storage is freed ---------> live bytes fall

It counts storages, which hold the numbers: a view shares its tensor's, an in-place operation writes into an
existing one, so neither adds a byte. A storage counts from the first operation that touches it, whatever created it.
So inputs and weights count once they are used, and weights that stay unused do not.
"""

import functools
import weakref

import pandas as pd
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

MB = 1e6  # bytes
REMEDY = "Make the image or the batch smaller, run under torch.inference_mode(), or work in tiles"


class StorageMeter(TorchDispatchMode):
    """Follows the storages of all tensors that operations of this thread touch; the CPU's half of MemoryBudget.

    Not counted: memory that a kernel allocates and frees within one operation. On a CPU that is mostly oneDNN, which
    copies the tensors of a convolution into its own layout, unless they are channels_last.

    Args:
        limit: bytes, or None for no limit.
    """

    def __init__(self, limit=None):
        super().__init__()
        self.limit, self.live, self.peak = limit, 0, 0
        self._storages = {}  # id -> [weak reference, bytes]; an id is not reused before its storage is freed

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        before = self.live
        self._see((args, kwargs))
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            # autograd, which decomposes composite operations, is off: do it here, else their parts are not seen
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self._see(result)
        if self.limit is not None and self.live > self.limit:
            asked, used = self.live - before, before
            del result
            raise torch.OutOfMemoryError(
                f"out of memory: {func} asked for {asked / MB:.1f} MB with {used / MB:.1f} MB in use, and the limit "
                f"is {self.limit / MB:.1f} MB. {REMEDY}"
            )
        self.peak = max(self.peak, self.live)
        return result

    def _see(self, values):
        for tensor in tree_iter(values):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            known = self._storages.get(key)
            if known is None:
                known = [weakref.ref(storage, functools.partial(self._forget, key)), 0]
                self._storages[key] = known
            self.live += size - known[1]  # a storage that is known may have been resized
            known[1] = size

    def _forget(self, key, _):
        if key in self._storages:
            self.live -= self._storages.pop(key)[1]

    def stop(self):
        """Forget all storages; `live` and `peak` stay unchanged."""
        self._storages.clear()


class AllocatorMeter:
    """Asks CUDA's caching allocator; the GPU's half of MemoryBudget.

    Counts all memory that is allocated on the device, used or not, with the workspace of convolutions. The limit
    applies to what the allocator reserves, in blocks of some megabytes, so it is reached a little early.

    Args:
        limit: bytes, or None for no limit.
        device: "cuda" or "cuda:N".
    """

    _open = []  # the allocator keeps one peak for all: an inner meter resets it, so outer ones record it before

    def __init__(self, limit, device):
        self.limit, self.device, self._peak, self._live = limit, device, 0, 0

    @property
    def live(self):
        return torch.cuda.memory_allocated(self.device) if self in self._open else self._live

    @property
    def peak(self):
        if self in self._open:
            return max(self._peak, torch.cuda.max_memory_allocated(self.device))
        return self._peak

    def _note_peaks(self):
        for meter in self._open:
            meter._peak = meter.peak

    def __enter__(self):
        self._note_peaks()
        torch.cuda.reset_peak_memory_stats(self.device)
        self._fraction = torch.cuda.get_per_process_memory_fraction(self.device)
        if self.limit is not None:
            share = self.limit / torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(share, self._fraction), self.device)
        self._open.append(self)

    def __exit__(self, kind, error, traceback):
        self._note_peaks()
        self._live = self.live
        self._open.remove(self)
        torch.cuda.set_per_process_memory_fraction(self._fraction, self.device)
        if isinstance(error, torch.OutOfMemoryError):
            if self.limit is not None:
                error.add_note(f"The limit is {self.limit / MB:.1f} MB. {REMEDY}.")
            torch.cuda.empty_cache()

    def stop(self):
        """Nothing to forget."""


class MemoryBudget:
    """Measures the peak of live tensors' bytes, and raises torch.OutOfMemoryError beyond a limit.

        with MemoryBudget(limit=500e6) as budget, torch.inference_mode():
            model(x)
        budget.peak  # bytes

    Forward and backward passes, inference mode and budgets inside budgets are all counted. On a CPU the error
    comes after an operation has run, so that the machine needs memory for one output beyond the limit. After the
    error all is as before; results are freed with the last variable that holds them.

    Args:
        limit: bytes of live tensors, inputs and used weights included; None only measures.
        device: "cpu" counts the tensors of every operation in this thread, with or without data (`rehearsal`);
            "cuda" asks the allocator.

    Raises:
        ValueError: the limit is not positive.
        torch.OutOfMemoryError: inside, beyond the limit. It says how much was asked for, how much was in use, and
            what to do.
    """

    def __init__(self, limit=None, device="cpu"):
        if limit is not None and not limit > 0:
            raise ValueError(f"limit={limit} must be a positive number of bytes, or None to measure only")
        self.limit, self.device = limit, torch.device(device)
        self._meter = self._new()

    def _new(self):
        on_gpu = self.device.type == "cuda"
        return AllocatorMeter(self.limit, self.device) if on_gpu else StorageMeter(self.limit)

    @property
    def live(self):
        """Bytes in use now; after the end, bytes in use at the end."""
        return int(self._meter.live)

    @property
    def peak(self):
        """The most bytes in use at one time, since the beginning."""
        return int(self._meter.peak)

    def __enter__(self):
        self._meter = self._new()  # a budget can be used again, and begins at zero
        self._meter.__enter__()
        return self

    def __exit__(self, kind, error, traceback):
        self._meter.__exit__(kind, error, traceback)
        self._meter.stop()


class _Rehearsal(FakeTensorMode):
    """Does not replace PyTorch's CUDA guard.

    Without CUDA, FakeTensorMode replaces that guard at each entry, and two threads that do so crash the process
    (torch 2.11). That device is not used here.
    """

    avoid_device_init = False


def rehearsal():
    """A context in which tensors have shapes and sizes but no data: counting then needs neither time nor memory.

    They are PyTorch's fake tensors (torch.compile traces with them). A budget inside counts the bytes that the same
    operations would take, as long as no Python code asks for a value (`.item()`, `.numpy()`).

        with rehearsal(), MemoryBudget() as budget, torch.inference_mode():
            model(torch.rand(1, 3, 8192, 8192))  # at once
    """
    return _Rehearsal(allow_non_fake_inputs=True)


def largest_image(run, limit, multiple=16, highest=16384, device="cpu"):
    """The largest square that fits a budget, by doubling the side until it does not fit, then bisection.

    Args:
        run: callable, side in pixels -> None: does the work for one image of side x side. For a codec:
            `lambda side: codec.decompress(codec.compress(np.zeros((side, side, 3), np.uint8)))`.
        limit: bytes, as of MemoryBudget.
        multiple: the sides tried are multiples of this.
        highest: no larger side is tried.
        device: as of MemoryBudget.

    Returns:
        Side in pixels, 0 where not even the smallest fits. Other errors of `run` pass through.
    """

    def fits(count):
        try:
            with MemoryBudget(limit, device):
                run(count * multiple)
        except torch.OutOfMemoryError:
            return False
        return True

    low, high, last = 0, 1, highest // multiple
    while high <= last and fits(high):
        low, high = high, 2 * high
    high = min(high, last + 1)
    while high - low > 1:  # low fits, high does not or is out of bounds
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * multiple


def layer_table(model, *inputs):
    """Where the memory goes: the output of each layer, in the order in which the layers run.

    Args:
        model: a module on the CPU. Its leaves, the modules without children, are the layers; what forward()
            computes between them (a sum, a scale) has no row, but counts in live_mb and peak_mb.
        inputs: of its forward().

    Returns:
        DataFrame of name, resolution ("HxW", or "" for a vector), channels, output_mb, live_mb (in use when the
        layer is done, inputs and weights used so far included) and peak_mb (the highest so far). MB are 10^6 bytes.
        A layer that is used twice has two rows; the output of an in-place layer is its input.
    """
    rows, handles = [], []
    with MemoryBudget() as budget:

        def note(name, layer, given, output):
            size = output.shape
            row = {"name": name, "resolution": f"{size[2]}x{size[3]}" if len(size) == 4 else "", "channels": size[1]}
            row["output_mb"] = output.numel() * output.element_size() / MB
            rows.append(row | {"live_mb": budget.live / MB, "peak_mb": budget.peak / MB})

        try:
            for name, layer in model.named_modules():
                if not any(True for _ in layer.children()):
                    handles.append(layer.register_forward_hook(functools.partial(note, name)))
            model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
    return pd.DataFrame(rows, columns=["name", "resolution", "channels", "output_mb", "live_mb", "peak_mb"])
