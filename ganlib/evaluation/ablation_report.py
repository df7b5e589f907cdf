"""The results of an ablation as files: tables per picture and per variant, and crops that variants decode."""

from pathlib import Path

from ganlib.atomic_write import atomic_write
from ganlib.evaluation import ablation, plots
from ganlib.evaluation.comparisons import before_and_after, png_bytes

SHOWN_QUALITY, SHOWN = 30, 2  # quality and number of pictures of the crops: every other one, from the first


def write_ablation(variants, pictures, out, qualities=ablation.QUALITIES, judge_steps=ablation.JUDGE_STEPS):
    """Measure variants and write points.csv, table.csv and crops_*.png into `out`.

    Args:
        variants: {name: name or path of weights}, the same encoder and entropy model in all.
        pictures: {name: H,W,3 uint8} that none of them was trained on.
        qualities, judge_steps: as of ganlib.evaluation.ablation.

    Returns:
        DataFrame, one row per quality and variant.
    """
    pairs = ablation.decode_all(variants, pictures, qualities)
    points = ablation.measure(pairs)
    accuracies = {name: ablation.judged(own, judge_steps) for name, own in pairs.items()}
    table = ablation.table(points, accuracies)
    for file, rows in (("points.csv", points), ("table.csv", table)):
        with atomic_write(Path(out) / file) as part:
            rows.to_csv(part, index=False, float_format="%.5g")
    shown = SHOWN_QUALITY if SHOWN_QUALITY in qualities else qualities[0]
    for image in list(pictures)[::2][:SHOWN]:
        plots.save(crops(pairs, points, image, shown), Path(out) / f"crops_{image}.png")
    return table


def crops(pairs, points, image, quality):
    """Figure, 1:1: a picture, and what each variant decodes from the same file."""
    own = {name: next(p for p in group if (p.image, p.quality) == (image, quality)) for name, group in pairs.items()}
    rows = points[(points["image"] == image) & (points["quality"] == quality)].set_index("variant")
    decoded = {name: (pair.n_bytes, pair.x_hat) for name, pair in own.items()}
    original = next(iter(own.values())).x
    return before_and_after(original, decoded, png_bytes(original), rows["lpips"])
