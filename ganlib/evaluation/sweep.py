"""The effect of each hyperparameter: a small grid around the `tiny` preset, one factor changed at a time.

    Configuration --train N steps--> codec --files of held-out pictures--> bpp, PSNR --against the default--> BD-rate

The measure is the BD-rate against the default: additional bits at equal PSNR, from real files, over all rates that
both reach. PSNR at one rate would depend on that rate, and the training loss cannot be compared where lambda differs.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from ganlib import datasets
from ganlib.atomic_write import atomic_write
from ganlib.codec.codec import load_codec
from ganlib.config import ModelConfig, TrainConfig, preset
from ganlib.evaluation import measure, plots
from ganlib.model.compression_model import CompressionModel, macs_per_pixel
from ganlib.training.loop import train
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.training.run import WEIGHTS

STEPS = 300  # of each configuration: enough to rank large differences, about a minute on one core
BATCH, CROP = 8, 128
WARMUP_PART = 8  # one step in this many is warm-up; TrainConfig's 100 would be a third of so short a run
QUALITIES = (0, 20, 40, 60, 80, 100)  # points of each curve; BD-rate needs four
DEFAULT, AGAIN = "default", "default, other seed"
RATE = "BD-rate, %"  # against the default
WIDTHS = ("encoder_widths", "generator_widths", "hyper_width", "context_width")  # hidden; y and z keep theirs
BLOCKS = ("encoder_blocks", "generator_blocks")
LATENTS = ("latent_channels", "slices")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One row of the sweep: its name, what differs from the default, and the two configs."""

    name: str
    factor: str
    model: ModelConfig
    train: TrainConfig


def scaled(config, factor, names):
    """A ModelConfig with `factor` times as many channels in the fields of these names."""

    def times(width):
        return tuple(times(w) for w in width) if isinstance(width, tuple) else round(factor * width)

    return dataclasses.replace(config, **{name: times(getattr(config, name)) for name in names})


def grid(steps=STEPS):
    """The configurations: the default first, the default again with another seed, then one factor at a time.

    The second row shows the noise: a difference from the default that is no larger than that row's means nothing.
    """
    model = preset("tiny")
    # float32: for so small a network bf16 saves no time, and the numbers need not depend on the chip
    warmup = max(1, steps // WARMUP_PART)
    config = TrainConfig(steps=steps, batch=BATCH, crop=CROP, warmup=warmup, precision="no")
    rows = [
        Configuration(DEFAULT, "none", model, config),
        Configuration(AGAIN, "seed", model, dataclasses.replace(config, seed=config.seed + 1)),
    ]
    for lr in (3e-3, 3e-2):
        changed = dataclasses.replace(config, lr=lr)
        rows.append(Configuration(f"learning rate {lr:g}", "learning rate", model, changed))
    for batch in (BATCH // 2, 2 * BATCH):
        changed = dataclasses.replace(config, batch=batch)
        rows.append(Configuration(f"batch {batch}", "batch", model, changed))
    for factor in (0.5, 2):
        rows.append(Configuration(f"width x {factor:g}", "width", scaled(model, factor, WIDTHS), config))
    for more in (-1, 1):
        blocks = {name: tuple(max(0, depth + more) for depth in getattr(model, name)) for name in BLOCKS}
        changed = dataclasses.replace(model, **blocks)
        rows.append(Configuration(f"residual blocks {more:+d} a stage", "depth", changed, config))
    for factor in (0.5, 2):
        changed = scaled(model, factor, LATENTS)
        rows.append(Configuration(f"latent channels {changed.latent_channels}", "latent channels", changed, config))
    for wider in (0.25, 4):
        low, high = model.lambda_low / wider, model.lambda_high * wider
        changed = dataclasses.replace(model, lambda_low=low, lambda_high=high)
        rows.append(Configuration(f"lambda {low:.2g} to {high:.2g}", "lambda range", changed, config))
    return rows


def facts_of(configuration):
    """What the record holds of a Configuration: a dict, without the measurements."""
    model, config = configuration.model, configuration.train
    network = CompressionModel(model)
    return {
        "name": configuration.name,
        "factor": configuration.factor,
        "steps": config.steps,
        "learning_rate": config.lr,
        "seed": config.seed,
        "lambda_low": model.lambda_low,
        "lambda_high": model.lambda_high,
        "parameters": sum(p.numel() for p in network.parameters()),
        "kmac": sum(macs_per_pixel(network).values()) / 1000,
    }


def measured(record, configurations):
    """Rows of a record of `sweep` -> DataFrame, empty where there is none.

    Raises:
        ValueError: it is not such a record, or a configuration in it has the same name and other settings.
    """
    try:
        points = pd.read_csv(record) if record.exists() else pd.DataFrame(columns=["name"])
        for configuration in configurations:
            rows = points[points["name"] == configuration.name]
            if rows.empty:
                continue
            for column, value in facts_of(configuration).items():
                found = rows[column].iloc[0]
                if found != value and not np.isclose(float(found), float(value), rtol=1e-4):
                    raise ValueError(f"{configuration.name} had {column} {found}, not {value}")
    except (ValueError, KeyError) as error:
        raise ValueError(f"{record} is not the record of this sweep ({error}): choose another --out") from error
    return points


def measure_configuration(configuration, folders, run, pictures, progress=True):
    """Train one configuration and code the pictures with it.

    Args:
        configuration: Configuration.
        folders: of training images.
        run: folder for the checkpoint; a run that is there already is resumed.
        pictures: {name: H,W,3 uint8}, none of them trained on.

    Returns:
        DataFrame, one row per quality: name, factor, steps, learning_rate, seed, lambda_low, lambda_high, parameters,
        kmac (thousand multiply-accumulates per pixel), quality, and means over the pictures: bpp (of whole files),
        psnr (dB).

    Raises:
        KeyboardInterrupt: Ctrl-C came while it trained; the checkpoint is in `run`.
    """
    train(RateDistortionRun, folders, run, configuration.model, configuration.train, progress=progress)
    codec = load_codec(Path(run) / WEIGHTS)
    points = measure.evaluate(codec, pictures, QUALITIES, with_ms_ssim=False, progress=progress)
    curve = measure.mean_curves(points, by=["quality"])
    about = facts_of(configuration)
    return pd.DataFrame([about | row for row in curve[["quality", "bpp", "psnr"]].to_dict("records")])


def compare(points):
    """Rows of `measure_configuration` -> one row per configuration, with its BD-rate against the default.

    Returns:
        DataFrame: the columns of `points` that are the same at each quality; "psnr at 0.50 bpp" in dB, nan outside
        the curve; "BD-rate, %", 0 for the default, below 0 where fewer bits suffice, nan where the curves overlap
        too little or do not rise.

    Raises:
        ValueError: the default is not among the rows.
    """
    default = points[points["name"] == DEFAULT]
    if default.empty:
        raise ValueError(f"no row is called {DEFAULT!r}: measure it too, since all others are set against it")
    rows = []
    for name, curve in points.groupby("name", sort=False):
        rate = 0.0 if name == DEFAULT else measure.bd_rate_or_nan(default, curve)
        about = curve.iloc[0].drop(["quality", "bpp", "psnr"]).to_dict()
        rows.append(about | {"psnr at 0.50 bpp": float(measure.psnr_at(curve, 0.5)), RATE: rate})
    return pd.DataFrame(rows)


def chart(points):
    """The sweep in two panels: the curve of each configuration, and its BD-rate against the default.

    Args:
        points: DataFrame of `measure_configuration`, the default among them.

    Returns:
        Figure, 11 x 4 inches. The gray band shows, to either side, how much another seed changes.
    """
    table = compare(points)
    figure = Figure(figsize=(11, 4), dpi=plots.DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    factors = [factor for factor in table["factor"].unique() if factor not in ("none", "seed")]
    colours = {"none": plots.OUR_COLOURS[0], "seed": plots.OUR_COLOURS[3]} | dict(
        zip(factors, plots.MEASURED_COLOURS)
    )
    for i, (name, curve) in enumerate(points.groupby("name", sort=False)):
        marker = plots.MARKERS[i % len(plots.MARKERS)]
        colour = colours[curve["factor"].iloc[0]]
        left.plot(curve["bpp"], curve["psnr"], marker=marker, markersize=4, color=colour, linewidth=1.2, label=name)
    left.set_xlabel("rate (bits per pixel)", fontsize=9)
    left.set_ylabel("PSNR (dB)", fontsize=9)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)

    rates = table[RATE]
    noise = rates[table["factor"] == "seed"].abs().max()
    if np.isfinite(noise):
        right.axvspan(-noise, noise, color=plots.GRID, zorder=0)
    right.barh(table["name"], rates.fillna(0), color=[colours[f] for f in table["factor"]], height=0.6)
    for y, rate in enumerate(rates):
        text = "no common range" if np.isnan(rate) else f"{rate:+.1f}"
        at = (0 if np.isnan(rate) else rate, y)
        side = -1 if rate < 0 else 1
        style = dict(textcoords="offset points", va="center", ha="left" if side > 0 else "right", fontsize=8)
        right.annotate(text, at, (3 * side, 0), **style)
    right.margins(x=0.2)
    right.invert_yaxis()
    right.axvline(0, color="#555555", linewidth=0.8)
    right.set_xlabel("bits more at equal PSNR (BD-rate, %)", fontsize=9)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.grid(True, axis="both" if ax is left else "x", color=plots.GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure


def sweep(folders, out, steps=STEPS, configurations=None, pictures=None, progress=True):
    """Measure every configuration that `out` does not hold yet, and write the results so far after each.

        out/points.csv   bpp and PSNR of each configuration and quality: the record from which a stopped sweep resumes
        out/sweep.csv    one row per configuration, with its BD-rate against the default
        out/sweep.png    the chart
        out/runs/        the run that is under way; removed once it is measured

    Args:
        folders: of training images.
        out: folder.
        steps: of each configuration.
        configurations: list of Configuration, the default first; grid(steps) where None.
        pictures: {name: H,W,3 uint8} to measure on; the embedded photographs where None.
        progress: show bars of the measurements.

    Returns:
        DataFrame, as `compare` gives it.

    Raises:
        ValueError: `out` holds a sweep of other configurations, or of another number of steps.
        NoImagesError: there is nothing to train on.
        KeyboardInterrupt: at Ctrl-C; the same call continues from there.
    """
    out = Path(out)
    configurations = grid(steps) if configurations is None else configurations
    pictures = datasets.embedded() if pictures is None else pictures
    record = out / "points.csv"
    points = measured(record, configurations)
    known = set(points["name"])
    for number, configuration in enumerate(tqdm(configurations, desc="sweep", disable=not progress)):
        if configuration.name in known:
            continue
        run = out / "runs" / f"{number}-{steps}-steps"
        rows = measure_configuration(configuration, folders, run, pictures, progress)
        points = pd.concat([points, rows], ignore_index=True) if len(points) else rows
        table = compare(points)
        for path, rows in ((record, points), (out / "sweep.csv", table)):
            with atomic_write(path) as part:
                rows.to_csv(part, index=False, float_format="%.6g")
        plots.save(chart(points), out / "sweep.png")
        shutil.rmtree(run)
        if not any(run.parent.iterdir()):
            run.parent.rmdir()
    return compare(points)
