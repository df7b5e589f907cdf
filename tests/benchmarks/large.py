"""A picture of 100 megapixels beside one of 4: seconds and peak memory of the command line, a process a command.

    photographs of scikit-image, side by side --libvips--> PNG --compress--> .gic --decompress--> PNG
                                                                              |--region, salvage--> PNG

Also checked: that a region is the crop of the whole within one level, and that one tile overwritten by zeros costs
that tile and the reach of g_s around it. Pictures and files lie in a temporary folder, some 300 MB, and twice that in
TMPDIR.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyvips
import skimage.data

ROOT = Path(__file__).resolve().parents[2]
MB = 1e6  # bytes
PATCH = 256  # pixels, side of a photograph in the mosaic
SIDE = 512  # pixels, of the region
# The command line as it is, and the process's own peak at the end. (/usr/bin/time -v shows the same.)
COMMAND = """
import sys
from ganlib.__main__ import main
code = main(sys.argv[1:])
print("peak", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def ganlib(*argv):
    """Run a command; give its seconds and peak bytes."""
    began = time.monotonic()
    argv = [sys.executable, "-c", COMMAND, *map(str, argv)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - began, 1024 * int(done.stdout.split()[-1])


def picture(path, side):
    """A PNG of side x side, of photographs in an order drawn at random, each darkened by another factor."""
    draw = np.random.default_rng(0)
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    patches = []
    for _ in range(int(np.ceil(side / PATCH)) ** 2):
        photograph = photographs[draw.integers(len(photographs))]
        top, left = (draw.integers(n - PATCH + 1) for n in photograph.shape[:2])
        patch = photograph[top : top + PATCH, left : left + PATCH] * draw.uniform(0.5, 1)
        patches.append(
            pyvips.Image.new_from_array(np.ascontiguousarray(patch.astype(np.uint8)), interpretation="srgb")
        )
    mosaic = pyvips.Image.arrayjoin(patches, across=int(np.ceil(side / PATCH)))
    mosaic.crop(0, 0, side, side).write_to_file(str(path))


def pixels(path, x, y, width, height):
    """A part of an image file: height,width,3 int."""
    return pyvips.Image.new_from_file(str(path)).crop(x, y, width, height).numpy().astype(int)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs=2, default=(2000, 10_000), help="of the two pictures, in pixels")
    parser.add_argument("--out", default=ROOT / "data" / "report" / "speed" / "large.csv", help="CSV file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for side in args.sides:
            photo, data, back, part = (
                folder / f"{side}{suffix}" for suffix in (".png", ".gic", ".back.png", ".part.png")
            )
            picture(photo, side)
            x = y = side // 2 - SIDE // 3
            region = ("--region", x, y, x + SIDE, y + SIDE)
            for name, argv in (
                ("compress", ("compress", photo, "-o", data)),
                ("decompress", ("decompress", data, "-o", back)),
                ("region of 512x512", ("decompress", data, "-o", part, *region)),
            ):
                seconds, peak = ganlib(*argv)
                rows.append({"megapixels": side**2 / 1e6, "what": name, "seconds": seconds, "peak_mb": peak / MB})
                print(f"{side}x{side}, {name}: {seconds:.1f} s, {peak / MB:.0f} MB", flush=True)
            difference = np.abs(pixels(part, 0, 0, SIDE, SIDE) - pixels(back, x, y, SIDE, SIDE)).max()
            print(f"{side}x{side}: the region differs from the whole by {difference} levels at most")
        damaged = bytearray(data.read_bytes())
        begin = damaged.index(b"TILE", damaged.index(b"TILE") + 1)  # the second tile, right of the first
        damaged[begin : damaged.index(b"TILE", begin + 1)] = bytes(damaged.index(b"TILE", begin + 1) - begin)
        data.write_bytes(damaged)
        saved = folder / "saved.png"
        seconds, peak = ganlib("decompress", data, "-o", saved, "--salvage")
        rows.append({"megapixels": side**2 / 1e6, "what": "salvage", "seconds": seconds, "peak_mb": peak / MB})
        valid = pyvips.Image.new_from_file(str(folder / "saved.valid.png"))
        share = valid.avg() / 255
        print(f"one tile zeroed: {share:.2%} of the pixels are intact, {seconds:.1f} s, {peak / MB:.0f} MB")
        right = np.abs(pixels(saved, 0, 1024, 800, 800) - pixels(back, 0, 1024, 800, 800)).max()
        print(f"below the gap the picture differs by {right} levels")
    for small, large in zip(rows[:3], rows[3:6]):
        print(f"{small['what']}: {large['peak_mb'] / small['peak_mb']:.2f} times the memory")
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()} for row in rows)


if __name__ == "__main__":
    main()
