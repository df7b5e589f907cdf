"""What each loss of stage two contributes: generators that share an encoder, measured on the same files.

    picture --compress, once--> file --decompress with each variant--> x_hat --> PSNR, LPIPS, DISTS, Frechet distance
                                  |--y_hat--.
                                  |         '--> a fresh discriminator: (x, y_hat) or (x_hat, y_hat)? --> accuracy

A variant's own losses do not show its quality: a generator trained on LPIPS has a low LPIPS. So variants are also
measured by distances that none was trained on, and by a discriminator, the judge, that is newly trained against each.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ganlib.codec import container
from ganlib.codec.codec import Codec
from ganlib.codec.pixel_tensors import to_tensor
from ganlib.config import STRIDE
from ganlib.evaluation import metrics
from ganlib.evaluation.measure import mean_curves, size_and_psnr
from ganlib.model.discriminator import Discriminator
from ganlib.training.losses import discriminator_loss
from ganlib.weights import load_weights

QUALITIES = (30,)  # where bits are few and texture must be invented: 0.16 bpp on Kodak
JUDGE_STEPS = 300  # by then its accuracy on unknown crops is stable
JUDGE_SEED = 0
JUDGE_PAIRS = 8  # photographs per step, and as many reconstructions
CROP = 128  # side of what the judge sees, in pixels, a multiple of 16
HELD_OUT = 3  # one picture in this many is kept for testing the judge


@dataclass(frozen=True)
class Pair:
    """A picture and what its file decodes to.

    image: name; quality, n_bytes: of the file; x, x_hat: H,W,3 uint8; y_hat: C,h,w dequantized latents of both.
    """

    image: str
    quality: float
    n_bytes: int
    x: np.ndarray
    x_hat: np.ndarray
    y_hat: torch.Tensor

    def crop(self, row, column):
        """x, x_hat: 3,CROP,CROP in [0, 1], and their latents; row and column of the corner in latents."""
        side = CROP // STRIDE
        rows, columns = (slice(STRIDE * n, STRIDE * n + CROP) for n in (row, column))
        pixels = (to_tensor(picture[rows, columns])[0] for picture in (self.x, self.x_hat))
        return *pixels, self.y_hat[:, row : row + side, column : column + side]

    def corners(self):
        """Number of possible corners of a crop down and across, one latent apart."""
        return tuple((n - CROP) // STRIDE + 1 for n in self.x.shape[:2])


def stacked(crops):
    """A list of what Pair.crop() gives -> x, x_hat: B,3,CROP,CROP; y_hat: B,C,CROP/16,CROP/16."""
    return tuple(map(torch.stack, zip(*crops)))


def train_judge(pairs, steps=JUDGE_STEPS):
    """Train a discriminator from random weights on random crops of pairs -> Discriminator in evaluation mode."""
    rng = np.random.default_rng(JUDGE_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(JUDGE_SEED)
        judge = Discriminator(len(pairs[0].y_hat)).train()
    adam = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.9))
    for _ in range(steps):
        chosen = [pairs[i] for i in rng.integers(len(pairs), size=JUDGE_PAIRS)]
        x, x_hat, y_hat = stacked([pair.crop(*(rng.integers(n) for n in pair.corners())) for pair in chosen])
        real, fake = judge(torch.cat([x, x_hat]), torch.cat([y_hat, y_hat])).chunk(2)
        adam.zero_grad()
        discriminator_loss(real, fake, torch.ones(len(x))).backward()
        adam.step()
    return judge.eval()


@torch.no_grad()
def accuracy(judge, pairs):
    """Share of crops, side by side in every pair, that a judge classifies correctly; 0.5 is guessing."""
    side, right = CROP // STRIDE, []
    for pair in pairs:
        down, across = pair.corners()
        crops = [pair.crop(row, column) for row in range(0, down, side) for column in range(0, across, side)]
        x, x_hat, y_hat = stacked(crops)
        for picture, sign in ((x, 1), (x_hat, -1)):
            right += (sign * judge(picture, y_hat).mean(dim=(1, 2, 3)) > 0).tolist()
    return float(np.mean(right))


def judged(pairs, steps=JUDGE_STEPS):
    """Accuracy of a judge on the crops of pictures that it was not trained on: every third picture."""
    names = list(dict.fromkeys(pair.image for pair in pairs))
    check_number(names)
    held_out = set(names[HELD_OUT - 1 :: HELD_OUT])
    judge = train_judge([pair for pair in pairs if pair.image not in held_out], steps)
    return accuracy(judge, [pair for pair in pairs if pair.image in held_out])


def features_on_two_grids(pixels):
    """metrics.patch_features on two grids, half a patch apart: a few small photographs give enough patches."""
    half = metrics.PATCH // 2
    return np.concatenate([metrics.patch_features(part) for part in (pixels, pixels[half:, half:])])


def codecs_of(variants):
    """{name: path or name of weights} -> {name: Codec}; ValueError where they cannot decode the same files."""
    loaded = {name: load_weights(weights) for name, weights in variants.items()}
    if len({weights.fingerprint for weights in loaded.values()}) != 1:
        marks = ", ".join(f"{name} {weights.fingerprint.hex()}" for name, weights in loaded.items())
        raise ValueError(f"variants must share encoder and entropy model, and their fingerprints differ: {marks}")
    return {name: Codec(weights) for name, weights in loaded.items()}


def check_number(pictures):
    """ValueError where pictures, or their names, are too few to hold one back from the judge."""
    if len(pictures) < HELD_OUT:
        raise ValueError(
            f"{len(pictures)} pictures are too few: the judge needs {HELD_OUT} or more, one of them for its test"
        )


def check_sizes(pictures):
    """ValueError where a picture is too small for the second grid of patches, or for a crop of the judge's."""
    least = max(CROP, metrics.PATCH + metrics.PATCH // 2)
    for name, pixels in pictures.items():
        if min(pixels.shape[:2]) < least:
            raise ValueError(f"{name} has a side below {least} pixels: give larger pictures")


def check_pictures(pictures):
    """ValueError, before any long work, where pictures are too few or too small for what is measured on them.

    Args:
        pictures: {name: H,W,3 uint8}.
    """
    check_sizes(pictures)
    check_number(pictures)
    grids = [
        (h - offset, w - offset) for h, w, _ in map(np.shape, pictures.values()) for offset in (0, metrics.PATCH // 2)
    ]
    patches = sum((h // metrics.PATCH) * (w // metrics.PATCH) for h, w in grids)
    if patches < metrics.PATCHES_MIN:
        raise ValueError(
            f"{len(pictures)} pictures have {patches} patches of {metrics.PATCH}x{metrics.PATCH} pixels, and the "
            f"Frechet distance needs {metrics.PATCHES_MIN}: give more or larger ones, six of 768x512 or more"
        )


def decode_all(variants, pictures, qualities=QUALITIES, progress=True):
    """The same files, decoded at realism 1 by generators that were trained from the same weights of stage one.

    Args:
        variants: {name: name or path of weights}, the same encoder and entropy model in all.
        pictures: {name: H,W,3 uint8}, sides of 128 pixels or more, that no variant was trained on.
        qualities: of the files.

    Returns:
        {variant: list of Pair}.

    Raises:
        ValueError: variants of different encoders, or a picture that is too small.
    """
    codecs = codecs_of(variants)
    check_sizes(pictures)
    first = next(iter(codecs.values()))
    pairs = {variant: [] for variant in codecs}
    jobs = [(image, quality) for quality in qualities for image in pictures]
    for image, quality in tqdm(jobs, "files", disable=not progress):
        data = first.compress(pictures[image], quality)
        y_hat = dequantized(first, data, quality)
        for variant, codec in codecs.items():
            x_hat = np.asarray(codec.decompress(data, realism=1.0))
            pairs[variant].append(Pair(image, quality, len(data), pictures[image], x_hat, y_hat))
    return pairs


def dequantized(codec, data, quality):
    """Latents of a file as the discriminator receives them: C,h,w."""
    index = container.Index(container.buffer(data))
    y_hat = torch.from_numpy(np.array(codec.latents(index, index.header.area)[0])).permute(2, 0, 1)
    with torch.no_grad():
        return y_hat * codec.model.inverse_gain(torch.tensor([float(quality)])).cpu()[0]


def measure(pairs, progress=True):
    """Distances of each pair, and of all together.

    Args:
        pairs: {variant: list of Pair}, as `decode_all` gives them.

    Returns:
        DataFrame, one row per variant, picture and quality: variant, quality, image, bytes, bpp, psnr (dB), lpips,
        dists, detail (as a share of the photograph's), and frechet, which is of all pictures of that variant
        and quality together, and the same in each of their rows.
    """
    rows, originals = [], {}
    patches = defaultdict(list)  # (variant, quality) -> those of the originals and of the reconstructions, in turn
    bar = tqdm(total=sum(map(len, pairs.values())), desc="distances", disable=not progress)
    for variant, own in pairs.items():
        for pair in own:
            row = {"variant": variant, "quality": pair.quality, "image": pair.image}
            row |= size_and_psnr(pair.x, pair.n_bytes, pair.x_hat)
            row |= {"lpips": metrics.lpips(pair.x, pair.x_hat), "dists": metrics.dists(pair.x, pair.x_hat)}
            rows.append(row | {"detail": metrics.detail(pair.x_hat) / metrics.detail(pair.x)})
            if pair.image not in originals:
                originals[pair.image] = features_on_two_grids(pair.x)
            patches[variant, pair.quality].append((originals[pair.image], features_on_two_grids(pair.x_hat)))
            bar.update()
    bar.close()
    frechet = {key: metrics.frechet_distance(*map(np.concatenate, zip(*both))) for key, both in patches.items()}
    points = pd.DataFrame(rows)
    return points.assign(frechet=[frechet[key] for key in zip(points["variant"], points["quality"])])


def table(points, accuracies):
    """Result of `measure` -> one row per quality and variant: means over the pictures, and its judge's accuracy.

    Args:
        accuracies: {variant: result of `judged`}.
    """
    means = mean_curves(points, by=["quality", "variant"])
    return means.assign(judge=means["variant"].map(accuracies))
