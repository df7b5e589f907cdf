"""An architecture in four numbers and two switches: its configuration, its cost, and its result after training.

Architecture --config()--> ModelConfig --costs()--> parameters, kMAC/pixel, memory, receptive field
                               '--60 steps--> weights --measure_trial()--> a short rate-distortion curve
"""

from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.figure import Figure

from ganlib.atomic_write import atomic_write
from ganlib.codec import image_io
from ganlib.codec.codec import load_codec
from ganlib.codec.receptive_field import reach
from ganlib.config import STRIDE, TrainConfig, preset
from ganlib.course.background_run import BackgroundRun
from ganlib.course.footprint import picture_peak
from ganlib.course.starting_points import StartingPoint
from ganlib.datasets.crops import mirrored
from ganlib.datasets.sources import image_files
from ganlib.evaluation import measure, plots
from ganlib.model.compression_model import CompressionModel, macs_per_pixel
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.run import WEIGHTS

STEPS = 60  # of a trial: enough to see which architecture learns, a quarter of a minute on two cores
QUALITIES = (30, 50, 70)  # points of a trial's curve
SIDE = 1000  # pixels along each side of the picture whose memory is shown, the original report's largest
PARTS = ("g_a", "g_s", "entropy")
WATCHED = 64  # side of the crop that shows the progress of a run, in pixels


@dataclass(frozen=True)
class Architecture:
    """What the sliders set. The default is close to the `tiny` preset, which one core can train.

    depth: residual blocks at each resolution of g_a and g_s. width: channels at the finest resolution, 1/4; 1.5 times
    as many at 1/8, twice as many at 1/16. slices: number of slices of the latent channels. hyperprior, checkerboard:
    as of ModelConfig.
    """

    depth: int = 1
    width: int = 16
    latent_channels: int = 32
    slices: int = 3
    hyperprior: bool = True
    checkerboard: bool = True

    def config(self):
        """ModelConfig of these numbers; ValueError where one of them is out of its limits."""
        widths = self.width, 3 * self.width // 2, 2 * self.width
        return replace(
            preset("tiny"),
            name=str(self),
            encoder_widths=widths,
            encoder_blocks=(self.depth,) * 3,
            generator_widths=widths,
            generator_blocks=(self.depth,) * 3,
            latent_channels=self.latent_channels,
            hyper_channels=max(1, self.latent_channels // 4),
            hyper_width=self.width,
            context_width=self.width,
            slices=slice_sizes(self.latent_channels, self.slices),
            hyperprior=self.hyperprior,
            checkerboard=self.checkerboard,
        )

    def __str__(self):
        words = f"depth {self.depth}, width {self.width}, {self.latent_channels} latents, {self.slices} slices"
        return words + ", no hyperprior" * (not self.hyperprior) + ", no checkerboard" * (not self.checkerboard)


def slice_sizes(channels, count):
    """Channels of each slice, about twice as many as in the one before: the first ones help to predict all others.

    ValueError where there are too few channels for so many slices.
    """
    ends = [round(channels * (2**i - 1) / (2**count - 1)) for i in range(count + 1)]
    sizes = tuple(b - a for a, b in zip(ends, ends[1:]))
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{channels} latent channels cannot be cut into {count} slices: choose fewer")
    return sizes


@dataclass(frozen=True)
class Costs:
    """The cost of running a model.

    parameters: {part: number}; kmacs: {part: thousand multiply-accumulates for each pixel of the picture}; peak_mb:
    10^6 bytes for a picture of SIDE x SIDE in one piece, through g_a and g_s; latent_sees: side of the square of
    pixels that a latent depends on; pixel_sees: side of the area whose latents a block of 16x16 pixels depends on, in
    pixels.
    """

    parameters: dict
    kmacs: dict
    peak_mb: float
    latent_sees: int
    pixel_sees: int

    def table(self):
        """DataFrame: parameters and kMAC/pixel of each part, and their sums."""
        found = pd.DataFrame({"parameters": self.parameters, "kMAC/pixel": self.kmacs})
        found.loc["all"] = found.sum()
        return found.astype({"parameters": int}).round(2)


def costs(model, side=SIDE):
    """Costs of a CompressionModel, none of which depends on its weights."""
    parameters = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in PARTS}
    kmacs = {part: macs / 1000 for part, macs in macs_per_pixel(model).items()}
    beyond_a, beyond_s = reach(model.g_a, 1)[0], reach(model.g_s, STRIDE)[0]
    sees = (STRIDE + 2 * int(beyond) for beyond in (beyond_a, beyond_s))
    return Costs(parameters, kmacs, picture_peak(model, side), *sees)


def trial_training(steps=STEPS):
    """TrainConfig of a trial: a few crops of 128 pixels per step, which is enough to compare architectures."""
    return TrainConfig(steps=steps, batch=4, crop=128, warmup=8, ema=0.9, precision="no", log_every=2)


def trial(architecture, data, folder):
    """BackgroundRun of stage one for an architecture, in a folder of its name; an existing run continues.

    Args:
        architecture: Architecture; data: files or folders of training images; folder: Path of all trials.
    """
    start = StartingPoint(RateDistortionRun, architecture.config())
    pixels = image_io.as_rgb(image_io.load(image_files(*data)[0], convert=True).pixels)
    watched = mirrored(pixels, WATCHED)[:WATCHED, :WATCHED]
    return BackgroundRun(data, folder / str(architecture), start, watched)


def measure_trial(run, pictures):
    """Code pictures with the weights of a trial, and keep the result in its folder, as trial.csv.

    Args:
        run: BackgroundRun that is finished; pictures: {name: H,W,3 uint8}, none of them trained on.

    Returns:
        DataFrame, one row per quality: name, kmac, quality, means over the pictures: bpp (of whole files), psnr (dB).
    """
    codec = load_codec(run.out / WEIGHTS, precision="no")
    points = measure.evaluate(codec, pictures, QUALITIES, with_ms_ssim=False, progress=False)
    curve = measure.mean_curves(points, by=["quality"])[["quality", "bpp", "psnr"]]
    kmac = sum(macs_per_pixel(CompressionModel(codec.model.config)).values()) / 1000
    table = curve.assign(name=run.out.name, kmac=kmac)
    with atomic_write(run.out / "trial.csv") as part:
        table.to_csv(part, index=False)
    return table


def trials(folder):
    """All trials of a folder that were measured, the oldest first: rows of `measure_trial`."""
    found = sorted(folder.glob("*/trial.csv"), key=lambda path: path.stat().st_mtime)
    columns = ["name", "kmac", "quality", "bpp", "psnr"]
    return pd.concat([pd.DataFrame(columns=columns), *map(pd.read_csv, found)], ignore_index=True)


def trials_chart(points):
    """Rate and distortion of the trials, a short curve each, the newest drawn strongest.

    Args:
        points: DataFrame of `trials`; may be empty.

    Returns:
        Figure, 820 pixels wide.
    """
    figure = Figure(figsize=(8.2, 3.6), dpi=100, layout="constrained")
    ax = figure.add_subplot()
    names = list(points["name"].unique())
    for i, name in enumerate(names):
        curve, newest = points[points["name"] == name], name == names[-1]
        label = f"{name}\n{curve['kmac'].iloc[0]:.1f} kMAC/pixel"
        style = dict(marker=plots.MARKERS[i % len(plots.MARKERS)], linewidth=2.4 if newest else 1.2)
        ax.plot(curve["bpp"], curve["psnr"], color=plots.MEASURED_COLOURS[i % 6], label=label, **style)
    if names:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    else:
        ax.text(0.5, 0.5, "nothing trained yet", ha="center", transform=ax.transAxes, color="#555555")
    qualities = ", ".join(map(str, QUALITIES))
    ax.set_xlabel("rate (bits per pixel)", fontsize=9)
    ax.set_ylabel("PSNR (dB)", fontsize=9)
    ax.set_title(f"files of held-out photographs, qualities {qualities}", fontsize=10, loc="left")
    ax.tick_params(labelsize=8)
    ax.grid(True, color=plots.GRID, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
