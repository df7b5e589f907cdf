"""Pictures before and after, at the sizes of the original report and over the range of realism."""

import io
import logging

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from ganlib.codec.image_io import as_rgb
from ganlib.codec.rate_control import TargetSizeError
from ganlib.evaluation import plots
from ganlib.evaluation.measure import at_realisms, baselines_at_size, lpips_or_nan, size_and_psnr
from ganlib.evaluation.plots import CAPTION_LINE, CAPTION_POINTS, GAP, PICTURE_DPI

log = logging.getLogger(__name__)

CROP = 432  # side in pixels of a crop shown 1:1; four fit side by side
# The report's table two, in bytes: pictures as PNG, and what it made of them.
REPORT_SIZES = ((100_000, 8_700), (500_000, 17_800), (1_000_000, 24_700), (1_500_000, 35_000))
REPORT_RATIOS = (11.49, 28.09, 40.48, 42.85)  # as printed there, truncated and not rounded
SIZE_TOLERANCE = 0.02  # of the PNG's size, when a picture is reduced to it


def png_bytes(pixels):
    """Size of the picture as an optimized PNG: the size "before" where the given file is not a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return len(file.getvalue())


def busiest_crop(pixels, side=CROP):
    """(x0, y0, x1, y1) of the square with the most detail, on a grid of half its side: where codecs differ."""
    height, width = pixels.shape[:2]
    side = min(side, height, width)
    gray = pixels.astype(np.float32).mean(axis=2)
    detail = np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(gray, axis=1))[:-1]
    corners = [
        (x, y)
        for y in range(0, height - side + 1, side // 2 or 1)
        for x in range(0, width - side + 1, side // 2 or 1)
    ]
    x, y = max(corners, key=lambda c: detail[c[1] : c[1] + side, c[0] : c[0] + side].sum())
    return x, y, x + side, y + side


def before_and_after(pixels, decoded, before, lpips, labels=None):
    """Figure of one picture, 1:1: the original and what each file decodes to.

    Args:
        pixels: H,W,3 or H,W uint8.
        decoded: {label: (bytes, H,W,3 uint8)}.
        before: bytes of the original's file.
        lpips: {label: LPIPS}, nan where it cannot be measured.
        labels: which of them, in this order; all where None.
    """
    labels = [label for label in labels or decoded if label in decoded]
    pixels = as_rgb(pixels)
    return plots.before_after(
        pixels,
        [decoded[label][1] for label in labels],
        labels,
        [decoded[label][0] for label in labels],
        original_bytes=before,
        crop=busiest_crop(pixels),
        lpips=[lpips[label] for label in labels],
    )


def middle_crops(pictures, decoded, labels, side=160):
    """Figure, 1:1: the middle of each picture and of what its file decodes to, two pictures a row.

    Always the middle, so that the crops are not selected for their looks.

    Args:
        pictures: {name: H,W,3 or H,W uint8}.
        decoded: {name: {label: (bytes, H,W,3 uint8)}} of those that are shown.
        labels: which of them, in this order.
        side: of each crop in pixels; smaller pictures leave white around them.
    """
    rows = []
    for name, by_label in decoded.items():
        shown = [as_rgb(pictures[name]), *(by_label[label][1] for label in labels)]
        rows.append([_middle(pixels, side) for pixels in shown])
    titles = ["original", *labels]
    if len(rows) > 1:
        rows += [[]] * (len(rows) % 2)
        rows, titles = [first + second for first, second in zip(rows[::2], rows[1::2])], 2 * titles
    return _tiles(rows, titles, side)


def _middle(pixels, side):
    height, width = pixels.shape[:2]
    y, x = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return pixels[y : y + side, x : x + side]


def _tiles(rows, titles, side):
    """Pictures in rows and columns, pixel for pixel.

    Args:
        rows: lists of pictures, H,W,3 uint8 with H and W at most `side` pixels.
        titles: one for each column.
    """
    cell, top = side + GAP, CAPTION_LINE + GAP
    canvas = np.full((top + len(rows) * cell, GAP + len(titles) * cell, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            height, width = pixels.shape[:2]
            canvas[top + y * cell :, GAP + x * cell :][:height, :width] = pixels
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / PICTURE_DPI, height / PICTURE_DPI), dpi=PICTURE_DPI)
    ax = figure.add_axes([0, 0, 1, 1])
    ax.set_axis_off()
    ax.imshow(canvas, interpolation="nearest", aspect="auto")
    for x, title in enumerate(titles):
        left, y = (GAP + x * cell) / width, 1 - 4 / height
        figure.text(left, y, title, fontsize=CAPTION_POINTS, weight="bold", verticalalignment="top", parse_math=False)
    return figure


def reduced_to(pixels, target):
    """The picture, scaled down until its PNG is of about `target` bytes; None where it is smaller to begin with."""
    image = Image.fromarray(pixels)
    low, high, scaled, n_bytes = 0.0, 1.0, pixels, png_bytes(pixels)
    if n_bytes < (1 - SIZE_TOLERANCE) * target:
        return None
    for _ in range(12):
        if abs(n_bytes - target) <= SIZE_TOLERANCE * target:
            break
        scale = (low + high) / 2
        size = [max(1, round(n * scale)) for n in image.size]
        scaled = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
        n_bytes = png_bytes(scaled)
        low, high = (scale, high) if n_bytes < target else (low, scale)
    return scaled


def four_sizes(codec, pictures, progress=True):
    """The report's table two, measured: PNGs of its four sizes, each compressed to the size in the report.

    Ours are decoded at realism 1, the most natural look.

    Args:
        codec: Codec.
        pictures: {name: H,W,3 or H,W uint8}; each size takes the next one that is large enough, and is left out where
            there is none. A picture that takes more bytes than the report's even at quality 0 is left out, and
            the log says so.

    Returns:
        DataFrame, one row per size and codec: image, width, height, png_bytes, codec, bytes, ratio, bpp, psnr, lpips;
        and {kilobytes of the PNG: Figure}.
    """
    rows, figures, left = [], {}, dict(pictures)
    for before, after in tqdm(REPORT_SIZES, desc="four sizes", unit="size", disable=not progress):
        for name in left:
            pixels = reduced_to(left[name], before)
            if pixels is not None:
                break
        else:
            continue
        del left[name]
        try:
            data = codec.compress(pixels, target_bytes=after)
        except TargetSizeError:
            log.warning("%s takes more than %d bytes even at quality 0: left out", name, after)
            continue
        decoded = at_realisms(codec, data, [1.0]) | baselines_at_size(pixels, len(data), ("JPEG", "AVIF"))
        height, width = pixels.shape[:2]
        png = png_bytes(pixels)
        lpips = {label: lpips_or_nan(pixels, picture) for label, (_, picture) in decoded.items()}
        for label, (n_bytes, picture) in decoded.items():
            row = {"image": name, "width": width, "height": height, "png_bytes": png, "codec": label}
            measured = size_and_psnr(pixels, n_bytes, picture)
            row |= {"bytes": measured.pop("bytes"), "ratio": round(png / n_bytes, 1)}
            rows.append(row | measured | {"lpips": lpips[label]})
        figures[before // 1000] = before_and_after(pixels, decoded, png, lpips)
    return pd.DataFrame(rows), figures
