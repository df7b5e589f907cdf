"""The codec inside other people's programs: what they have set does not matter, and nothing that it does changes it.

Its files and pictures are the same bits under any autocast, default type, device, gradient mode, precision of
products and number of threads; and all of these are as they were when it has done its work, whatever runs beside it.
"""

import contextlib
import copy
import os
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from conftest import TINY

import ganlib


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def matmul_precision(name):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu"),
    "autocast float16": lambda: torch.autocast("cpu", torch.float16),
    "autocast of another device": lambda: torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()),
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float16": lambda: default_dtype(torch.float16),
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "another device": lambda: torch.device("meta"),
    "medium precision": lambda: matmul_precision("medium"),
    "highest precision": lambda: matmul_precision("highest"),
    "one thread": lambda: threads(1),
    "three threads": lambda: threads(3),
    "deterministic": deterministic,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


@pytest.fixture(scope="module")
def picture(photo):
    return photo[60:360, 90:360]


@pytest.fixture(scope="module")
def expected(codec, picture):
    """A file, and the picture that it gives."""
    data = codec.compress(picture, quality=80)
    return data, codec.decompress(data, 0.5)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("when", ["before loading", "after loading"])
def test_what_the_caller_has_set_does_not_matter(codec, picture, expected, setting, when):
    with contextlib.ExitStack() as stack:
        stack.enter_context(SETTINGS[setting]())
        if when == "before loading":
            codec = ganlib.load_codec(TINY, precision="no")
        data = codec.compress(picture, quality=80)
        image = codec.decompress(data, 0.5)
        with pytest.raises(ganlib.BitstreamError):  # and errors are the same
            codec.decompress(data[:-5])
    assert data == expected[0] and image == expected[1]
    if when == "before loading":
        again = codec.decompress(data, 0.5)  # the setting of loading is not that of using
        assert again == expected[1]


def test_loaded_models_train_whatever_was_set_when_they_were_loaded():
    with torch.inference_mode(), default_dtype(torch.float64):
        model = ganlib.load_codec(TINY).model
    x = torch.rand(1, 3, 64, 64)
    model(x, torch.tensor([50.0]), torch.tensor([0.5]))["x_hat"].sum().backward()
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
    assert model.g_s.enter.weight.grad.abs().sum() > 0


def state():
    """What of torch is one for the whole process, or for this thread."""
    flags = {
        "matmul precision": torch.get_float32_matmul_precision(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random numbers": torch.get_rng_state().tolist(),
        "mkldnn": torch.backends.mkldnn.enabled,
    }
    for name in ("matmul", "conv", "rnn"):
        flags[f"mkldnn {name}"] = getattr(torch.backends.mkldnn, name).fp32_precision
    for backend in ("matmul", "conv"):
        flags[f"cuda {backend}"] = getattr(
            torch.backends.cuda if backend == "matmul" else torch.backends.cudnn, backend
        )
        flags[f"cuda {backend}"] = flags[f"cuda {backend}"].fp32_precision
    environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return flags | environment


def test_threads_that_work_at_once_agree_and_leave_torch_as_it_was(codec, picture, expected):
    """Encoding, decoding and failing, begun together, again and again."""
    before, workers = state(), 6
    barrier = threading.Barrier(workers)

    def work(i):
        mine = state()
        for _ in range(3):
            barrier.wait()
            if i % 3 == 0:
                assert codec.compress(picture, quality=80) == expected[0]
            elif i % 3 == 1:
                assert codec.decompress(expected[0], 0.5) == expected[1]
            else:
                with pytest.raises(ganlib.BitstreamError):
                    codec.decompress(expected[0][: -10 - i])
            assert state() == mine
        return True

    with ThreadPoolExecutor(workers) as pool:
        assert all(pool.map(work, range(workers)))
    assert state() == before
    a = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert (a @ a - (a.double() @ a.double())).abs().max() < 1e-4  # float32, not bf16


def test_nothing_is_left_behind(codec, picture):
    before = state()
    data = codec.compress(picture, target_bytes=4000)
    codec.decompress(data, 1.0, region=(3, 4, 50, 60))
    for part in codec.strips(data):
        assert part.size
    for wrong in (b"", data[:-1], data.replace(b"TILE", b"TALE")):
        with pytest.raises(ganlib.BitstreamError):
            codec.decompress(wrong)
    assert state() == before
    with torch.autocast("cpu"):
        inside = state()
        codec.decompress(data)
        assert state() == inside


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))])
def test_a_codec_can_be_copied_and_pickled(codec, picture, expected, duplicate):
    codec.window = 128
    try:
        again = duplicate(codec)
    finally:
        codec.window = 1024
    assert (again.name, again.fingerprint, again.window, again.max_pixels) == (
        codec.name, codec.fingerprint, 128, codec.max_pixels
    )  # fmt: skip
    again.window = 1024
    assert codec.window == 1024
    assert again.compress(picture, quality=80) == expected[0] and again.decompress(expected[0], 0.5) == expected[1]


def compress(codec, pixels):
    torch.set_num_threads(1)
    return codec.compress(pixels, quality=80)


def test_a_process_pool_can_use_it(codec, picture, expected):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        files = list(pool.map(compress, [codec] * 2, [picture, picture[:40]]))
    assert files == [expected[0], codec.compress(picture[:40], quality=80)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_forked_processes_can_use_it(codec, picture):
    forking = get_context("fork")
    files = forking.Queue()
    process = forking.Process(target=lambda: files.put(codec.compress(picture)))
    with threads(2):
        expected = codec.compress(picture)
        process.start()
    try:
        assert files.get(timeout=60) == expected
    finally:
        process.kill()
        process.join()


def test_arrays_are_not_changed_by_what_is_done_with_them(codec, picture):
    pixels = picture.copy()
    data = codec.compress(pixels)
    assert np.array_equal(pixels, picture)
    codec.decompress(data)
    assert np.array_equal(pixels, picture)
