"""Train the miniatures with the same budget and compare them: make cited, or python -m ganlib.cli.cited DIR...

A stopped run continues where it stopped; a finished run is not repeated.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from ganlib import cited
from ganlib.cited.presets import TRAINING
from ganlib.cli.ending import exit_status
from ganlib.cli.ship import ship
from ganlib.config import DATA, preset
from ganlib.evaluation.cited import load_miniatures, write_comparison
from ganlib.evaluation.measure import pictures_of
from ganlib.training.loop import train
from ganlib.training.run import WEIGHTS
from ganlib.weights import SHIPPED, load_weights


def main():
    """Parse the arguments, train, compare."""
    parser = argparse.ArgumentParser("python -m ganlib.cli.cited", description=__doc__)
    parser.add_argument("data", nargs="+", metavar="DIR", help="folders of training images")
    parser.add_argument("--images", help="folder of images to measure on, like Kodak's (default: the embedded ones)")
    parser.add_argument("--runs", default="runs/cited", help="folder for checkpoints and logs (default: runs/cited)")
    parser.add_argument(
        "--out", help="folder for charts and tables (default: data/report/cited; without --images, RUNS/report)"
    )
    parser.add_argument("--names", nargs="+", default=cited.NAMES, choices=cited.NAMES, help="train only these")
    args = parser.parse_args()
    for name in args.names:
        train_one(name, args.data, Path(args.runs) / name)
    pictures = pictures_of(args.images)
    out = args.out or (DATA / "report" / "cited" if args.images else Path(args.runs) / "report")
    title = Path(args.images).name if args.images else "embedded photographs"
    for path in write_comparison(load_miniatures(), pictures, out, title).values():
        print(path)


def is_finished(weights, config):
    """Whether a weights file exists and its last stage was trained to the end with the settings of a TrainConfig.

    Raises:
        ValueError: it was trained with other settings.
    """
    if not weights.exists():
        return False
    stage = load_weights(weights).stages[-1]
    if not dataclasses.asdict(config).items() <= stage["configs"][-1].items():
        raise ValueError(
            f"{weights} was trained with other settings: choose another folder (--runs), or remove this one"
        )
    return stage["steps"] >= config.steps


def train_one(name, folders, out, configs=TRAINING, shipped=SHIPPED):
    """Train a miniature, or continue; then ship its weights as NAME.safetensors in `shipped`.

    Args:
        out: Path of a folder; each run has a subfolder: 1, 2, ...
        configs: TrainConfig of each run, by default those of the common budget. Each starts with the weights of the
            one before.
    """
    shape, weights = preset(name), None
    for number, config in enumerate(configs, 1):
        init, weights = weights, out / str(number) / WEIGHTS
        if not is_finished(weights, config):
            train(cited.run_class(shape.family), folders, weights.parent, shape, config, init=init)
    ship(weights, shipped / f"{name}.safetensors")


if __name__ == "__main__":
    sys.exit(exit_status(main))
