"""What a GPU records must not ask for a value. A mode that forbids it shows that without a GPU."""

import contextlib

import pytest
import torch
from conftest import FIXTURES
from torch.utils._python_dispatch import TorchDispatchMode

from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.cuda_graph import recorded
from ganlib.training.loop import accelerator_for
from ganlib.training.optimizer import Muon
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights

BATCH, SIDE = 4, 64
VALUES = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}  # they wait for the GPU
INDEXING = {"aten::index.Tensor", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}  # so does a mask


class NoValues(TorchDispatchMode):
    """Inside, whoever asks for a value of a tensor gets an AssertionError."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        masks = (
            [index for index in args[1] if index is not None and index.dtype == torch.bool]
            if name in INDEXING
            else []
        )
        assert name not in VALUES and not masks, f"{name} waits for the GPU"
        return function(*args, **(kwargs or {}))


def batch():
    return torch.rand(BATCH, 3, SIDE, SIDE), 100 * torch.rand(BATCH), torch.tensor([0.0, 0.0, 0.5, 1.0])


@pytest.fixture(scope="module")
def init():
    return load_weights(str(FIXTURES / "tiny.safetensors"))


@pytest.mark.parametrize("ask", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: bool((x > 0).any())])
def test_the_mode_forbids_values(ask):
    with NoValues(), pytest.raises(AssertionError, match="waits"):
        ask(torch.rand(3))


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"recompute": True}])
def test_gradients_of_stage_one_ask_for_no_value(init, more):
    config = TrainConfig(batch=BATCH, crop=SIDE, **more)
    run = RateDistortionRun(init.model.config, config, accelerator_for(config), init)
    run.pick = False  # as on a GPU
    x, quality, realism = batch()
    with NoValues():
        torch.manual_seed(0)
        values = run.gradients(x, quality, realism)
    gradients = [weight.grad.clone() for weight in run.model.parameters()]
    run.pick = True
    torch.manual_seed(0)
    picked = run.gradients(x, quality, realism)
    assert values.keys() == picked.keys()
    assert all(torch.allclose(values[name], picked[name], rtol=1e-4) for name in values)
    close = [torch.allclose(a, w.grad, rtol=1e-3, atol=1e-5) for a, w in zip(gradients, run.model.parameters())]
    assert all(close)


def test_gradients_of_stage_two_ask_for_no_value_and_are_those_of_one_reconstruction(init):
    config = AdversarialConfig(batch=BATCH, crop=SIDE)
    run = AdversarialRun(init.model.config, config, accelerator_for(config), init)
    run.bare_model.eval()
    x, quality, realism = batch()
    y_hat = run.latents(x, quality)
    parts = list(run.reconstruct(x, y_hat, quality, realism))
    sum(loss for loss, _ in run.generator_losses(parts)).backward()
    expected = [weight.grad.clone() for weight in run.bare_model.g_s.parameters()]
    with NoValues():
        again = run.latents(x, quality)
        d_values = run.discriminator_gradients(x, y_hat, quality, realism)
        g_values = run.generator_gradients(x, y_hat, quality, realism)
    assert torch.equal(again, y_hat)
    assert all(value.isfinite() for value in [*d_values.values(), *g_values.values()])
    scale = min(1.0, config.clip / g_values["norm"].item())
    for gradient, weight in zip(expected, run.bare_model.g_s.parameters()):
        assert torch.allclose(scale * gradient, weight.grad, rtol=1e-3, atol=1e-6)


def test_an_update_of_the_optimizer_asks_for_no_value():
    weights = [torch.nn.Parameter(torch.rand(shape)) for shape in ((6, 5), (6,), (4, 3, 3, 3))]
    optimizer = Muon(weights, lr=1e-3)
    for step in range(3):
        for weight in weights:
            weight.grad = torch.rand_like(weight)
        with NoValues() if step else contextlib.nullcontext():
            optimizer.step()


def test_without_a_gpu_a_function_stays_what_it_is():
    assert recorded(batch, "cpu") is batch
    assert recorded(batch, "cuda", processes=2) is batch
