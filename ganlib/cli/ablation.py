"""What each loss of stage two gains: four generators, from the same weights, with the same budget (make ablation).

    python -m ganlib.cli.ablation DIR... --images DIR [--init light] [--steps 400]

Distortion only, + LPIPS, + GAN, + both. A stopped run continues where it stopped; a finished run is not repeated. The
table has distances that no variant was trained on, and the accuracy of a new discriminator trained against each.
"""

import argparse
import logging
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from ganlib.cli.discriminator import HIGH, LOW
from ganlib.cli.ending import exit_status
from ganlib.config import DATA, AdversarialConfig
from ganlib.evaluation import ablation
from ganlib.evaluation.ablation_report import write_ablation
from ganlib.evaluation.measure import colour_pictures_of
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import train
from ganlib.training.realism import forget_realism
from ganlib.training.run import WEIGHTS
from ganlib.weights import load_discriminator, load_weights, shipped_models

log = logging.getLogger("ganlib.cli.ablation")  # this module is __main__ when it runs

STEPS = 400  # of each run
# Two quiet cores need about a second for a step of 8 crops of 128x128: four runs and their measurement take an hour.
# Training covers what the table measures: realism 1, and the qualities at which shipped discriminators were trained.
BUDGET = {"crop": 128, "realism_low": 1.0, "quality_low": LOW, "quality_high": HIGH}
LPIPS, GAN = AdversarialConfig().perceptual_weight, AdversarialConfig().adversarial_weight
GRID = AdversarialConfig().grid_artifact_weight  # with each loss that invents texture: the rest stays equal
VARIANTS = {
    "distortion": {"perceptual_weight": 0.0, "adversarial_weight": 0.0, "grid_artifact_weight": 0.0},
    "+ LPIPS": {"perceptual_weight": LPIPS, "adversarial_weight": 0.0, "grid_artifact_weight": GRID},
    "+ GAN": {"perceptual_weight": 0.0, "adversarial_weight": GAN, "grid_artifact_weight": GRID},
    "+ both": {"perceptual_weight": LPIPS, "adversarial_weight": GAN, "grid_artifact_weight": GRID},
}


def train_variant(name, folders, out, init, config, discriminator=None):
    """Train a variant, or go on with it -> Path of its weights.

    Args:
        name: key of VARIANTS; folders: of training images; out: folder of its run.
        init: name or path of weights of stage one.
        config: AdversarialConfig; the variant sets its weights of losses.
        discriminator: path of the one that variants with GAN start with; None for random weights.
    """
    config, stage = replace(config, **VARIANTS[name]), AdversarialRun
    if config.adversarial_weight and discriminator is not None:
        stage = partial(AdversarialRun, discriminator=load_discriminator(discriminator))
    train(stage, folders, out, load_weights(init).model.config, config, init=init)
    return out / WEIGHTS


def main():
    """Parse the arguments, train, measure."""
    parser = argparse.ArgumentParser("python -m ganlib.cli.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", metavar="DIR", help="folders of training images")
    parser.add_argument(
        "--init",
        default="light",
        help="weights of stage one, or a shipped model, whose realism is then removed (default: light)",
    )
    parser.add_argument(
        "--discriminator",
        metavar="FILE",
        help="the one that variants with GAN start with (default: that of a shipped model, else random weights)",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each run (default: {STEPS})")
    parser.add_argument("--images", metavar="DIR", required=True, help="folder of images to measure on, like Kodak's")
    parser.add_argument("--runs", default="runs/ablation", help="folder for checkpoints: a subfolder for each --init")
    parser.add_argument(
        "--out",
        default=str(DATA / "report" / "ablation"),
        help="folder for table and crops (default: the folder of the published ones)",
    )
    args = parser.parse_args()
    config, init, variants = AdversarialConfig(steps=args.steps, **BUDGET), args.init, {}
    discriminator, runs = args.discriminator, Path(args.runs) / Path(args.init).stem
    pictures = colour_pictures_of(args.images)
    ablation.check_pictures(pictures)  # before an hour of training, not after
    if init in shipped_models():  # trained in stage two already: no variant may start with that
        init = runs / "start.safetensors"
        forget_realism(args.init, init)
        discriminator = discriminator or args.init
    for number, name in enumerate(VARIANTS, 1):
        log.info("%s, %d of %d", name, number, len(VARIANTS))
        run = runs / name.replace("+ ", "with ")
        variants[name] = train_variant(name, args.data, run, init, config, discriminator)
    table = write_ablation(variants, pictures, args.out)
    print(table.to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    sys.exit(exit_status(main))
