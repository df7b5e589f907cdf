"""From the figures of single steps to one table, its ratios, and sentences for the README."""

import csv

REFERENCE = "mbt2018-mean"  # what the ratios are against
SLOWEST = "cheng2020-anchor"
SUBJECT = "ganlib light"
DIRECTIONS = ("encode", "decode")

# For each direction: suffix of the column -> decimals
MEASURED = {
    "mpixels_per_second": 3,  # median of the repeats; a megapixel is 10^6 pixels
    "best_mpixels_per_second": 3,
    "peak_mb": 0,  # of the process; MB are 10^6 bytes
    "above_mb": 0,  # over what was resident before the call
    "kmac_per_pixel": 1,  # executed by the call
    "repeats": 0,
}
# Suffix of the ratio -> that of the column it divides by the reference's
RATIOS = {"speed_ratio": "mpixels_per_second", "peak_ratio": "peak_mb", "above_ratio": "above_mb"}
RATIO_DECIMALS = 2

COLUMNS = (
    ["codec", "width", "height", "threads", "cpu", "bytes", "bpp"]
    + [f"{direction}_{name}" for direction in DIRECTIONS for name in (*MEASURED, *RATIOS)]
    # quality on the codec's own scale; shares of the symbols of y where weights are random; version of PyTorch
    + ["quality", "escaped_symbols", "zero_symbols", "torch"]
)


def row(codec, width, height, threads, steps, cpu):
    """Figures of the steps of one codec -> a dict of COLUMNS, without ratios.

    Args:
        codec: name.
        width, height: of the picture, pixels.
        threads: that every process was given.
        steps: {"prepare", "encode", "decode"}: figures of meter.main.
        cpu: its instruction sets, in words.
    """
    prepared = steps["prepare"]
    values = {
        "codec": codec,
        "width": width,
        "height": height,
        "threads": threads,
        "cpu": cpu,
        "bytes": steps["encode"]["bytes"],
        "bpp": 8 * steps["encode"]["bytes"] / (width * height),
        "quality": prepared.get("quality"),
        "escaped_symbols": prepared.get("escaped"),
        "zero_symbols": prepared.get("zero"),
        "torch": prepared.get("torch"),
    }
    for direction in DIRECTIONS:
        figures = steps[direction]
        values |= {
            f"{direction}_mpixels_per_second": width * height / 1e6 / figures["seconds"],
            f"{direction}_best_mpixels_per_second": width * height / 1e6 / figures["best_seconds"],
            f"{direction}_peak_mb": figures["peak_mb"],
            f"{direction}_above_mb": figures["above_mb"],
            f"{direction}_kmac_per_pixel": prepared.get(f"{direction}_kmac"),
            f"{direction}_repeats": figures["repeats"],
        }
    return values


def add_ratios(rows):
    """Fill in the ratios against REFERENCE, where it is among the rows."""
    reference = next((values for values in rows if values["codec"] == REFERENCE), None)
    for values in rows:
        for direction in DIRECTIONS:
            for ratio, column in RATIOS.items():
                key = f"{direction}_{column}"
                values[f"{direction}_{ratio}"] = values[key] / reference[key] if reference else None


def _text(value, decimals):
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.{decimals}f}"


def write_csv(rows, path):
    """One row a codec, rounded as in the Markdown table; empty where a figure has no meaning."""
    decimals = {"bpp": 4, "escaped_symbols": 6, "zero_symbols": 3}
    for direction in DIRECTIONS:
        decimals |= {f"{direction}_{name}": places for name, places in MEASURED.items()}
        decimals |= {f"{direction}_{name}": RATIO_DECIMALS for name in RATIOS}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_text(values[column], decimals.get(column, 0)) for column in COLUMNS] for values in rows)


def markdown(rows):
    """Two lines of header, one row a codec; encode and decode stand in one cell, as "encode / decode"."""
    shown = {
        "Mpixel/s": ("mpixels_per_second", 2),
        f"x {REFERENCE}": ("speed_ratio", 2),
        "peak MB": ("peak_mb", 0),
        f"peak x {REFERENCE}": ("peak_ratio", 2),
        "MB above": ("above_mb", 0),
        f"above x {REFERENCE}": ("above_ratio", 2),
        "kMAC/pixel": ("kmac_per_pixel", 1),
    }
    lines = [["encode / decode", "bpp", *shown], ["---"] * (len(shown) + 2)]
    for values in rows:
        cells = [values["codec"], f"{values['bpp']:.3f}"]
        for name, decimals in shown.values():
            pair = [_text(values[f"{direction}_{name}"], decimals) for direction in DIRECTIONS]
            cells.append(" / ".join(pair) if all(pair) else "")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def sentences(rows):
    """The ratios of ganlib against its peers in words, as far as both were measured."""
    named = {values["codec"]: values for values in rows}
    subject, reference, slowest = (named.get(name) for name in (SUBJECT, REFERENCE, SLOWEST))
    lines = []
    if subject and reference:
        for direction in DIRECTIONS:
            speed = subject[f"{direction}_speed_ratio"]
            lines.append(f"{SUBJECT} {direction}s at {speed:.2f} times the speed of {REFERENCE}")
    if subject and slowest:
        speed = subject["decode_mpixels_per_second"] / slowest["decode_mpixels_per_second"]
        lines.append(f"{SUBJECT} decodes at {speed:.1f} times the speed of {SLOWEST}")
    if subject and reference:
        for direction in DIRECTIONS:
            peak, above = subject[f"{direction}_peak_ratio"], subject[f"{direction}_above_ratio"]
            lines.append(
                f"{SUBJECT} {direction}s with {peak:.2f} times the peak memory of {REFERENCE}, and {above:.2f} times "
                "of what the call adds to interpreter, libraries and weights"
            )
    return lines
