"""The capstone: train a model for at most thirty minutes, and beat `tiny` by as much as you can.

    python -m ganlib train --preset tiny --data DIR --out runs/mine --hours 0.5     (change what you like)
    python notebooks/capstone.py runs/mine/weights.safetensors --name Anna

The score is the BD-rate against `tiny` on the embedded photographs, which must be in no training set: how many
percent of bytes more, or with a minus fewer, at equal PSNR. It comes from whole files that are written, read and
decoded. Each score is a row of runs/capstone/leaderboard.csv. Training time is what the weights' metadata say.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from ganlib import datasets, load_codec
from ganlib.atomic_write import atomic_write
from ganlib.evaluation.measure import evaluate, mean_curves
from ganlib.evaluation.metrics import bd_rate
from ganlib.weights import WeightsError, load_weights

BASELINE = "tiny"
SECONDS = 1800
SLACK = 60  # seconds that the last checkpoint may take
QUALITIES = (0, 15, 30, 45, 60, 75, 90, 100)
LEADERBOARD = Path("runs/capstone/leaderboard.csv")
COLUMNS = ["name", "bd_rate_percent", "seconds", "fingerprint"]


def curve(model, pictures, progress=True):
    """Mean rate and PSNR of a model at QUALITIES: DataFrame of bpp and psnr, from the bytes of files."""
    table = evaluate(load_codec(model), pictures, QUALITIES, with_ms_ssim=False, progress=progress)
    return mean_curves(table, by=["quality"])


def score(model, pictures=None, progress=True):
    """BD-rate of a model against BASELINE, in percent: below 0 where it needs fewer bytes for the same PSNR.

    Args:
        model: name or path of weights.
        pictures: {name: H,W,3 uint8}; None for the embedded photographs.

    Raises:
        WeightsError: there are none.
        ValueError: the two curves have no PSNR in common.
    """
    pictures = datasets.embedded() if pictures is None else pictures
    baseline, mine = (curve(name, pictures, progress) for name in (BASELINE, model))
    return bd_rate(baseline["bpp"], baseline["psnr"], mine["bpp"], mine["psnr"])


def enter(path, name, percent, weights):
    """Write a score into the leaderboard, the best first, and return all of it. The same weights have one row."""
    seconds = sum(stage.get("seconds", 0) for stage in weights.stages)
    row = pd.DataFrame([[name, round(percent, 2), seconds, weights.fingerprint.hex()]], columns=COLUMNS)
    if path.exists():
        before = pd.read_csv(path, dtype={"fingerprint": str})
        row = pd.concat([before[before["fingerprint"] != row["fingerprint"][0]], row])
    board = row.sort_values("bd_rate_percent", ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        board.to_csv(part, index=False)
    return board


def main(argv=None):
    """Score one file of weights; 1 where that cannot be done, or where it was trained for too long."""
    parser = argparse.ArgumentParser("python notebooks/capstone.py", description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="weights.safetensors of a run")
    parser.add_argument("--name", required=True, help="who made it")
    parser.add_argument("--leaderboard", type=Path, default=LEADERBOARD, help=f"CSV file (default: {LEADERBOARD})")
    args = parser.parse_args(argv)
    try:
        weights = load_weights(args.weights)
        seconds = sum(stage.get("seconds", 0) for stage in weights.stages)
        if seconds > SECONDS + SLACK:
            raise ValueError(f"trained for {seconds / 60:.0f} minutes: {SECONDS / 60:.0f} are allowed")
        percent = score(args.weights)
    except (WeightsError, ValueError) as error:
        print(f"capstone: {error}", file=sys.stderr)
        return 1
    print(f"{args.name}: BD-rate {percent:+.1f} % against {BASELINE}")
    print(enter(args.leaderboard, args.name, percent, weights).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
