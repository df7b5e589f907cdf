"""Training in little memory: the same gradient, the same weights, fewer bytes."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import SMALL, TINY, rows
from torch.utils._pytree import tree_iter

from ganlib.__main__ import main
from ganlib.config import AdversarialConfig, TrainConfig, preset
from ganlib.course.footprint import training_step
from ganlib.course.memory_meter import MemoryBudget, layer_table, rehearsal
from ganlib.model.compression_model import CompressionModel, macs_per_pixel
from ganlib.model.layers import ResidualBlock
from ganlib.training import loop, rate_distortion
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import accelerator_for, train
from ganlib.training.losses import estimated_bits_per_pixel, mean_squared_error
from ganlib.training.losses import rate_distortion as rate_distortion_loss
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights, save_weights

TINY_CONFIG = load_weights(TINY).model.config
FOUR = SMALL | dict(batch=4, clip=1e9)  # gradients are compared as they are, not clipped
QUALITY = torch.tensor([10.0, 30.0, 60.0, 90.0])
DEEP = replace(TINY_CONFIG, encoder_blocks=(1, 1, 1), generator_blocks=(2, 2, 2))  # blocks at every depth
pytestmark = pytest.mark.usefixtures("accelerator")  # train() uses it as well


@pytest.fixture(scope="module")
def x(photo):
    """Four crops that differ, B,3,64,64 in [0, 1]."""
    corners = ((64, 192), (320, 64), (0, 0), (200, 300))
    crops = [torch.from_numpy(photo[top : top + 64, left : left + 64].copy()) for top, left in corners]
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def one_noise(monkeypatch):
    """Every image gets the same noise, whatever batch it is in: then a part can be compared with the whole."""

    def noise(like):
        generator = torch.Generator().manual_seed(like.shape[1])
        return torch.rand(1, *like.shape[1:], generator=generator).expand_as(like)

    monkeypatch.setattr(torch, "rand_like", noise)


def gradient(network):
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def difference(a, b):
    """Of two gradients, relative to the second."""
    return ((a - b).norm() / b.norm()).item()


def state(run):
    """All that a step can move, as it is now."""
    networks = [run.model, run.average, *(part for part in [getattr(run, "discriminator", None)] if part)]
    return [tensor.clone() for network in networks for tensor in network.state_dict().values()]


# Accumulation


def first_step(accelerator, x, accumulate):
    """Gradient and report of the first step of stage one, which moves nothing."""
    config = TrainConfig(**FOUR, accumulate=accumulate)
    run = RateDistortionRun(TINY_CONFIG, config, accelerator, load_weights(TINY))
    run.model.train()
    torch.manual_seed(3)  # of the realism in between
    values = run.update(x, QUALITY, 1.0)
    return gradient(run.model), values


@pytest.mark.parametrize("accumulate", [2, 4])
def test_gradient_of_the_parts_is_that_of_the_batch(accelerator, x, one_noise, accumulate):
    whole, expected = first_step(accelerator, x, 1)
    parts, values = first_step(accelerator, x, accumulate)
    assert difference(parts, whole) < 1e-4
    assert values == pytest.approx(expected, rel=1e-5)
    different = x.clone()
    different[-1] = x[0]
    assert difference(first_step(accelerator, different, accumulate)[0], whole) > 0.01  # every image has its say


def first_step_of_two(accelerator, x, accumulate, realism=(0.0, 1.0)):
    """The run after a first step of stage two, in which neither adversary has moved, and its report.

    Images are at realism `low`, `high` and two in between, so that no two parts weigh the same.
    """
    low, high = realism
    config = AdversarialConfig(
        **FOUR, accumulate=accumulate, discriminator_lr=0.0, realism_low=low, realism_high=high
    )
    run = AdversarialRun(TINY_CONFIG, config, accelerator, load_weights(TINY))
    torch.manual_seed(3)  # realisms in between
    return run, run.update(x, QUALITY, 1.0)


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("realism", [(0.0, 1.0), (0.0, 0.0)])
def test_gradients_of_both_adversaries_are_those_of_the_batch(accelerator, x, accumulate, realism):
    whole, expected = first_step_of_two(accelerator, x, 1, realism)
    parts, values = first_step_of_two(accelerator, x, accumulate, realism)
    assert difference(gradient(parts.model.g_s), gradient(whole.model.g_s)) < 1e-4
    assert values == pytest.approx(expected, rel=1e-4)
    if realism == (0.0, 0.0):  # no image takes part in the adversarial loss
        assert not gradient(parts.discriminator).any() and not gradient(whole.discriminator).any()
    else:
        assert difference(gradient(parts.discriminator), gradient(whole.discriminator)) < 1e-4
    different = x.clone()
    different[-1] = x[0]
    other = first_step_of_two(accelerator, different, accumulate, realism)[0]
    assert difference(gradient(other.model.g_s), gradient(whole.model.g_s)) > 0.01


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_all_parts_meet_one_discriminator(accelerator, x, accumulate):
    """Spectral norm refines its vectors once a step, not once a part, and goes on doing so."""
    run = first_step_of_two(accelerator, x, accumulate)[0]
    reference = first_step_of_two(accelerator, x, 1)[0]
    buffers = [dict(r.discriminator.named_buffers()) for r in (run, reference)]
    assert buffers[0] and all(torch.equal(buffers[0][name], buffers[1][name]) for name in buffers[1])
    assert all(part.training for part in run.discriminator.modules())
    run.update(x, QUALITY, 1.0)
    after = dict(run.discriminator.named_buffers())
    assert not any(torch.equal(buffers[1][name], after[name]) for name in after if name.endswith("._u"))


def test_a_part_that_is_not_finite_skips_the_whole_step(folder, tmp_path, third_is_nan):
    third_is_nan(rate_distortion, "rate_distortion")  # the first of two parts of the second step
    config = TrainConfig(**SMALL, steps=4, accumulate=2)
    model = train(RateDistortionRun, [folder], tmp_path, preset("tiny"), config)
    assert [row["skipped"] for row in rows(tmp_path)] == ["1", "1"]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_part_that_is_not_finite_moves_neither_adversary(accelerator, x):
    config = AdversarialConfig(**FOUR, accumulate=4)
    run = AdversarialRun(TINY_CONFIG, config, accelerator, load_weights(TINY))
    for _ in range(2):  # optimizers with momentum, which would move even without a gradient
        assert run.update(x, QUALITY, 1.0)
    bad = x.clone()
    bad[1, 0, 0, 0] = float("nan")  # at realism 1, in the second part
    weights = [p.detach().clone() for network in (run.model, run.discriminator) for p in network.parameters()]
    assert run.update(bad, QUALITY, 1.0) is None
    now = [p for network in (run.model, run.discriminator) for p in network.parameters()]
    assert all(map(torch.equal, weights, now))
    assert run.update(x, QUALITY, 1.0)


# Recomputation


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_recomputed_activations_give_the_same_weights(x, stage, precision):
    after = []
    for recompute in (False, True):
        kind, config = (RateDistortionRun, TrainConfig) if stage == 1 else (AdversarialRun, AdversarialConfig)
        config = config(**FOUR | {"precision": precision}, recompute=recompute)
        run = kind(TINY_CONFIG, config, accelerator_for(config), load_weights(TINY))
        before = state(run)
        run.model.train()
        torch.manual_seed(0)
        for _ in range(2):  # the first moves nothing
            assert run.update(x, QUALITY, 1.0)
            run.average.update_parameters(run.model)
        after.append(state(run))
    assert all(torch.equal(*pair) for pair in zip(*after))
    assert sum(not torch.equal(*pair) for pair in zip(after[1], before)) > 20


def block_calls(run, x):
    """How often a residual block of g_a and one of g_s begin to run in one step, on average."""
    calls, handles = {"g_a": 0, "g_s": 0}, []
    blocks = {name: [m for m in getattr(run.model, name).modules() if isinstance(m, ResidualBlock)] for name in calls}

    def counter(name):
        def count(block, inputs):  # beginnings: a block that runs again stops once it has what is needed
            calls[name] += 1 / len(blocks[name])

        return count

    for name, found in blocks.items():
        handles += [block.register_forward_pre_hook(counter(name)) for block in found]
    run.update(x, QUALITY, 1.0)
    for handle in handles:
        handle.remove()
    return {name: round(count, 6) for name, count in calls.items()}


@pytest.mark.parametrize(
    "kind, config, recompute, expected",
    [
        (RateDistortionRun, TrainConfig, False, {"g_a": 1, "g_s": 1}),
        (RateDistortionRun, TrainConfig, True, {"g_a": 2, "g_s": 2}),
        (AdversarialRun, AdversarialConfig, False, {"g_a": 1, "g_s": 1}),
        (AdversarialRun, AdversarialConfig, True, {"g_a": 1, "g_s": 2}),  # the encoder is frozen
    ],
)
def test_blocks_run_again_where_they_learn_and_nowhere_else(accelerator, x, kind, config, recompute, expected):
    run = kind(TINY_CONFIG, config(**FOUR, recompute=recompute), accelerator, load_weights(TINY))
    run.model.train()
    assert block_calls(run, x) == expected


def test_recompute_is_no_part_of_the_model():
    torch.manual_seed(0)
    model = CompressionModel(preset("tiny"))
    x, one = torch.rand(1, 3, 64, 64), torch.ones(1)

    def seen():
        with torch.no_grad():
            torch.manual_seed(0)
            x_hat = model(x, one, one)["x_hat"]
        tables = [layer_table(model.g_a, x), layer_table(model.g_s, torch.ones(1, 32, 4, 4), one, one)]
        return x_hat, macs_per_pixel(model), [table[["name", "resolution", "output_mb"]] for table in tables]

    plain, names = seen(), set(model.state_dict())
    model.g_a.recompute = model.entropy.recompute = model.g_s.recompute = True
    sparing = seen()
    assert torch.equal(plain[0], sparing[0]) and plain[1] == sparing[1]
    assert all(a.equals(b) for a, b in zip(plain[2], sparing[2]))
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("name", ["g_a", "entropy", "g_s"])
def test_without_training_nothing_is_computed_twice(name):
    network = getattr(CompressionModel(DEEP), name)
    one = torch.ones(1)
    y_hat = torch.rand(1, 32, 8, 8)
    inputs = {"g_a": (torch.rand(1, 3, 128, 128),), "entropy": (y_hat, one), "g_s": (y_hat, one, one)}[name]

    def kept(training, recompute):
        """Bytes that a forward pass leaves for the backward pass."""
        network.train(training).recompute = recompute
        with MemoryBudget() as budget:
            result = network(*inputs)
            assert next(tree_iter(result)).requires_grad
            return budget.live

    assert kept(True, True) < 0.7 * kept(True, False)
    assert kept(False, True) == kept(False, False)
    if name != "entropy":  # which rounds in evaluation, where it adds noise in training
        assert kept(False, False) == kept(True, False)


# Memory


class Distance(torch.nn.Module):
    """In place of LPIPS, whose network takes 10 MB whatever the model is."""

    def forward(self, x_hat, x, normalize):
        return (x_hat - x).abs().mean(dim=(1, 2, 3))


def test_each_lowers_the_peak_and_both_lower_it_most(monkeypatch):
    monkeypatch.setattr(rate_distortion, "load_lpips", Distance)
    config = TrainConfig(**SMALL | {"batch": 8, "crop": 128})
    plain = training_step(DEEP, config)["peak_mb"]
    recomputed = training_step(DEEP, replace(config, recompute=True))["peak_mb"]
    accumulated = training_step(DEEP, replace(config, accumulate=4))["peak_mb"]
    both = training_step(DEEP, replace(config, recompute=True, accumulate=4))["peak_mb"]
    assert recomputed < 0.7 * plain and accumulated < 0.5 * plain
    assert both < 0.95 * min(recomputed, accumulated)


def forward_and_backward(model, batch, side, perceptual=None):
    """Peak bytes of stage one's loss and its gradient, without an optimizer; with LPIPS where it is given."""
    with MemoryBudget() as budget:
        x, quality = torch.rand(batch, 3, side, side), torch.full((batch,), 50.0)
        out = model(x, quality, torch.zeros(batch))
        mse = mean_squared_error(out["x_hat"], x)
        bpp = estimated_bits_per_pixel(out["likelihoods"], side**2)
        loss = rate_distortion_loss(bpp, mse, model.config.lambda_weight(quality))
        if perceptual:
            loss = loss + perceptual(out["x_hat"], x, normalize=True).mean()
        loss.backward()
    return budget.peak


def test_activations_of_the_shipped_model_take_less_than_half():
    """In a rehearsal: no data, no time."""
    peaks = []
    for recompute in (False, True):
        model = CompressionModel(preset("light")).train()
        model.g_a.recompute = model.entropy.recompute = model.g_s.recompute = recompute
        with rehearsal():
            peaks.append(forward_and_backward(model, 8, 256))
    assert peaks[1] < 0.5 * peaks[0]


def test_stage_two_takes_less_in_parts(tmp_path):
    model = replace(DEEP, generator_blocks=(6, 6, 6))  # the generator's share of the memory is to be seen
    save_weights(CompressionModel(model), tmp_path / "deep.safetensors", tables=load_weights(TINY).tables)
    config = AdversarialConfig(**SMALL | {"batch": 4, "crop": 128})
    plain, parts = (
        training_step(model, c, AdversarialRun, tmp_path / "deep.safetensors")["peak_mb"]
        for c in (config, replace(config, accumulate=4))
    )
    assert parts < 0.6 * plain


def test_footprint_counts_all_that_a_run_keeps():
    config = TrainConfig(**SMALL | {"crop": 192})
    generator = torch.get_rng_state()
    one, again = training_step(preset("tiny"), config), training_step(preset("tiny"), config)
    assert torch.equal(torch.get_rng_state(), generator)
    assert one["peak_mb"] == again["peak_mb"] and 0 < one["seconds"] < 60
    run = RateDistortionRun(preset("tiny"), config, accelerator_for(config))
    run.update(torch.rand(2, 3, 64, 64), QUALITY[:2], 1.0)
    average = sum(p.numel() * 4 for p in run.model.parameters())
    state = [tensor for values in run.optimizer.state.values() for tensor in tree_iter(values)]
    kept = average + sum(tensor.numel() * 4 for tensor in state if torch.is_tensor(tensor))
    # of two steps, one has both images at realism 0, the other both above
    expected = kept + forward_and_backward(
        CompressionModel(preset("tiny")), config.batch, config.crop, run.lpips_network
    )
    assert 1e6 * one["peak_mb"] == pytest.approx(expected, rel=0.05)


# Configuration


@pytest.mark.parametrize("kind", [TrainConfig, AdversarialConfig])
@pytest.mark.parametrize("accumulate", [0, -1, 3, 16])
def test_parts_that_are_not_equal_are_refused(kind, accumulate):
    with pytest.raises(ValueError, match=f"accumulate={accumulate} must (be from 1 to 4,096|divide batch=8)"):
        kind(batch=8, accumulate=accumulate)
    assert kind(batch=8, accumulate=8).accumulate == 8


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], (1, False)),
        (["--accumulate", "4", "--recompute"], (4, True)),
        (["--no-recompute"], (1, False)),
        (["--stage", "adversarial", "--recompute", "--accumulate", "2"], (2, True)),
    ],
)
def test_flags_reach_the_configuration(monkeypatch, tmp_path, flags, expected):
    seen = []
    monkeypatch.setattr(loop, "train", lambda stage, data, out, model, config, *more, **named: seen.append(config))
    assert main(["train", "--data", "here", "--out", str(tmp_path), *flags]) == 0
    assert [(config.accumulate, config.recompute) for config in seen] == [expected]


def test_the_command_trains_with_them(folder, tmp_path, capsys):
    command = ["train", "--data", str(folder), "--out", str(tmp_path), "--preset", "tiny", "--crop", "64"]
    command += ["--precision", "no", "--steps", "1", "--recompute"]
    assert main([*command, "--batch", "2", "--accumulate", "2"]) == 0
    (written,) = json.loads((tmp_path / "config.json").read_text())["train"]
    assert (written["accumulate"], written["recompute"]) == (2, True)
    assert main([*command, "--batch", "4", "--accumulate", "3"]) == 1
    assert "divide batch=4" in capsys.readouterr().err


def test_a_run_goes_on_in_less_memory_than_it_began(folder, tmp_path):
    config = TrainConfig(**SMALL, steps=2)
    train(RateDistortionRun, [folder], tmp_path, preset("tiny"), config)
    config = replace(config, steps=4, accumulate=2, recompute=True)
    train(RateDistortionRun, [folder], tmp_path, preset("tiny"), config)
    assert [row["step"] for row in rows(tmp_path)] == ["2", "4"]


def test_one_process_may_train_at_one_precision_after_another(folder, tmp_path):
    for number, precision in enumerate(("no", "bf16", "no")):
        config = TrainConfig(**SMALL | {"precision": precision}, steps=1)
        out = tmp_path / f"{number} {precision}"
        train(RateDistortionRun, [folder], out, preset("tiny"), config)
        assert accelerator_for(config).mixed_precision == precision
