"""Speed and memory of whole calls beside named peers, measured in one run: make bench.

A picture becomes the bytes of a complete stream, and these a picture again. What is measured:

    ganlib light                                            ours.py, in the environment that runs this
    bmshj2018-hyperprior, mbt2018-mean, cheng2020-anchor    peers.py, CompressAI 1.2.8 in .bench
    JPEG, WebP, AVIF at the bytes nearest to ganlib's       conventional.py, as in ganlib.evaluation.baselines

Every codec encodes in one process and decodes in another, so that no peak of memory hides another (meter.py); all
of them run on the same number of threads with the same policy of waiting, one after the other. Speeds are medians
after a warm-up. The table names the CPU's instruction sets: with avx512_bf16 or AMX convolutions take half the time.

    python tests/benchmarks/bench.py --codecs mbt2018-mean JPEG --repeats 3
    python tests/benchmarks/bench.py --profile      where ganlib's own time goes (shares.py)
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import shares
import speed_table
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from ganlib import datasets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS_PYTHON = ROOT / ".bench" / "bin" / "python"

SCRIPTS = {
    "ganlib light": "ours.py",
    "bmshj2018-hyperprior": "peers.py",
    "mbt2018-mean": "peers.py",
    "cheng2020-anchor": "peers.py",
    "JPEG": "conventional.py",
    "WebP": "conventional.py",
    "AVIF": "conventional.py",
}
QUARTER = 512  # pixels; four make a megapixel
# Of PyTorch's names, those that decide how fast convolutions run on x86 and on ARM
INSTRUCTION_SETS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def photograph():
    """1024x1024x3 uint8: four of the embedded photographs, each cropped to a square and fitted into a quarter.

    None of them alone has a megapixel, and one enlarged to it would be blurred, and cheap to code. These are
    enlarged by 1.0 to 1.28, so that the detail of a pixel is that of a photograph.
    """
    photographs = datasets.embedded()
    names = ("astronaut", "motorcycle_left", "rocket", "coffee")
    size = (QUARTER, QUARTER)
    quarters = [
        np.asarray(ImageOps.fit(Image.fromarray(photographs[name]), size, Image.Resampling.LANCZOS)) for name in names
    ]
    return np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])


def instruction_sets():
    """Those of INSTRUCTION_SETS that this CPU has, as PyTorch finds them: "avx2 avx512_f avx512_bf16"."""
    found = torch.cpu.get_capabilities()
    return " ".join(name for name in INSTRUCTION_SETS if found.get(name))


def environment(threads):
    """This process's variables, with ganlib's thread policy, and the thread counts of every library set."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return os.environ | dict.fromkeys(names, str(threads))


def run_step(codec, step, folder, repeats, threads):
    """One step of one codec in a process of its own -> its figures, see meter.main."""
    script = SCRIPTS[codec]
    python = PEERS_PYTHON if script == "peers.py" else sys.executable
    arguments = [codec, step, folder, "--repeats", repeats, "--threads", threads]
    done = subprocess.run(
        [str(part) for part in (python, HERE / script, *arguments)],
        env=environment(threads),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{script} {codec} {step} failed:\n{done.stderr}")
    return json.loads((folder / f"{codec}.{step}.json").read_text())


def measure_all(codecs, picture, repeats, threads):
    """Every step of every codec, in the order of SCRIPTS -> rows of speed_table, with ratios."""
    height, width = picture.shape[:2]
    rows = []
    with tempfile.TemporaryDirectory() as name, tqdm(total=3 * len(codecs), unit="step") as bar:
        folder = Path(name)
        np.save(folder / "picture.npy", picture)
        for codec in codecs:
            steps = {}
            for step in ("prepare", "encode", "decode"):
                bar.set_description(f"{codec} {step}")
                steps[step] = run_step(codec, step, folder, repeats, threads)
                bar.update()
            rows.append(speed_table.row(codec, width, height, threads, steps, instruction_sets()))
    speed_table.add_ratios(rows)
    return rows


def notes(rows):
    """What a reader must know of the rows, a line each."""
    lines = [
        "Mpixel/s: 10^6 pixels a second, median. peak MB: resident at most in the process, interpreter, libraries "
        "and weights included. MB above: what the call adds to that. kMAC/pixel: executed.",
        f"CPU with {rows[0]['cpu']}, {rows[0]['threads']} threads of every codec.",
    ]
    for values in rows:
        if values["zero_symbols"] is not None:
            lines.append(
                f"{values['codec']}: random weights; {100 * values['zero_symbols']:.0f} % of the symbols of y are "
                f"zero, {100 * values['escaped_symbols']:.3f} % escaped; torch {values['torch']}"
            )
        elif values["torch"]:
            lines.append(f"{values['codec']}: shipped weights; torch {values['torch']}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--codecs", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), metavar="CODEC",
        help=f"of {', '.join(SCRIPTS)}; ganlib light is always measured",
    )  # fmt: skip
    parser.add_argument("--image", type=Path, help="a picture (default: 1024x1024 of the embedded photographs)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls after the warm-up (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="of every process (default: 2)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "report" / "speed" / "speed.csv", help="CSV file")
    parser.add_argument("--profile", action="store_true", help="show what share of ganlib's time each part takes")
    args = parser.parse_args()
    if args.repeats < 1 or args.threads < 1:
        parser.error("--repeats and --threads are 1 or more")
    codecs = [codec for codec in SCRIPTS if codec in args.codecs or codec == speed_table.SUBJECT]
    picture = photograph() if args.image is None else np.array(Image.open(args.image).convert("RGB"))
    if args.profile:
        print(shares.markdown(shares.profile(picture, args.repeats, args.threads)))
        return
    if not PEERS_PYTHON.exists() and any(SCRIPTS[codec] == "peers.py" for codec in codecs):
        parser.error(f"{PEERS_PYTHON.parent.parent} is missing: make bench sets it up, or choose other --codecs")
    rows = measure_all(codecs, picture, args.repeats, args.threads)
    speed_table.write_csv(rows, args.out)
    print(speed_table.markdown(rows), "", *notes(rows), f"From {args.out}", "", sep="\n")
    print(*speed_table.sentences(rows), sep="\n")


if __name__ == "__main__":
    main()
