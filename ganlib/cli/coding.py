"""The commands compress and decompress: a file, a folder, or standard input and output."""

import functools
import logging
import os
import shutil
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

from ganlib.atomic_write import atomic_write
from ganlib.cli.file_jobs import STREAM, CommandError, check_name, for_each, is_folder, jobs

log = logging.getLogger(__name__)

LONGEST_NAME = 255  # bytes, in most file systems
_catching = threading.Lock()  # Python's warnings can be caught by one thread at a time


def compress(args):
    """Compress a file, a folder or standard input."""
    from ganlib.codec.image_formats import readable_suffixes

    if Path(args.input).is_file() and Path(args.input).suffix.lower() == ".gic":
        raise CommandError(f"{args.input}: a .gic file already: decompress it first")
    work = Compression(
        model=args.model,
        device=args.device,
        quality=args.quality,
        target_bytes=args.target_bytes,
        target_bpp=args.target_bpp,
        convert=args.convert,
        metadata=not args.strip,
        max_pixels=args.max_pixels,
    )
    _run(args, work, readable_suffixes(), ".gic", "compressed")


def decompress(args):
    """Decompress a file, a folder or standard input."""
    from ganlib.codec.image_formats import writable_format

    suffix = "." + args.format.lstrip(".")
    into_file = args.output and not is_folder(args.input, args.output)
    writable_format((into_file and Path(args.output).suffix) or suffix)
    if args.salvage and (args.output or args.input) == STREAM:
        raise CommandError("--salvage writes a mask beside the picture: name the picture with -o")
    work = Decompression(
        model=args.model,
        device=args.device,
        realism=args.realism,
        region=args.region and tuple(args.region),
        salvage=args.salvage,
        max_pixels=args.max_pixels,
        suffix=suffix,
    )
    _run(args, work, {".gic"}, suffix, "decompressed", mask_of if args.salvage else None)


def _run(args, work, suffixes, new_suffix, verb, beside=None):
    """Run one of the two commands on a file, a folder or standard input. (beside: as in jobs().)"""
    if STREAM in (args.input, args.output):
        return _run_on_streams(args, work, suffixes, new_suffix, beside)
    others = new_suffix == ".gic"  # not when decompressing: other files beside .gic files are normal
    unreadable = []
    pairs = jobs(args.input, args.output, suffixes, new_suffix, args.force, args.resume, others, beside, unreadable)
    for_each(pairs, work, verb, args.jobs, unreadable)


def _run_on_streams(args, work, suffixes, new_suffix, beside):
    """The same where "-" stands for standard input or output: through temporary files, so that output is complete."""
    output = args.output or STREAM
    for name, stream in (("input", args.input == STREAM and sys.stdin), ("output", output == STREAM and sys.stdout)):
        if stream is None:
            raise CommandError(f"standard {name} is closed")
    if output == STREAM and sys.stdout.isatty():
        raise CommandError("standard output is a terminal: redirect it, or name a file with -o")
    if Path(args.input).is_dir():
        raise CommandError(f"{args.input} is a folder: its output is a folder too")
    if not is_folder(args.input, output):
        check_name(output, suffixes, new_suffix)  # before waiting for standard input
    with tempfile.TemporaryDirectory(prefix="ganlib-") as folder:
        source, target = Path(args.input), Path(output)
        if args.input == STREAM:
            source = Path(folder, "standard input")
            with source.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if output == STREAM:
            target = Path(folder, "standard output" + new_suffix)
        try:
            [(source, target)] = jobs(source, target, suffixes, new_suffix, args.force, beside=beside)
            line = work(source, target)
        except (ValueError, OSError, CommandError) as error:
            raise CommandError(str(error).replace(f"{folder}{os.sep}", "")) from error
        print(line.replace(f"{folder}{os.sep}", ""), file=sys.stderr)
        if output == STREAM:
            with target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@functools.lru_cache(maxsize=2)
def _codec(model, device):
    """Loaded once in each process."""
    from ganlib import load_codec

    return load_codec(model, device)


@dataclass(frozen=True)
class Compression:
    """A function: compresses a picture (first path) to a .gic file (second path) and returns a line to print."""

    model: str
    device: str
    quality: float
    target_bytes: int | None
    target_bpp: float | None
    convert: bool
    metadata: bool
    max_pixels: int | None

    def __call__(self, source, target):
        from ganlib.codec import container, image_io
        from ganlib.evaluation.metrics import bits_per_pixel

        data = _codec(self.model, self.device).compress(
            image_io.load(source, self.convert, self.max_pixels),
            self.quality,
            target_bytes=self.target_bytes,
            target_bpp=self.target_bpp,
            metadata=self.metadata,
        )
        with atomic_write(target) as part:
            part.write_bytes(data)
        before, header = source.stat().st_size, container.Index(data).header
        ratio = f"{before:,} -> {len(data):,} bytes, {before / len(data):.1f}x smaller"
        return f"{target}: {ratio}, {bits_per_pixel(len(data), header.width, header.height):.3f} bpp"


@dataclass(frozen=True)
class Decompression:
    """A function: decompresses a .gic file (first path) to a picture (second path) and returns a line to print."""

    model: str
    device: str
    realism: float
    region: tuple[int, int, int, int] | None
    salvage: bool
    max_pixels: int
    suffix: str  # of the format, where the picture's name has none

    def __call__(self, source, target):
        from PIL import Image

        from ganlib.codec import image_output

        data = source if source.is_file() else source.read_bytes()  # a named pipe
        self._refuse_too_many(data)
        picture, damage = self._strips(data)
        with atomic_write(target) as part:
            image_output.write(part, picture, target.suffix or self.suffix, source)
        if damage and not picture.decoded_mask.all():  # if all pixels are whole, only metadata are damaged
            mask = mask_of(target)
            with atomic_write(mask) as part:
                Image.fromarray(picture.decoded_mask).save(part, "PNG")
            damage += f"; white pixels in {mask} mark the undamaged ones"
        if damage:
            log.warning("%s: %s", source, damage)
        return f"{target}: {picture.width}x{picture.height} {'RGB' if picture.channels == 3 else 'L'}"

    def _refuse_too_many(self, data):
        """ValueError above max_pixels: a file of a few hundred bytes may claim 2^30 pixels."""
        from ganlib.codec.container import buffer, first_header
        from ganlib.codec.salvage import SalvagedIndex

        header = SalvagedIndex(buffer(data)).header if self.salvage else first_header(buffer(data))
        if header is None:
            return  # the codec will report the damage
        x0, y0, x1, y1 = self.region or (0, 0, header.width, header.height)
        if (x1 - x0) * (y1 - y0) > self.max_pixels:
            raise ValueError(
                f"{x1 - x0}x{y1 - y0} pixels are more than --max-pixels {self.max_pixels}: raise that if you trust "
                "the file, or take a --region"
            )

    def _strips(self, data):
        """Strips, and the damage in words, or None."""
        from ganlib import DamageWarning

        codec = _codec(self.model, self.device)
        if not self.salvage:
            return codec.strips(data, self.realism, region=self.region), None
        with _catching, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DamageWarning)
            picture = codec.strips(data, self.realism, region=self.region, salvage=True)
        return picture, "; ".join(str(warning.message) for warning in caught) or None


def mask_of(target):
    """Path for the mask of a salvaged picture; a name that would be too long is shortened."""
    stem = target.stem
    while len(os.fsencode(f"{stem}.valid.png")) > LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(f"{stem}.valid.png")
