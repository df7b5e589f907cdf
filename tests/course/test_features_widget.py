"""The feature-map browser: its pure functions at their limits, and the panel without a browser."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ganlib.course.widgets.features import (
    LATENT,
    FeatureBrowser,
    as_tensor,
    encoder_stages,
    feature_view,
    gallery,
    latent_bits,
)
from ganlib.training.losses import estimated_bits_per_pixel


@pytest.fixture(scope="module")
def crop(photo):
    """150x100 pixels: no multiple of 64, so that padding shows."""
    return photo[100:200, 150:300]


def test_stages_halve_from_fine_to_coarse_and_end_in_the_encoders_own_output(codec, crop):
    x = as_tensor(crop)
    assert x.shape == (1, 3, 128, 192)
    stages = encoder_stages(codec.model.g_a, x)
    assert list(stages) == ["1/4", "1/8", "1/16", LATENT]
    widths = (*codec.model.config.encoder_widths, codec.model.config.latent_channels)
    for (name, maps), width in zip(stages.items(), widths):
        divisor = 16 if name == LATENT else int(name[2:])
        assert maps.shape == (1, width, 128 // divisor, 192 // divisor)
    with torch.inference_mode():
        assert torch.equal(stages[LATENT], codec.model.g_a(x))
        assert torch.allclose(
            codec.model.g_a.head(stages["1/16"]) + codec.model.g_a.shortcut(x - 0.5), stages[LATENT], atol=1e-6
        )


def test_bits_are_those_of_the_models_own_likelihoods(codec, crop):
    x = as_tensor(crop)
    bits = latent_bits(codec.model, x, 40.0)
    with torch.inference_mode():
        likelihoods = codec.model(x, torch.tensor([40.0]), torch.zeros(1))["likelihoods"]
    assert bits.shape == likelihoods["y"].shape[1:]
    total = estimated_bits_per_pixel({"y": likelihoods["y"]}, 1).item()
    assert bits.sum().item() == pytest.approx(total, rel=1e-5)
    assert latent_bits(codec.model, x, 90.0).sum() > bits.sum()


@pytest.mark.parametrize("quality", [0.0, 50.0, 100.0])
@pytest.mark.parametrize("stage, channel", [("1/4", 0), ("1/16", 5), (LATENT, 0), (LATENT, 31)])
def test_view_at_the_limits_of_every_control(codec, crop, stage, channel, quality):
    view = feature_view(codec, crop, stage, channel, quality)
    assert isinstance(view.figure, Figure) and len(view.figure.axes) == 5  # three pictures and two scales
    assert view.y_bits > 0 and view.side == (16 if stage == LATENT else int(stage[2:]))
    assert (view.channel_bits is None) == (stage != LATENT)
    if view.channel_bits is not None:
        assert 0 <= view.channel_bits < view.y_bits


def test_the_panels_bits_are_those_of_the_channel(codec, crop):
    bits = latent_bits(codec.model, as_tensor(crop), 50.0)
    for channel in (0, 31):
        view = feature_view(codec, crop, LATENT, channel)
        assert view.channel_bits == pytest.approx(bits[channel].sum().item())
        assert view.y_bits == pytest.approx(bits.sum().item())


def test_what_does_not_exist_is_refused(codec, crop):
    with pytest.raises(ValueError, match="no stage"):
        feature_view(codec, crop, "1/3")
    with pytest.raises(ValueError, match="channels 0 to 31"):
        feature_view(codec, crop, LATENT, 32)


def test_gallery_shows_each_picture_once():
    figure = gallery([np.eye(4), np.ones((4, 4)), np.zeros((4, 4, 3))], ["a", "b", "c"], columns=2)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", ""]


def test_panel_follows_its_controls(codec, crop):
    panel = FeatureBrowser(codec, {"crop": crop, "other": crop[::-1].copy()})
    panel.latest.wait()
    first = panel.image.value
    assert "data:image/png;base64," in first and "This channel" in panel.numbers.value
    moves = ((panel.channel, 31), (panel.quality, 100.0), (panel.picture, "other"), (panel.stage, "1/4"))
    for control, value in moves:
        before = panel.image.value
        control.value = value
        panel.latest.wait()
        assert panel.image.value != before and panel.status.value == ""
    assert panel.channel.max == panel.channel.value == 15  # the stage has fewer channels, and the slider follows
    assert "16 channels" in panel.numbers.value and "This channel" not in panel.numbers.value


def test_an_error_appears_in_the_panel(codec, crop):
    panel = FeatureBrowser(codec, {"crop": crop, "gray": crop[:, :, 0]})
    panel.picture.value = "gray"
    panel.latest.wait()
    assert "Error" in panel.status.value
    panel.picture.value = "crop"
    panel.latest.wait()
    assert panel.status.value == ""
