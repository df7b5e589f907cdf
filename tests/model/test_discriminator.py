"""The discriminator: what it looks at, and its file."""

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from ganlib.config import preset
from ganlib.model.discriminator import Discriminator
from ganlib.weights import WeightsError, load_discriminator, save_discriminator

LATENTS = preset("tiny").latent_channels


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
    image, y_hat = torch.rand(3, 3, 64, 64), torch.randn(3, LATENTS, 4, 4)
    image.requires_grad_(), y_hat.requires_grad_()
    discriminator.train()(image, y_hat)[0].sum().backward()  # in training, where a batch norm would show
    for grad in (image.grad, y_hat.grad):
        assert grad[0].any() and not grad[1:].any()
    with torch.no_grad():
        together = discriminator.eval()(image, y_hat)
        alone = torch.cat([discriminator(image[i : i + 1], y_hat[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


# Its file


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    discriminator = Discriminator(LATENTS)
    for _ in range(20):  # its spectral norms settle, as in training
        discriminator(torch.rand(2, 3, 64, 64), torch.randn(2, LATENTS, 4, 4))
    path = tmp_path / "discriminator.safetensors"
    save_discriminator(discriminator, path, [{"stage": "adversarial", "steps": 20}])
    return discriminator, path


def test_a_file_gives_the_same_verdicts_to_half_precision(saved):
    discriminator, path = saved
    loaded = load_discriminator(path)
    assert loaded.latent_channels == LATENTS and loaded.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in loaded.parameters())
    image, y_hat = torch.rand(2, 3, 64, 64), torch.randn(2, LATENTS, 4, 4)
    with torch.no_grad():
        before, after = discriminator.eval()(image, y_hat), loaded.eval()(image, y_hat)
    assert (before - after).abs().max() < 0.02 * before.std()
    assert path.stat().st_size < 2.2 * sum(tensor.numel() for tensor in discriminator.state_dict().values()) + 10_000


def test_what_is_no_discriminator_is_refused(saved, tmp_path):
    _, path = saved
    tensors = load_file(path)
    bad = tmp_path / "bad.safetensors"
    changes = [
        {name: tensors[name] for name in list(tensors)[1:]},
        tensors | {"judge.0.bias": torch.full_like(tensors["judge.0.bias"], float("nan"))},
        tensors | {"judge.0.bias": torch.zeros(3)},
        tensors | {"condition.0.parametrizations.weight.original": torch.zeros(())},
        {"a": torch.zeros(1)},
    ]
    for changed in changes:
        save_file(changed, bad)
        with pytest.raises(WeightsError, match="bad.safetensors holds no discriminator"):
            load_discriminator(bad)
    for data in (b"", path.read_bytes()[:1000]):
        bad.write_bytes(data)
        with pytest.raises(WeightsError, match="bad.safetensors holds no discriminator"):
            load_discriminator(bad)
    with pytest.raises(WeightsError, match="none.safetensors"):
        load_discriminator(tmp_path / "none.safetensors")
