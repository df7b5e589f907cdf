"""Stage two: who moves and who is frozen, and whether the two adversaries learn from each other."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY, mean_squared_error, rows
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d

import ganlib
from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.model.discriminator import Discriminator
from ganlib.model.generator import FREQUENCIES
from ganlib.training import adversarial
from ganlib.training.adversarial import AdversarialRun, frozen
from ganlib.training.checkpoint import save_checkpoint
from ganlib.training.loop import train
from ganlib.training.losses import distortion, grid_artifact_penalty
from ganlib.training.losses import mean_squared_error as image_errors
from ganlib.training.optimizer import Muon
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.run import optimizer_step
from ganlib.weights import load_discriminator, load_weights, save_weights

TINY_CONFIG = load_weights(TINY).model.config
LATENTS = TINY_CONFIG.latent_channels
QUALITY = torch.tensor([30.0, 80.0])
REALISM = torch.tensor([0.4, 1.0])
FAST = 2e-3  # a learning rate for toys
pytestmark = pytest.mark.usefixtures("accelerator")  # train() uses it as well


@pytest.fixture(scope="module")
def x(photo):
    """Two crops, B,3,64,64 in [0, 1]."""
    crops = np.stack([photo[64:128, 192:256], photo[320:384, 64:128]])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def stage_two(accelerator, init=TINY, **more):
    return AdversarialRun(TINY_CONFIG, AdversarialConfig(**SMALL), accelerator, load_weights(init), **more)


@pytest.fixture
def run(accelerator):
    """Stage two before its first step."""
    return stage_two(accelerator)


@pytest.fixture(scope="module")
def second(folder, tmp_path_factory):
    """Folder of a stage two of four steps, at a rate that shows in float16."""
    out = tmp_path_factory.mktemp("second")
    config = AdversarialConfig(**SMALL, steps=4, lr=3e-3)
    train(AdversarialRun, [folder], out, TINY_CONFIG, config, init=TINY)
    return out


@pytest.fixture(scope="module")
def critic(accelerator):
    """A discriminator that has learnt to tell sharp textures from blurred ones, and how each step went."""
    torch.manual_seed(0)
    run, history = with_new_discriminator(stage_two(accelerator), lr=4e-4), []
    for _ in range(110):
        sharp, y_hat = textures(4)
        history.append(discriminator_step(run, sharp, blurred(sharp), y_hat, torch.ones(4)))
    return run.discriminator.eval(), history


def with_new_discriminator(run, lr):
    run.discriminator = Discriminator(LATENTS)
    run.discriminator_optimizer = torch.optim.Adam(run.discriminator.parameters(), lr=lr, betas=(0.5, 0.9))
    return run


def textures(count):
    """Noise, and latents that tell nothing about it. Its mean is that of its blur: only the texture differs."""
    return torch.rand(count, 3, 64, 64), torch.randn(count, LATENTS, 4, 4)


def blurred(image):
    return avg_pool2d(torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect"), 5, stride=1)


def generate(run, x, realism):
    """x_hat with its graph, and the y_hat that the discriminator is shown."""
    model = run.model.eval()
    out = model(x, QUALITY, realism)
    return out["x_hat"], (out["y_hat"] * model.inverse_gain(QUALITY)).detach()


def discriminator_step(run, x, x_hat, y_hat, realism=REALISM):
    """A step of the discriminator."""
    losses = run.discriminator_losses(x, x_hat, y_hat, realism)
    return optimizer_step(run.discriminator_optimizer, run.accelerator, losses, run.config.clip)


def generator_step(run, x, x_hat, y_hat, realism=REALISM):
    """A step of the generator."""
    parts = [(1.0, x, x_hat, y_hat, realism, run.model.config.lambda_weight(QUALITY))]
    return optimizer_step(run.optimizer, run.accelerator, run.generator_losses(parts), run.config.clip)


def state(module):
    """Parameters and buffers, as they are now."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(module, before):
    """Names of the parameters and buffers that are no longer bitwise what they were."""
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def weights_of(module):
    return {name for name, _ in module.named_parameters()}


def mark_gradients(module):
    """Give every parameter a gradient that no step would make, to see whether it is touched."""
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)


def gradients_are_marked(module):
    return all((parameter.grad == 7).all() for parameter in module.parameters())


def same(a, b):
    """Whether two nested checkpoints are equal to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# Who moves


def test_the_discriminators_step_moves_the_discriminator_alone(run, x):
    run.model.requires_grad_(True)  # nothing but detaching may keep the gradient out
    x_hat, y_hat = generate(run, x, REALISM)
    x_hat.retain_grad()
    mark_gradients(run.model)
    model, discriminator = state(run.model), state(run.discriminator)
    assert discriminator_step(run, x, x_hat, y_hat)
    assert not moved(run.model, model)
    assert x_hat.grad is None and gradients_are_marked(run.model)
    assert moved(run.discriminator, discriminator) >= weights_of(run.discriminator)


@pytest.mark.parametrize("training", [True, False])
def test_the_generators_step_moves_the_generator_alone(run, x, training):
    run.discriminator.train(training)
    mark_gradients(run.discriminator)
    model, discriminator = state(run.model), state(run.discriminator)
    assert any(name.endswith("._u") for name in discriminator)  # spectral norm's vectors are among them
    assert generator_step(run, x, *generate(run, x, REALISM))
    assert not moved(run.discriminator, discriminator) and gradients_are_marked(run.discriminator)
    assert all(p.requires_grad for p in run.discriminator.parameters())
    assert all(part.training == training for part in run.discriminator.modules())
    assert moved(run.model, model) == {f"g_s.{name}" for name in weights_of(run.model.g_s)}
    assert all(p.grad is None for name, p in run.model.named_parameters() if not name.startswith("g_s."))


def test_what_was_frozen_thaws_whatever_happens():
    network = Discriminator(LATENTS).train()
    with pytest.raises(ZeroDivisionError), frozen(network):
        assert not network.training and not any(p.requires_grad for p in network.parameters())
        raise ZeroDivisionError
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_a_whole_step_moves_generator_and_discriminator_alone(run, x):
    model, discriminator = state(run.model), state(run.discriminator)
    assert run.update(x, QUALITY, 1.0).keys() == set(AdversarialRun.COLUMNS)
    assert moved(run.model, model) == {f"g_s.{name}" for name in weights_of(run.model.g_s)}
    assert moved(run.discriminator, discriminator) >= weights_of(run.discriminator)


def test_both_adversaries_see_what_a_decoder_would_see(run, x, monkeypatch):
    shown, losses = [], run.discriminator_losses

    def record(*args):
        shown.append(args)
        return losses(*args)

    monkeypatch.setattr(run, "discriminator_losses", record)
    run.model.train()  # as train() leaves it
    with torch.no_grad():  # scales so small that the last slice is not coded, which only evaluation leaves out
        run.model.entropy.contexts[-1][-2].bias[TINY_CONFIG.slices[-1] :] = -100.0
    g_s = copy.deepcopy(run.model.g_s)
    run.update(x, QUALITY, 1.0)
    ((image, x_hat, y_hat, realism),) = shown
    assert image is x and not y_hat.requires_grad
    assert torch.equal(y_hat, generate(run, x, realism)[1])
    assert torch.allclose(x_hat, g_s(y_hat, QUALITY, realism), atol=1e-6)


# Who learns


def test_discriminator_learns_to_tell_sharp_from_blurred(critic):
    discriminator, history = critic
    gap = np.array([step["d_real"] - step["d_fake"] for step in history])
    loss = np.array([step["loss"] for step in history])
    assert gap[0] < 0.2 and gap[-10:].mean() > 0.5
    assert loss[0] > 1 and loss[-10:].mean() < 0.7
    torch.manual_seed(1)
    sharp, y_hat = textures(8)  # not those it has learnt from
    with torch.no_grad():
        right = torch.cat([discriminator(sharp, y_hat) > 0, discriminator(blurred(sharp), y_hat) < 0])
    assert right.float().mean() > 0.95


def test_discriminator_learns_what_the_latents_say(accelerator):
    """Bright and dark are as likely among photographs as among reconstructions: only y_hat tells which fits."""
    torch.manual_seed(0)
    run = with_new_discriminator(stage_two(accelerator), lr=FAST)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    y_hat = signs.expand(4, LATENTS, 4, 4)
    for _ in range(40):
        noise = 0.1 * torch.randn(4, 3, 64, 64)
        fits, does_not = 0.5 + 0.25 * signs + noise, 0.5 - 0.25 * signs + noise
        discriminator_step(run, fits, does_not, y_hat, torch.ones(4))
    with torch.no_grad():
        right, wrong = run.discriminator.eval()(fits, y_hat), run.discriminator(fits, -y_hat)
    assert (right > 0).float().mean() > 0.95 and (wrong < 0).float().mean() > 0.95


def test_generator_follows_a_frozen_discriminator(run, x, critic):
    def follow(adversarial_weight):
        """What every step reports, from the same weights each time."""
        run.model.load_state_dict(start)
        run.config = replace(run.config, perceptual_weight=1.0, adversarial_weight=adversarial_weight)
        run.optimizer = Muon(run.model.g_s.parameters(), FAST, betas=(adversarial.MOMENTUM, 0.95))
        return [generator_step(run, x, *generate(run, x, REALISM)) for _ in range(20)]

    run.discriminator, start = copy.deepcopy(critic[0]), state(run.model)
    heeded, ignored = follow(10.0), follow(0.0)
    assert heeded[-1]["loss"] < 0.7 * heeded[0]["loss"] and ignored[-1]["loss"] < ignored[0]["loss"]
    assert heeded[-1]["adversarial"] < 0.7 * heeded[0]["adversarial"]
    assert heeded[-1]["adversarial"] < 0.7 * ignored[-1]["adversarial"]


# What each minimizes


@pytest.mark.parametrize("realism", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 1.0)])
def test_an_image_at_realism_0_feels_distortion_alone(run, x, realism):
    run.config = replace(run.config, clip=1e9)
    realism = torch.tensor(realism)
    x_hat, y_hat = generate(run, x, realism)
    faithful = distortion(image_errors(x_hat, x), run.model.config.lambda_weight(QUALITY)).mean()
    (expected,) = torch.autograd.grad(faithful, x_hat, retain_graph=True)
    x_hat.retain_grad()
    assert generator_step(run, x, x_hat, y_hat, realism)
    alone = [torch.allclose(*both, rtol=1e-5, atol=1e-9) for both in zip(x_hat.grad, expected)]
    assert alone == (realism == 0).tolist()


def test_generators_loss_is_its_formula(run, x):
    x_hat, y_hat = generate(run, x, REALISM)
    with torch.no_grad():
        logits = run.discriminator.eval()(x_hat, y_hat).double().numpy()
        unlike = run.lpips_network(x_hat, x, normalize=True).flatten().double().numpy()
    weight, mse = run.model.config.lambda_weight(QUALITY), image_errors(x_hat, x)
    weight, mse = weight.double().numpy(), mse.detach().double().numpy()
    unnatural = np.log1p(np.exp(-logits)).mean(axis=(1, 2, 3))
    grid = grid_artifact_penalty(x_hat, x).detach().double().numpy()  # against a formula of its own below
    natural = run.config.perceptual_weight * unlike + run.config.adversarial_weight * unnatural
    natural += run.config.grid_artifact_weight * grid
    realism = REALISM.numpy()
    expected = (np.sqrt(0.005 / weight) * weight * 255**2 * mse + realism * natural) / (1 + 4 * realism)
    values = generator_step(run, x, x_hat, y_hat)
    assert values["loss"] == pytest.approx(expected.mean(), rel=1e-4)
    assert values["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-4)
    assert values["lpips"] == pytest.approx(unlike.mean(), rel=1e-4)
    assert values["adversarial"] == pytest.approx(unnatural.mean(), rel=1e-4)
    assert values["grid_artifact"] == pytest.approx(grid.mean(), rel=1e-4)


def test_discriminator_reports_its_mean_verdicts_weighted_by_realism(run, x):
    x_hat, y_hat = generate(run, x, REALISM)
    run.discriminator.eval()  # no power iteration: the step sees the same verdicts as this test
    with torch.no_grad():
        d_real, d_fake = (
            (run.discriminator(image, y_hat).sigmoid().mean(dim=(1, 2, 3)) * REALISM).sum() / REALISM.sum()
            for image in (x, x_hat)
        )
    values = discriminator_step(run, x, x_hat, y_hat)
    assert values["d_real"] == pytest.approx(d_real.item(), rel=1e-4)
    assert values["d_fake"] == pytest.approx(d_fake.item(), rel=1e-4)


# What may go wrong


def test_a_step_that_is_not_finite_moves_nobody(run, x):
    for _ in range(2):  # optimizers with momentum, which would move even without a gradient
        assert run.update(x, QUALITY, 1.0)
    bad = x.clone()
    bad[0, 0, 0, 0] = float("nan")
    x_hat, y_hat = generate(run, x, REALISM)
    model, discriminator = state(run.model), state(run.discriminator)
    assert discriminator_step(run, bad, x_hat, y_hat) is None and generator_step(run, bad, x_hat, y_hat) is None
    assert run.update(bad, QUALITY, 1.0) is None
    assert not moved(run.model, model)
    assert not moved(run.discriminator, discriminator) & weights_of(run.discriminator)
    assert all(torch.isfinite(tensor).all() for tensor in run.discriminator.state_dict().values())
    assert run.update(x, QUALITY, 1.0) and moved(run.model, model) and moved(run.discriminator, discriminator)


def test_skipped_steps_are_counted(folder, tmp_path, third_is_nan):
    third_is_nan(adversarial, "distortion")
    config = AdversarialConfig(**SMALL, steps=6)
    model = train(AdversarialRun, [folder], tmp_path, TINY_CONFIG, config, init=TINY)
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1"]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["skipped"] == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_realism_range_that_falls_is_refused():
    with pytest.raises(ValueError, match="realisms 0.6 to 0.5 must rise"):
        AdversarialConfig(realism_low=0.6, realism_high=0.5)


def test_the_discriminator_stays_awake_while_the_generator_slows_down(run, x):
    run.update(x, QUALITY, 0.1)
    assert run.optimizer.param_groups[0]["lr"] == 0.1 * run.config.lr
    assert run.discriminator_optimizer.param_groups[0]["lr"] == run.config.discriminator_lr


def test_stage_two_rounds_as_a_file_does_also_where_the_loop_asks_for_training(run, x):
    run.model.train()
    run.update(x, QUALITY, 1.0)
    assert not run.model.training and run.discriminator.training


# The stage as a whole


def test_all_but_the_generator_is_written_as_it_was_read(second):
    before, after = load_file(TINY), load_file(second / "weights.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("g_s.") for name in changed)
    assert {"tables.y", "tables.z", "log_gain"} <= before.keys() - changed
    assert load_weights(second / "weights.safetensors").fingerprint == load_weights(TINY).fingerprint


def test_tables_are_kept_even_if_this_machine_would_make_others(accelerator, tmp_path):
    weights = load_weights(TINY)
    for table in weights.tables.values():  # a count moved, as another machine's last bit might
        common = table[3].argmax()
        table[3, common] -= 1
        table[3, common + 1] += 1
    save_weights(weights.model, tmp_path / "elsewhere.safetensors", tables=weights.tables)
    save_checkpoint(stage_two(accelerator, tmp_path / "elsewhere.safetensors"), tmp_path)
    written = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(written[f"tables.{name}"], table) for name, table in weights.tables.items())


def test_files_from_before_decode_with_the_generator_from_after(second, codec, photo):
    pixels = photo[:128, 192:320]
    data = codec.compress(pixels, quality=80)
    error = mean_squared_error(codec.decompress(data), pixels)
    after = ganlib.load_codec(second / "weights.safetensors", precision="no")  # as the other
    assert after.compress(pixels, quality=80) == data
    for realism in (0, 1):
        image = after.decompress(data, realism=realism)
        assert image.size == (128, 128) and mean_squared_error(image, pixels) < 2 * error


def test_log_shows_both_adversaries(second):
    columns = ["step", "loss", "psnr", "lpips", "adversarial", "grid_artifact", "d_loss", "d_real", "d_fake"]
    assert list(rows(second)[0]) == columns + ["learning_rate", "skipped"]
    assert [row["step"] for row in rows(second)] == ["2", "4"]
    assert all(np.isfinite(float(value)) for row in rows(second) for value in row.values())


def test_weights_tell_both_stages(folder, second, tmp_path):
    begun = {"stage": "rate-distortion", "steps": 7, "seconds": 1}
    weights = load_weights(TINY)
    save_weights(weights.model, tmp_path / "first.safetensors", [begun], weights.tables)
    config = AdversarialConfig(**SMALL, steps=1)
    for _ in range(2):  # a resumed run tells each stage once
        train(AdversarialRun, [folder], tmp_path / "run", TINY_CONFIG, config, init=tmp_path / "first.safetensors")
        config = replace(config, steps=2)
    first, stage = load_weights(tmp_path / "run" / "weights.safetensors").stages
    assert first == begun and (stage["stage"], stage["steps"]) == ("adversarial", 2)
    assert stage["configs"][0]["init"] == weights.fingerprint.hex()


def test_a_resumed_run_keeps_its_own_tables_and_history(folder, tmp_path):
    """Stage one may have gone on in between, and its weights file changed."""
    weights = load_weights(TINY)
    first = tmp_path / "first.safetensors"
    save_weights(weights.model, first, [{"stage": "rate-distortion", "steps": 7}], weights.tables)
    config = AdversarialConfig(**SMALL, steps=1)
    train(AdversarialRun, [folder], tmp_path / "run", TINY_CONFIG, config, init=first)
    before = load_file(tmp_path / "run" / "weights.safetensors")
    with torch.no_grad():
        weights.model.log_inverse_gain += 0.1
        weights.model.entropy.prior.mean += 1
    save_weights(weights.model, first, [{"stage": "rate-distortion", "steps": 9}])
    config = replace(config, steps=2)
    with pytest.raises(ValueError, match="init="):
        train(AdversarialRun, [folder], tmp_path / "run", TINY_CONFIG, config, init=first)
    train(AdversarialRun, [folder], tmp_path / "run", TINY_CONFIG, config, init=first, change=True)
    after = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("g_s."))
    assert load_weights(tmp_path / "run" / "weights.safetensors").stages[0]["steps"] == 7


def test_a_stage_two_that_is_stopped_and_resumed_is_the_one_that_was_not(folder, tmp_path):
    config = AdversarialConfig(**SMALL, steps=6)

    def go(out, on_log=None):
        train(AdversarialRun, [folder], out, TINY_CONFIG, config, init=TINY, on_log=on_log)
        return torch.load(out / "checkpoint.pt", weights_only=True)

    def interrupt(row, run):
        if row["step"] == 2:
            raise KeyboardInterrupt

    whole, half = go(tmp_path / "whole"), go(tmp_path / "parts", interrupt)
    assert half["progress"]["step"] == 2 and not same(half["discriminator"], whole["discriminator"])
    resumed = go(tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    parts = {"model", "average", "optimizer", "discriminator", "discriminator_optimizer"}
    assert parts <= whole.keys()
    for part in parts:
        assert same(resumed[part], whole[part]), part


def test_its_discriminator_is_written_and_another_run_begins_with_it(folder, second, tmp_path, accelerator):
    state = torch.load(second / "checkpoint.pt", weights_only=True)["discriminator"]
    written = load_discriminator(second / "discriminator.safetensors")
    assert all(torch.equal(tensor, state[name].half().float()) for name, tensor in written.state_dict().items())
    before = {name: tensor.clone() for name, tensor in written.state_dict().items()}
    run = stage_two(accelerator, discriminator=written)
    assert not moved(run.discriminator, before)
    assert moved(stage_two(accelerator).discriminator, before) >= weights_of(written)
    with pytest.raises(ValueError, match="discriminator is of a model with 8 latent channels, and this one has 32"):
        stage_two(accelerator, discriminator=Discriminator(8))


def test_a_batch_of_one_is_refused():
    """Every fourth would be at realism 0 alone, and teach the discriminator nothing."""
    with pytest.raises(ValueError, match="batch=1"):
        AdversarialConfig(batch=1)


def test_stage_two_needs_weights_to_begin_with(folder, tmp_path):
    with pytest.raises(ValueError, match="--init"):
        train(AdversarialRun, [folder], tmp_path / "out", TINY_CONFIG, AdversarialConfig(**SMALL))
    assert not (tmp_path / "out").exists()


def test_stage_two_refuses_a_checkpoint_of_stage_one(folder, tmp_path):
    train(RateDistortionRun, [folder], tmp_path, TINY_CONFIG, TrainConfig(**SMALL, steps=1))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="stage 'rate-distortion'"):
        train(AdversarialRun, [folder], tmp_path, TINY_CONFIG, AdversarialConfig(**SMALL, steps=2), init=TINY)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_stage_one_refuses_a_checkpoint_of_stage_two(folder, second):
    before = (second / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="stage 'adversarial'"):
        train(RateDistortionRun, [folder], second, TINY_CONFIG, TrainConfig(**SMALL, steps=9))
    assert (second / "checkpoint.pt").read_bytes() == before


def test_generator_learns_what_realism_asks_for(second):
    before, after = (load_file(path)["g_s.condition.0.weight"] for path in (TINY, second / "weights.safetensors"))
    assert (before != after)[:, 1 + 2 * FREQUENCIES :].any()


def test_stage_two_does_not_forget_what_an_earlier_one_has_learnt(second, accelerator):
    init = second / "weights.safetensors"
    run = stage_two(accelerator, init)
    assert not moved(run.model, load_weights(init).model.state_dict())


def test_generator_unlearns_a_grid(run, x):
    """A grid that the generator has come to paint goes away, where the error that is no grid may stay."""
    y_hat = generate(run, x, REALISM)[1].detach()
    with torch.no_grad():
        run.model.g_s.leave[1].bias += 0.05 * torch.randn(run.model.g_s.leave[1].bias.shape)
    run.config = replace(run.config, perceptual_weight=0.0, adversarial_weight=0.0, grid_artifact_weight=1.0)
    for group in run.optimizer.param_groups:
        group["lr"] = FAST
    before = grid_artifact_penalty(generate(run, x, REALISM)[0], x).sum().item()
    assert before > 3
    for _ in range(30):
        generator_step(run, x, generate(run, x, REALISM)[0], y_hat)
    assert grid_artifact_penalty(generate(run, x, REALISM)[0], x).sum().item() < 0.7 * before
