"""The arguments of the command line, each number with its limits."""

import argparse
import dataclasses
import re

import ganlib
from ganlib.cli.file_jobs import CommandError
from ganlib.codec.arguments import DEFAULT_MAX_PIXELS
from ganlib.codec.header import FORMAT_MAX_PIXELS
from ganlib.codec.rate_control import TOLERANCE
from ganlib.config import MAX_HOURS, MORE_PRESETS, PRESETS, AdversarialConfig, TrainConfig

FORMATTER = argparse.RawDescriptionHelpFormatter
STAGES = ("rate-distortion", "adversarial")

DESCRIPTION = """\
Compress photographs with a learned codec, and train, measure and inspect it.
"""

EPILOG = """\
examples:
  python -m ganlib compress photo.png                        writes photo.gic
  python -m ganlib compress photo.png --target-bytes 35000   at most 35 kB, and close to it
  python -m ganlib compress holiday/ -o small/ --quality 40 --jobs 4
  python -m ganlib decompress photo.gic -o back.png          the most faithful picture
  python -m ganlib decompress photo.gic -o back.png --realism 1   the most natural one, from the same file
  cat photo.png | python -m ganlib compress - | python -m ganlib decompress - --format jpg > photo.jpg
  python -m ganlib info photo.gic
  python -m ganlib COMMAND --help                            more about one command

exit status: 0 all done; 1 something failed, see standard error; 2 unknown arguments; 130 interrupted
"""

COMPRESS = """\
Compress an image, or every image of a folder, to .gic files.

Takes 8-bit RGB and grayscale in any format that Pillow reads, HEIC and JPEG XL too where pillow-heif and
pillow-jxl-plugin are installed. The orientation is applied; ICC profile, EXIF and pixel density are kept.
Transparency, more than 8 bits, CMYK and animation are refused, or converted with --convert.
Inputs are never overwritten, and an output appears only when it is complete."""

DECOMPRESS = """\
Decompress a .gic file, or every .gic file of a folder, to images.

Pictures of any size: large ones are written strip by strip where the format is PNG, TIFF or JPEG."""

INFO = """\
Show every field of a .gic file without running a network, or, without a file, the parts of a model:
parameters, multiply-accumulates for each pixel, and its configuration."""

EVALUATE = """\
Compress and decompress every image of a folder; print the means, from real files and rounded pixels.

The Frechet distance compares VGG16's features of 64x64 patches, over all images together."""

TRAIN = """\
Train a model: --stage rate-distortion first, then, from its weights, --stage adversarial.

The first trains everything on rate + lambda * distortion + realism * LPIPS. The second trains the
generator alone against a discriminator, on distortion + realism * (LPIPS + GAN): the files that
the model writes do not change.

Writes checkpoint.pt, weights.safetensors, log.csv and config.json into --out every few minutes; the same
command continues from there, after Ctrl-C or a crash. Runs on a GPU where there is one. N processes, on several
GPUs or on the CPU: `torchrun --nproc-per-node N -m ganlib train ...`; each takes --batch crops per step."""

TUNE = """\
Train small models that differ in one hyperparameter each, and compare them with the default.

Learning rate, batch, width, depth, latent channels and lambda range of the tiny preset, fourteen runs in
all, measured on the embedded photographs by the bytes of whole files. Writes points.csv, sweep.csv and
sweep.png into --out after each run; the same command continues from there, after Ctrl-C or a crash."""

DATASETS = "List the data sets, or fetch one from its own site and check it against its published SHA-256."
REPORT = "Regenerate the report's tables (CSV) and charts (PNG) from measurements, and the model's flowchart (SVG)."
FLOWCHART = "flowchart"  # the part of the report that is drawn, not measured

GRADE = """\
Grade notebooks of the course that were handed in: one point for each exercise whose check says OK.

The answers are put into the course's own notebook, which is run, so edited checks change nothing. The beginning of
a file's name says which notebook it is, as in 02_feature_extraction-anna.ipynb. Cells run without network and with
a time limit; but an answer is a program: grade strangers' work in a container."""

MAX_BYTES = 10**12  # larger than any file: only to catch typing errors


def parser():
    """The argument parser. It needs no import of torch."""
    top = argparse.ArgumentParser(
        "python -m ganlib", description=DESCRIPTION, epilog=EPILOG, formatter_class=FORMATTER
    )
    top.add_argument("--version", action="version", version=f"ganlib {ganlib.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (text, arguments) in COMMANDS.items():
        sub = commands.add_parser(name, help=text.splitlines()[0], description=text, formatter_class=FORMATTER)
        sub.set_defaults(command=name)
        arguments(sub)
    return top


def _number(sub, flag, low, high, text, kind=float, default=None, **more):
    """An argument that is a number from `low` to `high`, both included."""

    def checked(given):
        value = kind(given)
        if not low <= value <= high:  # NaN is outside too
            raise CommandError(f"{flag} {given} must be from {low:,.15g} to {high:,.15g}")
        return value

    checked.__name__ = kind.__name__  # for argparse's "invalid int value"
    sub.add_argument(flag, type=checked, default=default, help=f"{text} ({low:,.15g} to {high:,.15g})", **more)


def _path(sub, flag, text, *more_flags, **more):
    """An argument that is a path; an empty one would be the current folder."""

    def checked(given):
        if not given:
            raise CommandError(f"{flag} is empty: name a file or a folder; . is the current one")
        return given

    checked.__name__ = "path"
    sub.add_argument(*more_flags, flag, type=checked, help=text, **more)


def _device(given):
    if not re.fullmatch(r"cpu|(cuda|mps)(:\d+)?", given):
        raise CommandError(f"--device {given} must be cpu, cuda, cuda:1 (the second of several), or mps")
    return given


def _model(sub):
    sub.add_argument("--model", default="light", help="shipped model, or a .safetensors file (default: light)")
    sub.add_argument("--device", type=_device, default="cpu", help="where the networks run: cpu (default) or cuda")


def _files(sub, verb):
    sub.add_argument("--force", action="store_true", help="overwrite outputs that exist")
    text = "skip inputs whose outputs are newer; to overwrite outputs that are older, give --force too"
    sub.add_argument("--resume", action="store_true", help=text)
    _number(sub, "--jobs", 1, 1024, f"for a folder: how many files are {verb} at the same time, default 1", int, 1)


def _compress(sub):
    _model(sub)
    _path(sub, "input", "image file; folder, which is searched with its sub-folders; - for standard input")
    _path(sub, "--output", "file or folder; - for standard output (default: beside the input, as .gic)", "-o")
    size = sub.add_mutually_exclusive_group()
    _number(size, "--quality", 0, 100, "smallest to best, default 50: about 0.3 bpp", default=50.0)
    text = f"largest size of the file; filled to within {100 * TOLERANCE:g} %%; toderici, islam: whole passes"
    _number(size, "--target-bytes", 1, MAX_BYTES, text, int)
    _number(size, "--target-bpp", 0.0001, 10_000, "the same in bits per pixel")
    sub.add_argument("--convert", action="store_true", help="convert what would be refused; transparency to white")
    sub.add_argument("--strip", action="store_true", help="leave out ICC profile, EXIF and pixel density")
    _number(sub, "--max-pixels", 1, FORMAT_MAX_PIXELS, "largest picture that may be read in one piece", int)
    _files(sub, "compressed")


def _decompress(sub):
    _model(sub)
    _path(sub, "input", ".gic file; folder, which is searched with its sub-folders; - for standard input")
    _path(sub, "--output", "file or folder; - for standard output (default: beside the input, as .png)", "-o")
    sub.add_argument("--format", default="png", help="suffix of the image where -o names none (default: png)")
    _number(sub, "--realism", 0, 1, "most faithful (default) to most natural", default=0.0)
    most = 2**20
    _number(
        sub, "--region", 0, most, "this part only, in pixels, X1, Y1 excluded", int, nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
    )  # fmt: skip
    sub.add_argument(
        "--salvage", action="store_true", help="decode undamaged parts of a file; NAME.valid.png shows where they are"
    )
    text = f"largest picture to decode, default {DEFAULT_MAX_PIXELS:,}: a small file may claim a large one"
    _number(sub, "--max-pixels", 1, FORMAT_MAX_PIXELS, text, int, DEFAULT_MAX_PIXELS)
    _files(sub, "decompressed")


def _info(sub):
    _model(sub)
    _path(sub, "file", ".gic file; - for standard input", nargs="?")


def _evaluate(sub):
    _model(sub)
    _path(sub, "--images", "folder (default: the embedded photographs)")
    _number(sub, "--quality", 0, 100, "qualities to measure, default ten of them", nargs="+")
    _number(sub, "--realism", 0, 1, "realisms to measure, default 0", default=[0.0], nargs="+")
    sub.add_argument(
        "--no-perceptual", action="store_true", help="bytes, PSNR and MS-SSIM only, in a tenth of the time"
    )
    _path(sub, "--out", "CSV file: one row per image, quality and realism")


def _train(sub):
    _path(sub, "--data", "folders of training images", nargs="+", required=True, metavar="DIR")
    _path(sub, "--out", "folder of the run", required=True)
    sub.add_argument("--stage", choices=STAGES, default=STAGES[0], help=f"default {STAGES[0]}")
    sub.add_argument("--preset", help=f"{', '.join(PRESETS | MORE_PRESETS)} (default: that of --init, else light)")
    _number(sub, "--hours", 0.0001, MAX_HOURS, "total hours of training, instead of --steps")
    sub.add_argument("--change", action="store_true", help="continue a run with other values than it began with")
    sub.add_argument("--init", help="weights to start with: a shipped model or a .safetensors file")
    _path(sub, "--discriminator", "one to start stage adversarial with (default: random weights)", metavar="FILE")
    _path(sub, "--validation", "photographs to measure each checkpoint on; writes validation.csv", metavar="DIR")
    first = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(AdversarialConfig):
        flag = "--" + field.name.replace("_", "-")
        text = f"{field.metadata['help']}; default {first.get(field.name, field.default)}"
        if field.name not in first:
            text += ", stage adversarial only"
        elif first[field.name] != field.default:
            text += f"; {field.default} in stage adversarial"
        if isinstance(field.default, bool):  # None where it is not given, like the others
            sub.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif "low" in field.metadata:
            _number(sub, flag, field.metadata["low"], field.metadata["high"], text, type(field.default))
        else:
            sub.add_argument(flag, type=type(field.default), help=text)


def _tune(sub):
    _path(sub, "--data", "folders of training images", nargs="+", required=True, metavar="DIR")
    _path(sub, "--out", "folder of the sweep", required=True)
    _number(sub, "--steps", 1, 10**9, "steps of each run, default 300: about twenty minutes in all on a CPU", int)


def _datasets(sub):
    sub.add_argument("action", choices=("list", "fetch"))
    sub.add_argument("name", nargs="?", help="kodak, clic2020, div2k, imagenet-subset, ... (see list)")
    _path(sub, "--root", "folder for all data sets (default: data/downloads)")


def _report(sub):
    _model(sub)
    _path(sub, "--images", "folder (default: the embedded photographs)")
    out = "data/report/embedded"
    _path(sub, "--out", f"folder to write (default: {out})", default=out)
    sub.add_argument("--parts", nargs="+", help=f"sizes, curves, four-sizes, cited, {FLOWCHART} (default: all)")


def _grade(sub):
    _path(sub, "files", "notebooks that were handed in", nargs="+", metavar="FILE")
    _path(sub, "--csv", "file for the table: one row per exercise")
    sub.add_argument("--preset", choices=("tiny", "light"), default="tiny", help="model to run the notebooks with")


COMMANDS = {
    "compress": (COMPRESS, _compress),
    "decompress": (DECOMPRESS, _decompress),
    "info": (INFO, _info),
    "evaluate": (EVALUATE, _evaluate),
    "train": (TRAIN, _train),
    "tune": (TUNE, _tune),
    "datasets": (DATASETS, _datasets),
    "report": (REPORT, _report),
    "grade": (GRADE, _grade),
}
