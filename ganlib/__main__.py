"""The command line: python -m ganlib."""

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from ganlib.batch import CommandError, for_each, jobs, write_through_temporary

FORMATTER = argparse.RawDescriptionHelpFormatter

DESCRIPTION = """\
Compress photographs with a learned codec, and train, measure and inspect it.

  compress    image or folder of images -> .gic files
  decompress  .gic file or folder of them -> images
  info        every field of a .gic file, or what a model is made of
  evaluate    bytes, PSNR, MS-SSIM, LPIPS, DISTS and Frechet distance of a model on a folder of images
  train       a model on folders of images, in two stages; resumes where it was stopped
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


def run_compress(args):
    from ganlib import bitstream, datasets, load_codec
    from ganlib.metrics import bits_per_pixel

    pairs = jobs(args.input, args.output, datasets.SUFFIXES, ".gic", args.force)
    codec = load_codec(args.model, args.device)

    def work(path, to):
        data = codec.compress(
            path,
            args.quality,
            target_bytes=args.target_bytes,
            target_bpp=args.target_bpp,
            convert=args.convert,
            metadata=not args.strip,
        )
        write_through_temporary(to, lambda part: Path(part).write_bytes(data))
        header = bitstream.read(data).header
        bpp = bits_per_pixel(len(data), header.width, header.height)
        before = path.stat().st_size
        return f"{to}: {before:,} -> {len(data):,} bytes, {before / len(data):.1f}x smaller, {bpp:.3f} bpp"

    for_each(pairs, work, "compressed")


def run_decompress(args):
    from PIL import Image

    from ganlib import load_codec

    pairs = jobs(args.input, args.output, {".gic"}, "." + args.format.lstrip("."), args.force)
    Image.init()
    for _, to in pairs:
        if to.suffix.lower() not in Image.EXTENSION:
            raise CommandError(f"{to}: no image format is called {to.suffix!r}; .png loses nothing")
    codec = load_codec(args.model, args.device)

    def work(path, to):
        image = codec.decompress(path.read_bytes(), realism=args.realism)
        keep = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
        if "exif" in image.info:
            keep["exif"] = image.info["exif"]
        kind = Image.EXTENSION[to.suffix.lower()]
        write_through_temporary(to, lambda part: image.save(part, kind, **keep))
        return f"{to}: {image.width}x{image.height} {image.mode}"

    for_each(pairs, work, "decompressed")


def run_info(args):
    if args.file:
        from ganlib import bitstream

        path = Path(args.file)
        if not path.is_file():
            raise CommandError(f"{path} does not exist")
        data = path.read_bytes()
        try:
            header = bitstream.read(data).header
        except bitstream.BitstreamError as error:
            raise CommandError(f"{path}: {error}") from None
        print(f"{path}: {len(data):,} bytes, {8 * len(data) / (header.width * header.height):.4f} bpp")
        for field in dataclasses.fields(header):
            value = getattr(header, field.name)
            print(f"  {field.name:9}{value.hex() if isinstance(value, bytes) else value}")
        print(f"  {'tiles':9}{header.grid[0]} x {header.grid[1]}")
        for kind, offset, payload in bitstream.chunks(data):
            print(f"  chunk {kind.decode()} at {offset - bitstream.CHUNK.size}: {len(payload):,} bytes of payload")
        return
    from ganlib.model import macs_per_pixel
    from ganlib.zoo import find_weights, load_weights

    model, _, mark, note = load_weights(args.model)
    path = find_weights(args.model)
    print(f"{path}: {path.stat().st_size:,} bytes, fingerprint {mark.hex()}")
    print(f"  trained  {note or 'unknown'}")
    print(f"  parameters {sum(p.numel() for p in model.parameters()):,}")
    for part, count in macs_per_pixel(model).items():
        print(f"  {part:8}{count / 1000:6.1f} kMAC/pixel")
    for name, value in dataclasses.asdict(model.config).items():
        print(f"  {name} = {value}")


def run_evaluate(args):
    from ganlib import datasets, evaluation, load_codec, perceptual

    codec = load_codec(args.model, args.device)
    pictures = datasets.embedded() if args.images is None else evaluation.load_all(datasets.image_files(args.images))
    if not (args.no_perceptual or perceptual.has_vgg16()):
        logging.warning("without DISTS and Frechet distance: %s", perceptual.VGG16_REMEDY)
    table = evaluation.evaluate(
        codec,
        pictures,
        args.quality or evaluation.LADDER,
        args.realism,
        label=f"ganlib {args.model}",
        perceptual=not args.no_perceptual,
    )
    curve = evaluation.mean_curves(table, by=["codec", "quality", "realism"])
    print(curve.to_string(index=False, float_format="%.4f"))
    rates = (0.20, 0.28, 0.50)
    for realism, points in curve.groupby("realism"):
        for rate, value in zip(rates, evaluation.psnr_at(points, rates)):
            print(f"PSNR at {rate:.2f} bpp, realism {realism:g}: {value:.2f} dB")
    if args.out:
        write_through_temporary(Path(args.out), lambda part: table.to_csv(part, index=False, float_format="%.5f"))


STAGES = ("rate-distortion", "adversarial")


def run_train(args):
    from ganlib.adversarial import AdversarialRun
    from ganlib.config import AdversarialConfig, TrainConfig, preset
    from ganlib.training import Run, train

    kind, stage = (TrainConfig, Run) if args.stage == STAGES[0] else (AdversarialConfig, AdversarialRun)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(AdversarialConfig)}
    given = {name: value for name, value in given.items() if value is not None}
    if unused := set(given) - {f.name for f in dataclasses.fields(kind)}:
        flags = ", ".join("--" + name.replace("_", "-") for name in sorted(unused))
        raise CommandError(f"{flags}: of --stage adversarial only")
    train(args.data, args.out, preset(args.preset), kind(**given), hours=args.hours, init=args.init, stage=stage)
    print(f"{args.out}/weights.safetensors")


def run_datasets(args):
    from ganlib import datasets

    if args.action == "list":
        for name, source in datasets.SOURCES.items():
            print(
                f"{name:16} {source.purpose:10} {source.images:6,} images {source.megabytes:8,.0f} MB  {source.url}"
            )
            print(f"{'':16} {source.licence}")
        count = len(datasets.embedded())
        print(f"{'embedded':16} {'measuring':10} {count:6,} images           nothing to download: in scikit-image")
        return
    if not args.name:
        raise CommandError(f"which one? {', '.join(datasets.SOURCES)}")
    files = datasets.fetch(args.name, args.root)
    print(f"{len(files):,} images in {os.path.commonpath([f.parent for f in files])}")


def run_report(args):
    from ganlib import load_codec
    from ganlib.report import PARTS, write_report

    codec = load_codec(args.model, args.device)
    stage_one = load_codec(args.stage_one, args.device) if args.stage_one else None
    written = write_report(codec, args.out, args.images, parts=args.parts or PARTS, stage_one=stage_one)
    for path in written.values():
        print(path)


def parser():
    """The argument parser, one sub-command a function above."""
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
        run_compress,
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

    d = command("decompress", run_decompress, "Decompress a .gic file, or every one of a folder, to images.")
    d.add_argument("input", help=".gic file, or folder that is searched with its sub-folders")
    d.add_argument("-o", "--output", help="file or folder to write (default: beside the input, as .png)")
    d.add_argument("--format", default="png", help="suffix of the image where -o names none (default: png)")
    d.add_argument("--realism", type=float, default=0.0, help="0 (most faithful, default) to 1 (most natural)")
    d.add_argument("--force", action="store_true", help="overwrite outputs that exist")

    i = command(
        "info",
        run_info,
        "Show every field of a .gic file without running a network, or, without a file, the parts of a model:\n"
        "parameters, multiply-accumulates for each pixel, and its configuration.",
    )
    i.add_argument("file", nargs="?", help=".gic file")

    e = command(
        "evaluate",
        run_evaluate,
        "Compress and decompress every image of a folder; print the means: bytes of real files, rounded pixels.\n\n"
        "DISTS and the Frechet distance need torchvision's VGG16 and are left out where it is not on this machine.\n"
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
        run_train,
        "Train a model: --stage rate-distortion first, then, from its weights, --stage adversarial.\n\n"
        "The first trains everything on rate + lambda * distortion. The second trains the generator alone against a\n"
        "discriminator, on distortion + realism * (LPIPS + GAN): files stay what they were, whatever the realism.\n\n"
        "Writes checkpoint.pt, weights.safetensors, log.csv and config.json into --out every few minutes; the same\n"
        "command goes on from there, after Ctrl-C or worse. Runs on a GPU where there is one, and on several with\n"
        "`accelerate launch -m ganlib train ...`.",
        model=False,
    )
    t.add_argument("--data", nargs="+", required=True, metavar="DIR", help="folders of training images")
    t.add_argument("--out", required=True, help="folder of the run")
    t.add_argument("--stage", choices=STAGES, default=STAGES[0], help=f"default {STAGES[0]}")
    t.add_argument("--preset", default="light", help="tiny, light (default) or before")
    t.add_argument("--hours", type=float, help="train for so long in all, instead of --steps")
    t.add_argument("--init", help="weights to begin with: a shipped model or a .safetensors file")
    from ganlib.config import AdversarialConfig, TrainConfig

    first = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for field in dataclasses.fields(AdversarialConfig):
        flag = "--" + field.name.replace("_", "-")
        text = f"default {first.get(field.name, field.default)}"
        if field.name not in first:
            text += ", of stage adversarial"
        elif first[field.name] != field.default:
            text += f"; {field.default} in stage adversarial"
        t.add_argument(flag, type=type(field.default), help=text)

    s = command(
        "datasets",
        run_datasets,
        "List the data sets, or fetch one: from its own site, checked against its published SHA-256.",
        model=False,
    )
    s.add_argument("action", choices=("list", "fetch"))
    s.add_argument("name", nargs="?", help="kodak, clic2020, div2k, imagenet-subset, ... (see list)")
    s.add_argument("--root", help="folder for all data sets (default: data/downloads)")

    r = command("report", run_report, "Regenerate the report's tables (CSV) and charts (PNG) from measurements.")
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
