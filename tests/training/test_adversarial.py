"""Stage two: who moves and who stands still, and whether the two adversaries learn from each other."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY, mean_squared_error, rows
from safetensors.torch import load_file
from torch.nn.functional import avg_pool2d

import ganlib
from ganlib.training import adversarial
from ganlib.training.adversarial import (
    AdversarialRun,
    Guard,
    draw_realism,
    frozen,
    update_discriminator,
    update_generator,
)
from ganlib.config import AdversarialConfig, TrainConfig, preset
from ganlib.model.discriminator import Discriminator
from ganlib.model.generator import FREQUENCIES
from ganlib.training.losses import balance, deception, discriminator_loss, distortion, rate_distortion, repetition
from ganlib.training.losses import mean_squared_error as image_errors
from ganlib.training.loop import Run, train
from ganlib.weights import load_weights, save_weights

LATENTS = preset("tiny").latent_channels
QUALITY = torch.tensor([30.0, 80.0])
REALISM = torch.tensor([0.4, 1.0])
FAST = 2e-3  # a learning rate for toys
pytestmark = pytest.mark.usefixtures("accelerator")  # train() uses it as well


@pytest.fixture(scope="module")
def x(photo):
    """Two crops, B,3,64,64 in [0, 1]."""
    crops = np.stack([photo[64:128, 192:256], photo[320:384, 64:128]])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def run(accelerator):
    """Stage two before its first step."""
    return AdversarialRun(preset("tiny"), AdversarialConfig(**SMALL), accelerator, TINY)


@pytest.fixture(scope="module")
def second(folder, tmp_path_factory):
    """Folder of a stage two of four steps, at a rate that shows in float16."""
    out = tmp_path_factory.mktemp("second")
    config = AdversarialConfig(**SMALL, steps=4, lr=3e-3)
    train([folder], out, preset("tiny"), config, init=TINY, stage=AdversarialRun)
    return out


@pytest.fixture(scope="module")
def critic(accelerator):
    """A discriminator that has learnt to tell sharp textures from blurred ones, and how each step went."""
    torch.manual_seed(0)
    discriminator = Discriminator(LATENTS)
    config, history = AdversarialConfig(), []
    learn = torch.optim.Adam(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.9))
    for _ in range(110):
        sharp, y_hat = textures(4)
        given = (sharp, blurred(sharp), y_hat, torch.ones(4), config)
        history.append(update_discriminator(discriminator, learn, accelerator, *given))
    return discriminator.eval(), history


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


def judge(run, x, x_hat, y_hat, realism=REALISM):
    parts = (run.discriminator, run.discriminator_optimizer, run.accelerator)
    return update_discriminator(*parts, x, x_hat, y_hat, realism, run.config)


def make(run, x, x_hat, y_hat, realism=REALISM):
    parts = (run.model.g_s, run.discriminator, run.optimizer, run.accelerator, run.perceptual)
    return update_generator(*parts, [(1.0, x, x_hat, y_hat, realism, run.model.config.lam(QUALITY))], run.config)


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
    assert judge(run, x, x_hat, y_hat)
    assert not moved(run.model, model)
    assert x_hat.grad is None and gradients_are_marked(run.model)
    assert moved(run.discriminator, discriminator) >= weights_of(run.discriminator)


@pytest.mark.parametrize("training", [True, False])
def test_the_generators_step_moves_the_generator_alone(run, x, training):
    run.discriminator.train(training)
    mark_gradients(run.discriminator)
    model, discriminator = state(run.model), state(run.discriminator)
    assert any(name.endswith("._u") for name in discriminator)  # spectral norm's vectors are among them
    for _ in range(2):  # SOAP only looks at the first gradient
        assert make(run, x, *generate(run, x, REALISM))
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
    for _ in range(2):
        assert run.update(x, QUALITY, 1.0).keys() == set(AdversarialRun.COLUMNS)
    assert moved(run.model, model) == {f"g_s.{name}" for name in weights_of(run.model.g_s)}
    assert moved(run.discriminator, discriminator) >= weights_of(run.discriminator)


def test_both_adversaries_see_what_a_decoder_would_see(run, x, monkeypatch):
    shown = []

    def record(*args):
        shown.append(args[3:7])
        return update_discriminator(*args)

    monkeypatch.setattr(adversarial, "update_discriminator", record)
    run.model.train()  # as train() leaves it
    with torch.no_grad():  # scales so small that the last slice is not coded, which only evaluation leaves out
        run.model.entropy.contexts[-1][-2].bias[preset("tiny").slices[-1] :] = -100.0
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
    loss = np.array([step["d_loss"] for step in history])
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
    discriminator = Discriminator(LATENTS)
    learn = torch.optim.Adam(discriminator.parameters(), lr=FAST, betas=(0.5, 0.9))
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
    y_hat = signs.expand(4, LATENTS, 4, 4)
    for _ in range(40):
        noise = 0.1 * torch.randn(4, 3, 64, 64)
        fits, does_not = 0.5 + 0.25 * signs + noise, 0.5 - 0.25 * signs + noise
        update_discriminator(
            discriminator, learn, accelerator, fits, does_not, y_hat, torch.ones(4), AdversarialConfig()
        )
    with torch.no_grad():
        told, lied_to = discriminator.eval()(fits, y_hat), discriminator(fits, -y_hat)
    assert (told > 0).float().mean() > 0.95 and (lied_to < 0).float().mean() > 0.95


def test_generator_follows_a_discriminator_that_stands_still(run, x, critic):
    def follow(adversarial_weight):
        """What every step reports, from the same weights each time."""
        run.model.load_state_dict(start)
        run.config = replace(run.config, perceptual_weight=1.0, adversarial_weight=adversarial_weight)
        run.optimizer = run.accelerator.prepare(adversarial.soap(run.model.g_s.parameters(), FAST))
        return [make(run, x, *generate(run, x, REALISM)) for _ in range(20)]

    run.discriminator, start = copy.deepcopy(critic[0]), state(run.model)
    heeded, ignored = follow(10.0), follow(0.0)
    assert heeded[-1]["loss"] < 0.7 * heeded[0]["loss"] and ignored[-1]["loss"] < ignored[0]["loss"]
    assert heeded[-1]["deception"] < 0.7 * heeded[0]["deception"]
    assert heeded[-1]["deception"] < 0.7 * ignored[-1]["deception"]


# What each minimizes


@pytest.mark.parametrize("realism", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 1.0)])
def test_an_image_at_realism_0_feels_distortion_alone(run, x, realism):
    run.config = replace(run.config, clip=1e9)
    realism = torch.tensor(realism)
    x_hat, y_hat = generate(run, x, realism)
    faithful = distortion(image_errors(x_hat, x), run.model.config.lam(QUALITY)).mean()
    (expected,) = torch.autograd.grad(faithful, x_hat, retain_graph=True)
    x_hat.retain_grad()
    assert make(run, x, x_hat, y_hat, realism)
    alone = [torch.allclose(*both, rtol=1e-5, atol=1e-9) for both in zip(x_hat.grad, expected)]
    assert alone == (realism == 0).tolist()


def test_generators_loss_is_its_formula(run, x):
    x_hat, y_hat = generate(run, x, REALISM)
    with torch.no_grad():
        logits = run.discriminator.eval()(x_hat, y_hat).double().numpy()
        unlike = run.perceptual(x_hat, x, normalize=True).flatten().double().numpy()
    lam, mse = (t.detach().double().numpy() for t in (run.model.config.lam(QUALITY), image_errors(x_hat, x)))
    unnatural = np.log1p(np.exp(-logits)).mean(axis=(1, 2, 3))
    grid = repetition(x_hat, x).detach().double().numpy()  # against a formula of its own below
    natural = run.config.perceptual_weight * unlike + run.config.adversarial_weight * unnatural
    natural += run.config.repetition_weight * grid
    realism = REALISM.numpy()
    expected = (np.sqrt(0.005 / lam) * lam * 255**2 * mse + realism * natural) / (1 + 4 * realism)
    values = make(run, x, x_hat, y_hat)
    assert values["loss"] == pytest.approx(expected.mean(), rel=1e-4)
    assert values["psnr"] == pytest.approx(np.mean(-10 * np.log10(mse)), rel=1e-4)
    assert values["lpips"] == pytest.approx(unlike.mean(), rel=1e-4)
    assert values["deception"] == pytest.approx(unnatural.mean(), rel=1e-4)
    assert values["repetition"] == pytest.approx(grid.mean(), rel=1e-4)


def test_discriminator_reports_its_mean_verdicts_weighted_by_realism(run, x):
    x_hat, y_hat = generate(run, x, REALISM)
    run.discriminator.eval()  # no power iteration: the step sees the same verdicts as this test
    with torch.no_grad():
        d_real, d_fake = (
            (run.discriminator(image, y_hat).sigmoid().mean(dim=(1, 2, 3)) * REALISM).sum() / REALISM.sum()
            for image in (x, x_hat)
        )
    values = judge(run, x, x_hat, y_hat)
    assert values["d_real"] == pytest.approx(d_real.item(), rel=1e-4)
    assert values["d_fake"] == pytest.approx(d_fake.item(), rel=1e-4)


def test_balanced_distortion_is_its_formula_and_a_part_of_stage_ones_loss():
    lam, mse = torch.tensor([0.0008, 0.005, 0.03]), torch.tensor([2e-3, 1e-3, 3e-4])
    assert balance(lam).tolist() == pytest.approx([2.5, 1.0, (1 / 6) ** 0.5])
    assert distortion(mse, lam).tolist() == pytest.approx([0.26010, 0.325125, 0.238917], rel=1e-4)
    assert distortion(mse, lam).mean().item() == pytest.approx(rate_distortion(0 * mse, mse, lam).item())


def test_a_discriminator_that_cannot_tell_loses_2_log_2():
    undecided = torch.zeros(3, 1, 8, 8)
    for realism in ([1.0, 1.0, 1.0], [0.0, 0.2, 1.0], [0.01, 0.0, 0.0]):
        loss = discriminator_loss(undecided, undecided, torch.tensor(realism))
        assert loss.item() == pytest.approx(2 * np.log(2), rel=1e-4)


def test_cross_entropies_agree_with_their_formulas():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(scale=3, size=(2, 3, 1, 4, 5))
    realism = np.array([0.3, 1.0, 0.0])

    def probability(logits):
        return 1 / (1 + np.exp(-logits))

    each = [-np.log(probability(real[i])).mean() - np.log(1 - probability(fake[i])).mean() for i in range(3)]
    expected = (0.3 * each[0] + 1.0 * each[1]) / 1.3
    loss = discriminator_loss(*(torch.from_numpy(a) for a in (real, fake, realism)))
    assert loss.item() == pytest.approx(expected)
    deceptions = [-np.log(probability(fake[i])).mean() for i in range(3)]
    assert deception(torch.from_numpy(fake)).tolist() == pytest.approx(deceptions)


def test_discriminator_ignores_images_at_realism_0():
    real, fake = torch.randn(2, 4, 1, 8, 8)
    real.requires_grad_(), fake.requires_grad_()
    realism = torch.tensor([0.0, 1.0, 0.0, 0.5])
    loss = discriminator_loss(real, fake, realism)
    loss.backward()
    for logits in (real, fake):
        assert [bool(g.any()) for g in logits.grad] == [False, True, False, True]
    counted = realism > 0
    assert loss.item() == pytest.approx(discriminator_loss(real[counted], fake[counted], realism[counted]).item())
    nothing = discriminator_loss(real, fake, torch.zeros(4))
    assert nothing.item() == 0.0


def test_adversaries_pull_the_verdict_in_opposite_directions():
    real, fake = torch.randn(2, 2, 1, 8, 8)
    real.requires_grad_(), fake.requires_grad_()
    ones = torch.ones(2)
    up, down = torch.autograd.grad(discriminator_loss(real, fake, ones), (real, fake))
    (lift,) = torch.autograd.grad(deception(fake).sum(), fake)
    assert (up < 0).all() and (down > 0).all() and (lift < 0).all()  # a step goes against its gradient


def test_deception_is_steep_where_the_discriminator_is_sure_and_finite_everywhere():
    fake = torch.tensor([-1000.0, -20.0, 20.0, 1000.0]).reshape(4, 1, 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(deception(fake).sum(), fake)
    assert slope.flatten().tolist() == pytest.approx([-1, -1, 0, 0], abs=1e-6)
    assert torch.isfinite(discriminator_loss(fake, -fake, torch.ones(4)))


# What may go wrong


def test_a_step_that_is_not_finite_moves_nobody(run, x):
    for _ in range(2):  # optimizers with momentum, which would move even without a gradient
        assert run.update(x, QUALITY, 1.0)
    bad = x.clone()
    bad[0, 0, 0, 0] = float("nan")
    x_hat, y_hat = generate(run, x, REALISM)
    model, discriminator = state(run.model), state(run.discriminator)
    assert judge(run, bad, x_hat, y_hat) is None and make(run, bad, x_hat, y_hat) is None
    assert run.update(bad, QUALITY, 1.0) is None
    assert not moved(run.model, model)
    assert not moved(run.discriminator, discriminator) & weights_of(run.discriminator)
    assert all(torch.isfinite(tensor).all() for tensor in run.discriminator.state_dict().values())
    assert run.update(x, QUALITY, 1.0) and moved(run.model, model) and moved(run.discriminator, discriminator)


def test_a_generator_beyond_repair_goes_back_to_its_average(run, x, monkeypatch):
    monkeypatch.setattr(adversarial, "FAR_BEHIND", 3)
    for _ in range(3):
        assert run.update(x, QUALITY, 1.0)
        run.average.update_parameters(run.model)
    with torch.no_grad():
        run.model.g_s.enter.weight.fill_(float("nan"))
    average = state(run.average.module)
    for _ in range(2):
        assert run.update(x, QUALITY, 1.0) is None
        assert "g_s.enter.weight" in moved(run.model, average)
    assert run.update(x, QUALITY, 1.0) is None
    assert not moved(run.model, average)
    assert run.update(x, QUALITY, 1.0)


def test_only_bad_steps_in_a_row_send_the_generator_back(run, x, monkeypatch):
    monkeypatch.setattr(adversarial, "FAR_BEHIND", 2)
    bad, average = x * float("nan"), state(run.average.module)
    for image in (x, x, bad, x, bad):
        run.update(image, QUALITY, 1.0)
    assert moved(run.model, average)
    run.update(bad, QUALITY, 1.0)
    assert not moved(run.model, average)


def test_skipped_steps_are_counted(folder, tmp_path, third_is_nan):
    third_is_nan(adversarial, "distortion")
    config = AdversarialConfig(**SMALL, steps=6)
    model = train([folder], tmp_path, preset("tiny"), config, init=TINY, stage=AdversarialRun)
    assert [row["skipped"] for row in rows(tmp_path)] == ["0", "1", "1"]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["skipped"] == 1
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_guard_halves_the_rate_after_a_row_of_wins():
    guard = Guard(gap=0.8, steps=3)
    seen = []
    for d_real, d_fake in [(0.95, 0.05)] * 7:
        guard.add(d_real, d_fake)
        seen.append(guard.factor)
    assert seen == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_a_loss_in_between_starts_guards_count_anew():
    guard = Guard(gap=0.8, steps=3)
    for d_fake in (0.05, 0.05, 0.5, 0.05, 0.05):
        guard.add(0.95, d_fake)
        assert guard.factor == 1
    guard.add(0.95, 0.05)
    assert guard.factor == 0.5


def test_guard_goes_on_from_its_state():
    first, second = Guard(gap=0.8, steps=3), Guard(gap=0.8, steps=3)
    for _ in range(5):
        first.add(1.0, 0.0)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() == {"factor": 0.5, "won": 2}
    second.add(1.0, 0.0)
    assert second.factor == 0.25


def test_guard_holds_the_discriminators_rate_and_no_other(run, x):
    run.guard = Guard(gap=-1.0, steps=1)  # any verdict is a win
    for factor in (1.0, 0.5, 0.25):
        values = run.update(x, QUALITY, 1.0)
        assert run.discriminator_optimizer.param_groups[0]["lr"] == factor * run.config.discriminator_lr
        assert run.optimizer.param_groups[0]["lr"] == run.config.lr
        assert values["d_rate"] == factor / 2  # from the next step on
    run.update(x, QUALITY, 0.1)
    assert run.optimizer.param_groups[0]["lr"] == 0.1 * run.config.lr
    # the adversary stays awake while the generator slows down
    assert run.discriminator_optimizer.param_groups[0]["lr"] == 0.125 * run.config.discriminator_lr


def test_stage_two_rounds_as_a_file_does_also_where_the_loop_asks_for_training(run, x):
    run.model.train()
    run.update(x, QUALITY, 1.0)
    assert not run.model.training and run.discriminator.training


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6])
def test_four_images_in_a_row_hold_both_ends_and_two_in_between(batch):
    torch.manual_seed(0)
    drawn = torch.cat([draw_realism(step, batch, "cpu") for step in range(40)])
    fours = drawn.unfold(0, 4, 1).sort(dim=1).values  # wherever the four begin
    assert (fours[:, 0] == 0).all() and (fours[:, 3] == 1).all()
    assert ((fours[:, 1:3] > 0) & (fours[:, 1:3] < 1)).all()
    between = drawn[(drawn > 0) & (drawn < 1)]
    assert len(between.unique()) == len(between) and between.min() < 0.2 and between.max() > 0.8


def test_realism_goes_on_where_the_last_batch_ended():
    assert draw_realism(0, 2, "cpu").tolist() == [0, 1]
    assert all(0 < r < 1 for r in draw_realism(1, 2, "cpu").tolist())
    assert draw_realism(2, 2, "cpu").tolist() == [0, 1]


def test_realism_keeps_within_the_bounds_asked_for():
    drawn = torch.cat([draw_realism(step, 4, "cpu", 0.25, 0.5) for step in range(20)])
    assert drawn[0] == 0.25 and drawn[1] == 0.5
    assert drawn.min() == 0.25 and drawn.max() == 0.5
    assert draw_realism(0, 4, "cpu", 1.0, 1.0).tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="within 0 to 1"):
        AdversarialConfig(realism_low=0.6, realism_high=0.5)


# The stage as a whole


def test_all_but_the_generator_is_written_as_it_was_read(second):
    before, after = load_file(TINY), load_file(second / "weights.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("g_s.") for name in changed)
    assert {"tables.y", "tables.z", "log_gain"} <= before.keys() - changed
    assert load_weights(second / "weights.safetensors")[2] == load_weights(TINY)[2]


def test_tables_are_kept_even_if_this_machine_would_make_others(accelerator, tmp_path):
    model, tables, _, _ = load_weights(TINY)
    for table in tables.values():  # a count moved, as another machine's last bit might
        common = table[3].argmax()
        table[3, common] -= 1
        table[3, common + 1] += 1
    save_weights(model, tmp_path / "elsewhere.safetensors", "rate-distortion", tables)
    config = AdversarialConfig(**SMALL)
    run = AdversarialRun(preset("tiny"), config, accelerator, tmp_path / "elsewhere.safetensors")
    run.save(tmp_path / "checkpoint.pt")
    written = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(written[f"tables.{name}"], table) for name, table in tables.items())


def test_files_from_before_decode_with_the_generator_from_after(second, codec, photo):
    pixels = photo[:128, 192:320]
    data = codec.compress(pixels, quality=80)
    error = mean_squared_error(codec.decompress(data), pixels)
    after = ganlib.load_codec(second / "weights.safetensors", precision="no")  # as the other
    assert after.compress(pixels, quality=80) == data
    for realism in (0, 1):
        image = after.decompress(data, realism=realism)
        assert image.size == (128, 128) and mean_squared_error(image, pixels) < 2 * error


def test_generator_begins_to_heed_realism(second):
    weight = load_file(second / "weights.safetensors")["g_s.condition.0.weight"]
    assert weight[:, 1 + 2 * FREQUENCIES :].any()  # zero where stage two begins


def test_log_shows_both_adversaries(second):
    columns = ["step", "loss", "psnr", "lpips", "deception", "repetition", "d_loss", "d_real", "d_fake", "d_rate"]
    assert list(rows(second)[0]) == columns + ["learning_rate", "skipped"]
    assert [row["step"] for row in rows(second)] == ["2", "4"]
    assert all(np.isfinite(float(value)) for row in rows(second) for value in row.values())


def test_note_tells_both_stages(second):
    before, after = load_weights(TINY)[3], load_weights(second / "weights.safetensors")[3]
    assert after == f"{before}; adversarial, 4 steps of 2 crops of 64 pixels"


def test_a_stage_two_that_is_stopped_and_resumed_is_the_one_that_was_not(folder, tmp_path):
    config = AdversarialConfig(**SMALL, steps=6, guard_gap=-1.0, guard_steps=4)  # a guard that has something to keep

    def go(out, on_log=None):
        train([folder], out, preset("tiny"), config, init=TINY, stage=AdversarialRun, on_log=on_log)
        return torch.load(out / "checkpoint.pt", weights_only=True)

    def interrupt(row, run):
        if row["step"] == 2:
            raise KeyboardInterrupt

    whole, half = go(tmp_path / "whole"), go(tmp_path / "parts", interrupt)
    assert half["progress"]["step"] == 2 and not same(half["discriminator"], whole["discriminator"])
    resumed = go(tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    parts = {"model", "average", "optimizer", "discriminator", "discriminator_optimizer", "guard"}
    assert parts <= whole.keys()
    for part in parts:
        assert same(resumed[part], whole[part]), part
    assert whole["guard"] == {"factor": 0.5, "won": 2}


def test_a_batch_of_one_is_refused():
    """Every fourth would be at realism 0 alone, and teach the discriminator nothing."""
    with pytest.raises(ValueError, match="batch=1"):
        AdversarialConfig(batch=1)


def test_stage_two_needs_weights_to_begin_with(folder, tmp_path):
    with pytest.raises(ValueError, match="--init"):
        train([folder], tmp_path / "out", preset("tiny"), AdversarialConfig(**SMALL), stage=AdversarialRun)
    assert not (tmp_path / "out").exists()


def test_stage_two_refuses_a_checkpoint_of_stage_one(folder, tmp_path):
    train([folder], tmp_path, preset("tiny"), TrainConfig(**SMALL, steps=1))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="stage 'rate-distortion'"):
        config = AdversarialConfig(**SMALL, steps=2)
        train([folder], tmp_path, preset("tiny"), config, init=TINY, stage=AdversarialRun)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_stage_one_refuses_a_checkpoint_of_stage_two(folder, second):
    before = (second / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match="stage 'adversarial'"):
        train([folder], second, preset("tiny"), TrainConfig(**SMALL, steps=9), stage=Run)
    assert (second / "checkpoint.pt").read_bytes() == before


def test_a_generator_that_forgets_realism_answers_as_to_0():
    g_s = load_weights(TINY)[0].g_s
    torch.manual_seed(0)
    y_hat, quality, zeros = torch.randn(4, LATENTS, 4, 4), torch.tensor([0.0, 35.0, 70.0, 100.0]), torch.zeros(4)
    with torch.no_grad():
        before, otherwise = g_s(y_hat, quality, zeros), g_s(y_hat, quality, zeros + 1)
        assert (otherwise - before).abs().max() > 1e-3  # there is something to forget
        g_s.forget_realism()
        for realism in (0.0, 0.1, 0.5, 1.0):
            assert torch.allclose(g_s(y_hat, quality, zeros + realism), before, atol=1e-5), realism


def test_stage_two_begins_with_a_generator_that_has_forgotten(run):
    first = run.model.g_s.condition[0]
    assert not first.weight[:, 1 + 2 * FREQUENCIES :].any() and first.weight[:, : 1 + 2 * FREQUENCIES].all()


def test_stage_two_does_not_forget_what_an_earlier_one_has_learnt(second, accelerator):
    init = second / "weights.safetensors"
    run = AdversarialRun(preset("tiny"), AdversarialConfig(**SMALL), accelerator, init)
    assert not moved(run.model, load_weights(init)[0].state_dict())
    assert run.model.g_s.condition[0].weight[:, 1 + 2 * FREQUENCIES :].any()


# The discriminator's shape


@pytest.mark.parametrize("height, width", [(16, 16), (64, 128), (112, 48)])
def test_one_verdict_for_every_8_pixels(height, width):
    image, y_hat = torch.rand(2, 3, height, width), torch.randn(2, LATENTS, height // 16, width // 16)
    assert Discriminator(LATENTS)(image, y_hat).shape == (2, 1, height // 8, width // 8)


def test_a_verdict_sees_the_patch_that_the_docstring_names():
    found = re.search(r"patch of (\d+)x\1 pixels, (\d+) pixels\s+apart", Discriminator.__doc__)
    side, apart = map(int, found.groups())
    torch.manual_seed(0)
    discriminator = Discriminator(LATENTS).eval()

    def seen(row, column):
        """First and last row, first and last column of the pixels that move a verdict."""
        image = torch.rand(1, 3, 160, 160, requires_grad=True)
        discriminator(image, torch.randn(1, LATENTS, 10, 10))[0, 0, row, column].backward()
        touched = image.grad[0].any(dim=0)
        ends = [touched.any(dim=other).nonzero().flatten()[[0, -1]] for other in (1, 0)]
        return torch.cat(ends)

    middle, below, beside = seen(10, 10), seen(11, 10), seen(10, 11)
    assert (below - middle).tolist() == [apart, apart, 0, 0] and (beside - middle).tolist() == [0, 0, apart, apart]
    assert [middle[1] - middle[0] + 1, middle[3] - middle[2] + 1] == [side, side]


def test_no_image_sways_the_verdict_on_another():
    torch.manual_seed(0)
    discriminator = Discriminator(LATENTS)
    image, y_hat = textures(3)
    image.requires_grad_(), y_hat.requires_grad_()
    discriminator.train()(image, y_hat)[0].sum().backward()  # in training, where a batch norm would show
    for grad in (image.grad, y_hat.grad):
        assert grad[0].any() and not grad[1:].any()
    with torch.no_grad():
        together = discriminator.eval()(image, y_hat)
        alone = torch.cat([discriminator(image[i : i + 1], y_hat[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_repetition_tells_a_grid_from_noise_at_any_strength():
    torch.manual_seed(0)
    zero = torch.zeros(1, 3, 512, 512)
    pattern = torch.randn(3, 16, 16)
    pattern -= pattern.mean(dim=(1, 2), keepdim=True)
    grid, noise = pattern.repeat(1, 1, 32, 32), torch.randn_like(zero)
    for strength in (0.03, 1.0):
        assert repetition(strength * grid, zero).item() == pytest.approx(16, rel=0.03)
        assert repetition(strength * noise, zero).item() == pytest.approx(1, rel=0.05)
    between = repetition(0.1 * grid + 0.1 * noise, zero).item()
    assert 6 < between < 11
    assert repetition(0.0001 * grid, zero).item() < 0.1  # far below a level of an 8-bit pixel


def test_repetition_leaves_out_colours_and_what_lies_in_other_squares():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 128, 192)
    colours = torch.randn(2, 3, 8, 12).repeat_interleave(16, 2).repeat_interleave(16, 3)
    assert repetition(x + colours, x).max().item() < 1e-3
    cell = torch.randn(3, 16, 16)
    one_square = x.clone()
    one_square[0, :, :64, :64] += (cell - cell.mean(dim=(1, 2), keepdim=True)).repeat(1, 4, 4)
    assert repetition(one_square, x).tolist() == pytest.approx([16 / 6, 0], rel=1e-3)  # one of six, in one image


def test_generator_unlearns_a_grid(run, x):
    """A grid that the generator has come to paint goes away, where the error that is no grid may stay."""
    y_hat = generate(run, x, REALISM)[1].detach()
    with torch.no_grad():
        run.model.g_s.leave[1].bias += 0.05 * torch.randn(run.model.g_s.leave[1].bias.shape)
    run.config = replace(run.config, perceptual_weight=0.0, adversarial_weight=0.0, repetition_weight=1.0)
    for group in run.optimizer.param_groups:
        group["lr"] = FAST
    before = repetition(generate(run, x, REALISM)[0], x).sum().item()
    assert before > 3
    for _ in range(30):
        make(run, x, generate(run, x, REALISM)[0], y_hat)
    assert repetition(generate(run, x, REALISM)[0], x).sum().item() < 0.7 * before
