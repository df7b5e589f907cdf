"""Train the discriminators that the course starts with, alone against frozen models (make discriminators).

    python -m ganlib.cli.discriminator DIR... [--models light tiny] [--steps 400] [--images DIR]

A shipped model has learnt realism already, in stage one or two. Here it is first removed from its generator, since
the course trains it again. Then a discriminator learns what the reconstructions lack. A stopped run goes on where it
stopped; more steps extend it. Both models together take 8 minutes on two cores that multiply in bf16, up to 45 on
others.
"""

import argparse
import shutil
import sys
from pathlib import Path

from ganlib.atomic_write import atomic_write
from ganlib.cli.ending import exit_status
from ganlib.config import AdversarialConfig
from ganlib.evaluation.measure import colour_pictures_of
from ganlib.training.discriminator import DiscriminatorRun, verdicts
from ganlib.training.loop import train
from ganlib.training.realism import forget_realism
from ganlib.weights import DISCRIMINATORS, load_discriminator, load_weights

MODELS = ["light", "tiny"]  # those that notebook 04 can start with
STEPS = 400  # of 8 crops; the last ones change little
LOW, HIGH = 10.0, 60.0  # qualities with few bits, where reconstructions differ from photographs
MEASURED = 40.0  # quality of the measurement


def train_discriminator(name, folders, out, config):
    """Train the discriminator of a shipped model, or continue -> Path of its file.

    Args:
        name: of the model; folders: of training images; out: folder of the run; config: AdversarialConfig.
    """
    start = out / "start.safetensors"
    model_config = forget_realism(name, start)
    train(DiscriminatorRun, folders, out / "run", model_config, config, init=start)
    return out / "run" / "discriminator.safetensors"


def main():
    """Parse the arguments, train, measure, and put the files where the course looks for them."""
    parser = argparse.ArgumentParser("python -m ganlib.cli.discriminator", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", metavar="DIR", help="folders of training images")
    parser.add_argument("--models", nargs="+", metavar="NAME", default=MODELS, help="default: light tiny")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each run (default: {STEPS})")
    parser.add_argument("--images", metavar="DIR", help="folder of images to measure on (default: the embedded ones)")
    parser.add_argument("--runs", default="runs/discriminator", help="folder for checkpoints")
    parser.add_argument("--out", default=str(DISCRIMINATORS), help="folder for NAME.safetensors")
    args = parser.parse_args()
    config = AdversarialConfig(
        steps=args.steps, batch=8, crop=128, warmup=20, quality_low=LOW, quality_high=HIGH, checkpoint_minutes=2.0
    )
    pictures = colour_pictures_of(args.images)
    for name in args.models:
        runs, shipped = Path(args.runs) / name, Path(args.out) / f"{name}.safetensors"
        trained = train_discriminator(name, args.data, runs, config)
        with atomic_write(shipped) as part:
            shutil.copyfile(trained, part)
        model = load_weights(runs / "start.safetensors").model
        real, fake = verdicts(load_discriminator(shipped), model, list(pictures.values()), MEASURED).T
        print(
            f"{name}: D(x) {real.mean():.3f}, D(x_hat) {fake.mean():.3f} on {len(pictures)} photographs at quality "
            f"{MEASURED:g}; the photograph is above its reconstruction in {(real > fake).mean():.0%}"
        )


if __name__ == "__main__":
    sys.exit(exit_status(main))
