"""The stage in which the entropy model learns alone: what moves, what does not, and what it is for."""

import pytest
import torch
from conftest import SMALL, TINY, rows

import ganlib
from ganlib.config import TrainConfig, preset
from ganlib.entropy_training import EntropyRun, update_entropy
from ganlib.training import train
from ganlib.zoo import load_weights

pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture
def run(accelerator):
    run = EntropyRun(preset("tiny"), TrainConfig(**SMALL), accelerator, TINY)
    run.model.train()
    return run


@pytest.fixture(scope="module")
def x(photo):
    return torch.from_numpy(photo[:128, 128:256].copy()).permute(2, 0, 1)[None].float().repeat(2, 1, 1, 1) / 255


QUALITY = torch.tensor([30.0, 80.0])


def test_only_the_entropy_model_moves(run, x):
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for _ in range(2):  # SOAP only looks at its first gradient
        values = run.update(x, QUALITY, 1.0)
    assert set(values) == set(EntropyRun.COLUMNS)
    moved = {name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith("entropy.") for name in moved)
    for part in ("entropy.h_a", "entropy.h_s", "entropy.contexts.0", "entropy.contexts.5", "entropy.prior"):
        assert any(name.startswith(part) for name in moved), part


def test_it_saves_bits_and_the_latents_stay(folder, tmp_path):
    """From a spoilt entropy model: it learns again, and pictures are what they were but for rounding."""
    model, tables, _, _ = load_weights(TINY)
    with torch.no_grad():
        for network in model.entropy.contexts:
            network[-2].weight *= 0.2
    spoilt = tmp_path / "spoilt.safetensors"
    ganlib.zoo.save_weights(model, spoilt)
    config = TrainConfig(**SMALL | {"batch": 4, "steps": 60, "lr": 3e-3, "log_every": 10})
    train([folder], tmp_path, preset("tiny"), config, init=spoilt, stage=EntropyRun)
    bpp = [float(row["bpp"]) for row in rows(tmp_path)]
    assert bpp[-1] < 0.9 * bpp[0]
    before, after = (ganlib.load_codec(path, precision="no") for path in (spoilt, tmp_path / "weights.safetensors"))
    data = [codec.compress(folder / "0.png") for codec in (before, after)]
    assert len(data[1]) < len(data[0])
    assert before.fingerprint != after.fingerprint
    with pytest.raises(ganlib.BitstreamError, match="weights"):
        after.decompress(data[0])
    for name, tensor in load_weights(tmp_path / "weights.safetensors")[0].state_dict().items():
        assert name.startswith("entropy.") or torch.equal(tensor, model.state_dict()[name]), name


def test_parts_of_a_batch_give_the_gradient_of_the_whole(run, x, accelerator):
    gradients = []
    for parts in (1, 2):
        torch.manual_seed(0)
        run.model.entropy.eval()  # no noise, which would be drawn in another order
        config = TrainConfig(**SMALL, accumulate=parts)
        update_entropy(run.model, run.optimizer, accelerator, x, QUALITY, config)
        gradients.append(torch.cat([p.grad.flatten() for p in run.model.entropy.parameters() if p.grad is not None]))
        run.model.load_state_dict(load_weights(TINY)[0].state_dict())
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5) and gradients[0].abs().sum() > 0


def test_a_step_that_is_not_finite_is_skipped(run, x):
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert run.update(x * float("nan"), QUALITY, 1.0) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


def test_it_needs_weights_to_begin_with(accelerator):
    with pytest.raises(ValueError, match="init"):
        EntropyRun(preset("tiny"), TrainConfig(**SMALL), accelerator)
