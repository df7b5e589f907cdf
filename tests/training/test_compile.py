"""Training with torch.compile: the same step, and nothing of it in the weights."""

import functools

import pytest
import torch
from conftest import FIXTURES

from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import accelerator_for
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights

BATCH, SIDE = 4, 64


@pytest.fixture
def graphs(monkeypatch):
    """List of the graphs that are traced. They run as they are: the compiler takes minutes, and is not ours."""
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    yield traced
    torch._dynamo.reset()


@pytest.mark.parametrize("stage, config", [(RateDistortionRun, TrainConfig), (AdversarialRun, AdversarialConfig)])
def test_a_compiled_step_is_the_step(graphs, stage, config):
    init = load_weights(str(FIXTURES / "tiny.safetensors"))
    x, quality = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.arange(4) * 30.0
    losses, names = [], []
    for compiled in (False, True):
        settings = config(batch=BATCH, crop=SIDE, precision="no", compile=compiled)
        run = stage(init.model.config, settings, accelerator_for(settings), init)
        run.model.train()
        torch.manual_seed(1)
        losses.append([run.update(x, quality, 1.0)["loss"] for _ in range(3)])  # the first moves nothing
        run.average.update_parameters(run.bare_model)
        names.append(run.average.module.state_dict().keys())
        assert len(graphs) == (3 if compiled else 0)  # one of each part
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert names[0] == names[1]
