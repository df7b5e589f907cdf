"""The command line: python -m ganlib."""

import argparse
import dataclasses
import logging
import os
import sys

from ganlib.cli import commands as do
from ganlib.cli.file_jobs import CommandError

FORMATTER = argparse.RawDescriptionHelpFormatter

DESCRIPTION = """\
Compress photographs with a learned codec, and train, measure and inspect it.

  compress    image or folder of images -> .gic files
  decompress  .gic file or folder of them -> images
  info        every field of a .gic file, or what a model is made of
  evaluate    bytes, PSNR, MS-SSIM, LPIPS, DISTS and Frechet distance of a model on a folder of images
  train       a model on folders of images, in two stages; resumes where it was stopped
  tune        a small sweep over learning rate, batch, width, depth, latents and lambda, with table and chart
  datasets    list and fetch Kodak, CLIC2020, DIV2K and an ImageNet subset
  report      regenerate the report's tables and charts
"""

EPILOG = """\
examples:
  python -m ganlib compress photo.png                        writes photo.gic
  python -m ganlib compress photo.png --target-bytes 35000   at most 35 kB, and nearly that
  python -m ganlib compress holiday/ -o small/ --quality 40
  python -m ganlib decompress photo.gic -o back.png          the most faithful picture
  python -m ganlib decompress photo.gic -o back.png --realism 1   the most natural one, from the same file
  python -m ganlib info photo.gic
  python -m ganlib COMMAND --help                            tells more of one command

exit status: 0 all done; 1 something could not be done, said on standard error; 2 wrong usage; 130 interrupted
"""


def parser():
    """The argument parser, one sub-command a function of commands.py."""
    top = argparse.ArgumentParser(
        "python -m ganlib", description=DESCRIPTION, epilog=EPILOG, formatter_class=FORMATTER
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, text, model=True):
        sub = commands.add_parser(name, help=text.splitlines()[0], description=text, formatter_class=FORMATTER)
        sub.set_defaults(run=run)
        if model:
            sub.add_argument(
                "--model", default="light", help="shipped model, or a .safetensors file (default: light)"
            )
            sub.add_argument("--device", default="cpu", help="where the networks run: cpu (default) or cuda")
        return sub

    c = command(
        "compress",
        do.compress,
        "Compress an image, or every image of a folder, to .gic files.\n\n"
        "Takes 8-bit RGB and grayscale in any format that Pillow reads. EXIF orientation is applied; ICC profile\n"
        "and EXIF are kept. Transparency, 16 bits, CMYK and animation are refused, or converted with --convert.\n"
        "Inputs are never overwritten, and a file appears only once it is whole.",
    )
    c.add_argument("input", help="image file, or folder that is searched with its sub-folders")
    c.add_argument("-o", "--output", help="file or folder to write (default: beside the input, ending in .gic)")
    size = c.add_mutually_exclusive_group()
    size.add_argument(
        "--quality", type=float, default=50.0, help="0 (smallest) to 100 (best), default 50: about 0.3 bpp"
    )
    size.add_argument("--target-bytes", type=int, help="largest size of the file; met from below, within 3 %%")
    size.add_argument("--target-bpp", type=float, help="the same in bits per pixel")
    c.add_argument("--convert", action="store_true", help="convert what would be refused, transparency over white")
    c.add_argument("--strip", action="store_true", help="leave out ICC profile and EXIF")
    c.add_argument("--force", action="store_true", help="overwrite outputs that exist")

    d = command(
        "decompress",
        do.decompress,
        "Decompress a .gic file, or every one of a folder, to images.\n\n"
        "Pictures of any size: large ones are written strip by strip where the format is PNG, TIFF or JPEG.",
    )
    d.add_argument("input", help=".gic file, or folder that is searched with its sub-folders")
    d.add_argument("-o", "--output", help="file or folder to write (default: beside the input, as .png)")
    d.add_argument("--format", default="png", help="suffix of the image where -o names none (default: png)")
    d.add_argument("--realism", type=float, default=0.0, help="0 (most faithful, default) to 1 (most natural)")
    d.add_argument(
        "--region",
        type=int,
        nargs=4,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="this part only, in pixels, X1, Y1 excluded",
    )
    d.add_argument(
        "--salvage", action="store_true", help="of a damaged file, what is whole; NAME.valid.png shows where that is"
    )
    d.add_argument("--force", action="store_true", help="overwrite outputs that exist")

    i = command(
        "info",
        do.info,
        "Show every field of a .gic file without running a network, or, without a file, the parts of a model:\n"
        "parameters, multiply-accumulates for each pixel, and its configuration.",
    )
    i.add_argument("file", nargs="?", help=".gic file")

    e = command(
        "evaluate",
        do.evaluate,
        "Compress and decompress every image of a folder; print the means: bytes of real files, rounded pixels.\n\n"
        "The Frechet distance is one of VGG16's features of 64x64 patches, over all images together.",
    )
    e.add_argument("--images", help="folder (default: the embedded photographs)")
    e.add_argument("--quality", type=float, nargs="+", help="qualities to measure (default: ten from 0 to 100)")
    e.add_argument("--realism", type=float, nargs="+", default=[0.0], help="realisms to measure (default: 0)")
    e.add_argument(
        "--no-perceptual", action="store_true", help="bytes, PSNR and MS-SSIM only, in a tenth of the time"
    )
    e.add_argument("--out", help="CSV file: one row an image, quality and realism")

    t = command(
        "train",
        do.train,
        "Train a model: --stage rate-distortion first, then, from its weights, --stage adversarial.\n\n"
        "The first trains everything on rate + lambda * distortion + realism * LPIPS. The second trains the\n"
        "generator alone against a discriminator, on distortion + realism * (LPIPS + GAN): files stay what\n"
        "they were.\n\n"
        "Writes checkpoint.pt, weights.safetensors, log.csv and config.json into --out every few minutes; the same\n"
        "command goes on from there, after Ctrl-C or worse. Runs on a GPU where there is one. N processes, on several\n"
        "GPUs or on the CPU: `torchrun --nproc-per-node N -m ganlib train ...`; each takes --batch crops a step.",
        model=False,
    )
    t.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders of training images")
    t.add_argument("--out", required=True, help="folder of the run")
    t.add_argument("--stage", choices=do.STAGES, default=do.STAGES[0], help=f"default {do.STAGES[0]}")
    t.add_argument("--preset", default="light", help="tiny, light (default) or before")
    t.add_argument("--hours", type=float, help="train for so long in all, instead of --steps")
    t.add_argument("--change", action="store_true", help="go on with other values than the run began with")
    t.add_argument("--init", help="weights to begin with: a shipped model or a .safetensors file")
    t.add_argument("--discriminator", metavar="FILE", help="one to begin stage adversarial with (default: chance)")
    t.add_argument("--validation", metavar="DIR", help="photographs to measure each checkpoint on, in validation.csv")
    from ganlib.config import AdversarialConfig, TrainConfig

    first = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(AdversarialConfig):
        flag = "--" + field.name.replace("_", "-")
        text = f"default {first.get(field.name, field.default)}"
        if field.name not in first:
            text += ", of stage adversarial"
        elif first[field.name] != field.default:
            text += f"; {field.default} in stage adversarial"
        if isinstance(field.default, bool):  # not given, it is None, like the others
            t.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            t.add_argument(flag, type=type(field.default), help=text)

    u = command(
        "tune",
        do.tune,
        "Train small models that differ in one hyperparameter each, and set them against the default.\n\n"
        "Learning rate, batch, width, depth, latent channels and lambda range of the tiny preset, fourteen runs in\n"
        "all, measured on the embedded photographs by the bytes of whole files. Writes points.csv, sweep.csv and\n"
        "sweep.png into --out after each; the same command goes on from there, after Ctrl-C or worse.",
        model=False,
    )
    u.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders of training images")
    u.add_argument("--out", required=True, help="folder of the sweep")
    u.add_argument("--steps", type=int, help="of each run (default: 300, some twenty minutes in all on a CPU)")

    s = command(
        "datasets",
        do.datasets,
        "List the data sets, or fetch one: from its own site, checked against its published SHA-256.",
        model=False,
    )
    s.add_argument("action", choices=("list", "fetch"))
    s.add_argument("name", nargs="?", help="kodak, clic2020, div2k, imagenet-subset, ... (see list)")
    s.add_argument("--root", help="folder for all data sets (default: data/downloads)")

    r = command("report", do.report, "Regenerate the report's tables (CSV) and charts (PNG) from measurements.")
    r.add_argument("--images", help="folder (default: the embedded photographs)")
    r.add_argument("--out", default="data/report/embedded", help="folder to write (default: data/report/embedded)")
    r.add_argument("--parts", nargs="+", help="sizes, curves, four-sizes (default: all)")
    r.add_argument("--stage-one", help="weights from before --stage adversarial, to be measured beside the model's")
    return top


def main(argv=None):
    """Run one command and return the exit status."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        args.run(args)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CommandError, ValueError, OSError, RuntimeError) as error:
        # OutOfMemoryError and other surprises of torch are RuntimeErrors; one line serves the user better
        print(f"ganlib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ganlib: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
