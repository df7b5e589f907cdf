"""The commands that inspect, measure and train; compress and decompress are in coding.py.

Imports are inside each command, so that showing a file's fields does not wait for pandas and matplotlib.
"""

import contextlib
import dataclasses
import functools
import math
import os
import sys
from pathlib import Path

from ganlib.atomic_write import atomic_write, check_writable
from ganlib.cli.file_jobs import STREAM, CommandError
from ganlib.folders import printable


def info(args):
    """Print the fields of a .gic file, or, without a file, the parts of a model."""
    if args.file:
        from ganlib.codec import container
        from ganlib.codec.verification import whole_part
        from ganlib.evaluation.metrics import bits_per_pixel

        path = "standard input" if args.file == STREAM else args.file
        data = _gic_bytes(args.file)
        try:
            whole = whole_part(data)
            index = container.Index(whole)  # whole_part() has checked the tiles
        except container.BitstreamError as error:
            raise CommandError(f"{path}: {error}") from None
        header = index.header
        print(f"{path}: {len(data):,} bytes, {bits_per_pixel(len(data), header.width, header.height):.4f} bpp")
        for field in dataclasses.fields(header):
            value = getattr(header, field.name)
            value = value.hex() if isinstance(value, bytes) else value / 100 if field.name == "quality" else value
            print(f"  {field.name:8} {value}")
        *_, content = container.HEADER.unpack(next(iter(container.chunks(whole)))[2])
        print(f"  {'content':8} {content:08x}")
        if index.dpi:
            print(f"  {'dpi':8} {index.dpi[0]:g} x {index.dpi[1]:g}")
        print(f"  {'tiles':8} {header.grid[0]} x {header.grid[1]}")
        for kind, offset, payload in container.chunks(whole):
            print(f"  chunk {kind.decode()} at {offset - container.CHUNK.size}: {len(payload):,} bytes of payload")
        return
    from ganlib.cited.complexity import kmacs_per_pixel
    from ganlib.model.compression_model import macs_per_pixel
    from ganlib.weights import find_weights, load_weights

    weights, path = load_weights(args.model), find_weights(args.model)
    model = weights.model
    print(f"{path}: {path.stat().st_size:,} bytes, fingerprint {weights.fingerprint.hex()}")
    for stage in weights.stages:
        print(f"  trained  {_stage_in_words(stage)}")
    print(f"  parameters {sum(p.numel() for p in model.parameters()):,}")
    if model.config.family:
        print(f"  g_a and g_s, or one pass of both: {kmacs_per_pixel(model):.1f} kMAC/pixel")
    else:
        for part, count in macs_per_pixel(model).items():
            print(f"  {part:8}{count / 1000:6.1f} kMAC/pixel")
    for name, value in dataclasses.asdict(model.config).items():
        print(f"  {name} = {value}")


def _gic_bytes(file):
    """Bytes of a .gic file, or of standard input where it is "-". Of other files only the first 8 bytes."""
    from ganlib.codec import container

    path = Path(file)
    if file == STREAM:
        if sys.stdin is None:
            raise CommandError("standard input is closed")
        opened = contextlib.nullcontext(sys.stdin.buffer)
    elif not path.exists():
        raise CommandError(f"{path} does not exist")
    elif path.is_dir():
        raise CommandError(f"{path} is a folder: give one of its .gic files")
    else:
        opened = path.open("rb")
    with opened as stream:
        data = stream.read(len(container.SIGNATURE))
        return data + stream.read() if data == container.SIGNATURE else data


def _stage_in_words(stage):
    """One of Weights.stages as text. The file's author wrote it: a value that is missing or no number is left out."""
    steps, seconds = (stage.get(name) for name in ("steps", "seconds"))
    text = str(stage.get("stage", "stage without a name"))
    if isinstance(steps, int):
        text += f": {steps:,} steps"
    if isinstance(seconds, (int, float)):
        text += f" in {seconds / 3600:.1f} hours"
    return text


def evaluate(args):
    """Measure a model on a folder of pictures and print the means."""
    from ganlib import load_codec
    from ganlib.evaluation import measure

    if args.out:
        check_writable(args.out)
    codec = load_codec(args.model, args.device)
    pictures = measure.pictures_of(args.images)
    table = measure.evaluate(
        codec,
        pictures,
        args.quality or measure.LADDER,
        args.realism,
        perceptual=not args.no_perceptual,
    )
    curve = measure.mean_curves(table, by=["codec", "quality", "realism"])
    print(curve.to_string(index=False, float_format="%.4f"))
    for realism, points in curve.groupby("realism"):
        for rate, value in zip(measure.RATES, measure.psnr_at(points, measure.RATES)):
            if not math.isnan(value):  # NaN: outside the qualities that were measured
                print(f"PSNR at {rate:.2f} bpp, realism {realism:g}: {value:.2f} dB")
    if args.out:
        with atomic_write(args.out) as part:
            table.to_csv(part, index=False, float_format="%.5f")


def train(args):
    """Train one stage of a model, or continue it, and print where the weights are."""
    from ganlib import cited
    from ganlib.config import AdversarialConfig, TrainConfig, preset
    from ganlib.training.adversarial import AdversarialRun
    from ganlib.training.loop import train
    from ganlib.training.rate_distortion import RateDistortionRun
    from ganlib.weights import load_discriminator, load_weights

    kind, stage = {
        "rate-distortion": (TrainConfig, RateDistortionRun),
        "adversarial": (AdversarialConfig, AdversarialRun),
    }[args.stage]
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(AdversarialConfig)}
    given = {name: value for name, value in given.items() if value is not None}
    if unused := set(given) - {f.name for f in dataclasses.fields(kind)}:
        flags = ", ".join("--" + name.replace("_", "-") for name in sorted(unused))
        raise CommandError(f"{flags}: of --stage adversarial only")
    if args.discriminator:
        if args.stage != "adversarial":
            raise CommandError("--discriminator: of --stage adversarial only")
        stage = functools.partial(AdversarialRun, discriminator=load_discriminator(args.discriminator))
    model = load_weights(args.init).model.config if args.init and not args.preset else preset(args.preset or "light")
    if model.family:
        if args.stage != "rate-distortion":
            raise CommandError(f"{model.name!r} has one stage: leave out --stage")
        stage = cited.run_class(model.family)
        if args.validation and not hasattr(model, "lambda_weight"):
            raise CommandError(f"{model.name!r} has no estimate of a rate to validate: leave out --validation")
    more = {"change": args.change, "validation": args.validation}
    train(stage, args.data, args.out, model, kind(**given), args.hours, args.init, **more)
    print(f"{args.out}/weights.safetensors")


def tune(args):
    """Train small models that differ in one number each and print how they compare."""
    from ganlib.evaluation.sweep import STEPS, sweep

    table = sweep(args.data, args.out, STEPS if args.steps is None else args.steps)
    print(table[["name", "parameters", "kmac", "BD-rate, %"]].to_string(index=False, float_format="%.2f"))
    print(f"{args.out}/sweep.csv")


def datasets(args):
    """Print which data sets there are, or fetch one."""
    from ganlib import datasets

    if args.action == "list":
        if args.name not in (None, *datasets.SOURCES):
            raise CommandError(f"no data set {args.name!r}: choose from {', '.join(datasets.SOURCES)}")
        for name in [args.name] if args.name else datasets.SOURCES:
            source = datasets.SOURCES[name]
            print(
                f"{name:16} {source.purpose:10} {source.images:6,} images {source.megabytes:8,.0f} MB  {source.url}"
            )
            print(f"{'':16} {source.licence}")
        if args.name:
            return
        count = len(datasets.embedded())
        print(f"{'embedded':16} {'measuring':10} {count:6,} images           nothing to download: in scikit-image")
        return
    if not args.name:
        raise CommandError(f"which one? {', '.join(datasets.SOURCES)}")
    files = datasets.fetch(args.name, args.root)
    print(f"{len(files):,} images in {os.path.commonpath([f.parent for f in files])}")


def report(args):
    """Measure and draw the results, and print which files were written."""
    from ganlib import load_codec
    from ganlib.cli.arguments import FLOWCHART
    from ganlib.course.flowchart import flowchart
    from ganlib.evaluation.report import PARTS, write_report
    from ganlib.model.discriminator import Discriminator

    codec = load_codec(args.model, args.device)
    if unknown := set(args.parts or ()) - {*PARTS, FLOWCHART}:
        raise CommandError(f"no part {', '.join(sorted(unknown))}: choose from {', '.join((*PARTS, FLOWCHART))}")
    drawn = not args.parts or FLOWCHART in args.parts
    parts = [part for part in args.parts or PARTS if part != FLOWCHART]
    written = write_report(codec, args.out, args.images, parts=parts)
    if drawn and not codec.model.config.family:  # a cited model has no discriminator
        written[FLOWCHART] = Path(args.out) / "flowchart.svg"
        flowchart(codec.model, Discriminator(codec.model.config.latent_channels)).save(written[FLOWCHART])
    for path in written.values():
        print(path)


def grade(args):
    """Run notebooks that were handed in and print their points."""
    import pandas as pd
    from tqdm.auto import tqdm

    from ganlib.course.grading import Mark, grade, published

    for file in args.files:  # check all names first: a run takes a minute
        published(file)
    if args.csv:
        check_writable(args.csv)
    marks, failures = [], []
    for file in tqdm(args.files, unit="notebook", disable=len(args.files) == 1):
        try:
            found = grade(file, args.preset)
        except Exception as error:  # an error in one file must not stop the others
            text = str(error) or type(error).__name__
            failures.append(text if str(file) in text else f"{file}: {text}")
            marks.append(Mark(printable(file), "", 0, failures[-1]))
            continue
        for mark in found:
            tqdm.write(f"  {mark.message}")
        tqdm.write(f"{file}: {sum(mark.points for mark in found)} of {len(found)}")
        marks += found
    if args.csv:
        with atomic_write(args.csv) as part:
            pd.DataFrame(map(dataclasses.asdict, marks)).to_csv(part, index=False, errors="backslashreplace")
    if failures:
        raise CommandError("\n".join(failures))
