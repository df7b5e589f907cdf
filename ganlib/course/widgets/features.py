"""The feature-map browser: what each stage of the encoder sees in a photograph, and where the bits go."""

from dataclasses import dataclass

import ipywidgets as ui
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

from ganlib.codec.geometry import ceil_div
from ganlib.codec.pixel_tensors import to_tensor
from ganlib.config import HYPER_STRIDE
from ganlib.course.widgets.base import Busy, Latest, Picture, reporting, row

LATENT = "latents y"  # the last stage, after head and shortcut
DPI = 80
SIGNED, AMOUNT = "RdBu_r", "magma"  # colour maps: around zero, and from zero up


@dataclass(frozen=True)
class FeatureView:
    """One channel of one stage, and what the latents cost."""

    channels: int  # of the stage
    side: int  # pixels along one side of an element of the map
    channel_bits: float | None  # of this channel of y; None for earlier stages, which are not coded
    y_bits: float  # of all channels of y, estimated
    figure: Figure


def gallery(pictures, titles=None, columns=8, inch=1.2, cmap="gray"):
    """Small pictures side by side, each scaled from its own smallest to its own largest value.

    Args:
        pictures: list of h,w or h,w,3 arrays; those with three channels in [0, 1] or uint8.
        titles: one for each; none where None.
        columns: in a row.
        inch: width of each.
        cmap: for those with one channel; SIGNED has zero in the middle.

    Returns:
        Figure.
    """
    columns = min(columns, len(pictures))
    rows = ceil_div(len(pictures), columns)
    height, width = np.shape(pictures[0])[:2]
    size = (columns * inch, rows * (inch * height / width + 0.25 * bool(titles)))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for i, (ax, picture) in enumerate(zip(axes, pictures)):
        picture = np.asarray(picture)
        limits = {}
        if cmap == SIGNED and picture.ndim == 2:
            top = max(float(np.abs(picture).max()), 1e-9)
            limits = dict(vmin=-top, vmax=top)
        ax.imshow(picture, cmap=cmap, interpolation="nearest", **limits)
        if titles:
            ax.set_title(titles[i], fontsize=8)
    return figure


def as_tensor(pixels):
    """H,W,3 uint8 -> 1,3,H',W' float32 in [0, 1], the last row and column repeated up to multiples of 64."""
    x = to_tensor(pixels)
    missing = [-n % HYPER_STRIDE for n in x.shape[2:]]
    return F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")


@torch.inference_mode()
def encoder_stages(encoder, x):
    """Features at the end of each stage of g_a.

        x --[stage 1]--> 1/2 --[stage 2]--> 1/4 --...--> 1/16 --head, + shortcut--> latents y

    Args:
        encoder: FeatureEncoder.
        x: 1,3,H,W in [0, 1], H and W multiples of 16.

    Returns:
        {name: 1,C,h,w}, from fine to coarse; the last is y before the gain.
    """
    h, stages = x - 0.5, {}
    for layer in encoder.cnn:
        h = layer(h)
        if isinstance(layer, nn.LeakyReLU):  # each stage ends in one; those inside residual blocks are not seen here
            stages[f"1/{x.shape[3] // h.shape[3]}"] = h
    return stages | {LATENT: encoder(x)}


@torch.inference_mode()
def latent_bits(model, x, quality):
    """Estimated cost of every latent.

    Args:
        model: CompressionModel in eval mode.
        x: 1,3,H,W in [0, 1], H and W multiples of 64.
        quality: 0 to 100.

    Returns:
        C,H/16,W/16 bits.
    """
    q = torch.tensor([float(quality)], device=x.device)
    _, likelihoods = model.entropy(model.g_a(x) * model.gain(q), q)
    return -torch.log2(likelihoods["y"][0])


def feature_view(codec, pixels, stage=LATENT, channel=0, quality=50.0):
    """A photograph, one channel of one stage, and a map of the bits.

    Args:
        codec: Codec.
        pixels: H,W,3 uint8.
        stage: a key of encoder_stages().
        channel: from 0.
        quality: 0 to 100; it changes the bits of the latents, not the features of the stages.

    Returns:
        FeatureView. Its figure's third picture shows the bits of this channel if the stage is the latents, and
        the bits of all channels of y together if it is an earlier one.

    Raises:
        ValueError: no such stage or channel.
    """
    x = as_tensor(pixels).to(codec.device)
    stages = encoder_stages(codec.model.g_a, x)
    if stage not in stages:
        raise ValueError(f"no stage {stage!r}: there are {', '.join(stages)}")
    maps = stages[stage][0]
    if not 0 <= channel < len(maps):
        raise ValueError(f"stage {stage} has channels 0 to {len(maps) - 1}, not {channel}")
    bits = latent_bits(codec.model, x, quality).cpu()
    own = bits[channel] if stage == LATENT else None
    side = x.shape[3] // maps.shape[2]
    figure = _three(pixels, maps[channel].cpu(), bits.sum(0) if own is None else own, stage, channel, own is None)
    return FeatureView(len(maps), side, None if own is None else own.sum().item(), bits.sum().item(), figure)


def _three(pixels, feature, bits, stage, channel, everything):
    """The photograph, the map, the bits; padding cut off by the axes."""
    height, width = pixels.shape[:2]
    figure = Figure(figsize=(10, 3.6 * max(0.7, height / width)), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(pixels)
    axes[0].set_title("photograph", fontsize=9)
    top = max(feature.abs().max().item(), 1e-9)
    what = "all channels of y" if everything else f"channel {channel} of y"
    for ax, data, title, style in (
        (axes[1], feature, f"{stage}, channel {channel}", dict(cmap=SIGNED, vmin=-top, vmax=top)),
        (axes[2], bits, f"bits of {what}, for each 16x16 pixels", dict(cmap=AMOUNT, vmin=0)),
    ):
        step = 16 if data is bits else None
        rows, columns = data.shape
        side = step or ceil_div(width, HYPER_STRIDE) * HYPER_STRIDE // columns
        image = ax.imshow(data, extent=(0, columns * side, rows * side, 0), interpolation="nearest", **style)
        figure.colorbar(image, ax=ax, shrink=0.8)
        ax.set_title(title, fontsize=9)
    for ax in axes:
        ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    return figure


class FeatureBrowser(ui.VBox):
    """Choose a photograph, a stage, a channel and a quality.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 uint8}.
        stage, channel, quality: first values of the controls; the default stage is the latents.
    """

    def __init__(self, codec, pictures, stage=LATENT, channel=0, quality=50.0):
        self.codec, self.pictures = codec, dict(pictures)
        # a square of 64 pixels is enough to learn how many channels each stage has
        probe = encoder_stages(codec.model.g_a, torch.zeros(1, 3, 64, 64, device=codec.device))
        self.channels = {name: maps.shape[1] for name, maps in probe.items()}
        style = {"description_width": "80px"}
        self.picture = ui.Dropdown(options=list(self.pictures), description="photograph", style=style)
        self.stage = ui.Dropdown(options=list(self.channels), value=stage, description="stage", style=style)
        slow = dict(continuous_update=False, style=style)
        self.channel = ui.IntSlider(channel, 0, self.channels[stage] - 1, description="channel", **slow)
        self.quality = ui.FloatSlider(quality, min=0, max=100, step=1, description="quality", **slow)
        self.numbers, self.status, self.image, self.busy = ui.HTML(), ui.HTML(), Picture(), Busy()
        self.latest = Latest(reporting(self.status, self._show), busy=self.busy)
        rows = [row(self.picture, self.stage), row(self.channel, self.quality, self.busy)]
        super().__init__([*rows, self.numbers, self.status, self.image], layout=ui.Layout(max_width="100%"))
        self.stage.observe(self._fit, names="value")
        for control in (self.picture, self.stage, self.channel, self.quality):
            control.observe(self._ask, names="value")
        self._ask()

    def _fit(self, change):
        self.channel.max = self.channels[self.stage.value] - 1  # reduces the value too, where it is larger

    def _ask(self, change=None):
        self.latest.request(
            name=self.picture.value,
            stage=self.stage.value,
            channel=self.channel.value,
            quality=self.quality.value,
        )

    def _show(self, name, stage, channel, quality):
        view = feature_view(self.codec, self.pictures[name], stage, channel, quality)
        alt = f"{name}, channel {channel} of {stage} in red and blue, and the bits of the latents place by place"
        self.image.draw(view.figure, alt)
        self.numbers.value = numbers(view)


def numbers(view):
    """The numbers of a FeatureView as a line of HTML."""
    line = f"{view.channels} channels, one value for each {view.side}x{view.side} pixels. "
    line += f"All latents: about <b>{view.y_bits / 8:,.0f} bytes</b>."
    if view.channel_bits is not None:
        share = view.channel_bits / view.y_bits
        line += f" This channel: <b>{view.channel_bits / 8:,.0f} bytes</b>, {share:.1%} of them."
    return line
