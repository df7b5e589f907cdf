"""Make trained weights a shipped model: python -m ganlib.cli.ship WEIGHTS data/weights/NAME.safetensors

Weights that they replace move to earlier/ beside them, where decompress finds them by the fingerprint in a file.
"""

import argparse
import shutil
import sys
from itertools import count
from pathlib import Path

from ganlib.atomic_write import atomic_write
from ganlib.cli.ending import exit_status
from ganlib.version import __version__
from ganlib.weights import load_weights


def ship(trained, target):
    """Copy a weights file to its place among the shipped ones.

    If the file there has another fingerprint, it moves to earlier/NAME-VERSION.safetensors: VERSION is this one, the
    last that shipped it.

    Args:
        trained: Path of a weights file; target: Path, NAME.safetensors in the folder of the shipped ones.

    Raises:
        WeightsError: one of the two holds no weights; then nothing is changed.
    """
    mark = load_weights(trained).fingerprint
    with atomic_write(target) as part:
        shutil.copyfile(trained, part)
        if target.exists() and load_weights(target).fingerprint != mark:
            folder = target.parent / "earlier"
            folder.mkdir(exist_ok=True)
            endings = (f"-{n}" if n > 1 else "" for n in count(1))  # several may be replaced in one version
            names = (folder / f"{target.stem}-{__version__}{ending}.safetensors" for ending in endings)
            target.rename(next(path for path in names if not path.exists()))


def main(arguments=None):
    """Parse the arguments and ship."""
    parser = argparse.ArgumentParser("python -m ganlib.cli.ship", description=__doc__.splitlines()[0])
    parser.add_argument("trained", type=Path, metavar="WEIGHTS", help="weights.safetensors of a run")
    parser.add_argument("target", type=Path, help="NAME.safetensors in the folder of the shipped weights")
    args = parser.parse_args(arguments)
    ship(args.trained, args.target)


if __name__ == "__main__":
    sys.exit(exit_status(main))
