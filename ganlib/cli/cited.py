"""Train the miniatures on one budget and set them beside each other: make cited, python -m ganlib.cli.cited DIR...

Each run goes on from where it was stopped; what is finished is not done again.
"""

import argparse
import shutil
import sys
from pathlib import Path

from ganlib import cited
from ganlib.atomic_write import atomic_write
from ganlib.cited.presets import TRAINING
from ganlib.cli.ending import exit_status
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
    parser.add_argument("--images", help="folder of images to measure on, Kodak's (default: the embedded ones)")
    parser.add_argument("--runs", default="runs/cited", help="folder for checkpoints and logs (default: runs/cited)")
    parser.add_argument("--out", default=str(DATA / "report" / "cited"), help="folder for charts and tables")
    parser.add_argument("--names", nargs="+", default=cited.NAMES, choices=cited.NAMES, help="only these")
    args = parser.parse_args()
    for name in args.names:
        train_one(name, args.data, Path(args.runs) / name)
    pictures = pictures_of(args.images)
    title = Path(args.images).name if args.images else "embedded photographs"
    for path in write_comparison(load_miniatures(), pictures, args.out, title).values():
        print(path)


def steps_done(weights):
    """Steps that a file of weights was trained for, 0 where there is none."""
    return load_weights(weights).stages[-1]["steps"] if weights.exists() else 0


def train_one(name, folders, out, configs=TRAINING, shipped=SHIPPED):
    """Train a miniature, or go on with it; once it is finished its weights are NAME.safetensors in `shipped`.

    Args:
        out: Path of a folder; each run has one in it: 1, 2, ...
        configs: TrainConfig of each run, by default those of the common budget. Each begins with the weights of the
            one before.
    """
    shape, weights = preset(name), None
    for number, config in enumerate(configs, 1):
        init, weights = weights, out / str(number) / WEIGHTS
        if steps_done(weights) < config.steps:
            train(cited.run_class(shape.family), folders, weights.parent, shape, config, init=init)
    with atomic_write(shipped / f"{name}.safetensors") as part:
        shutil.copyfile(weights, part)


if __name__ == "__main__":
    sys.exit(exit_status(main))
