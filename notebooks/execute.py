"""Run notebooks from top to bottom and save them as they are published.

    python notebooks/execute.py [--preset tiny] [FILE...]

Outputs are kept, without the panels' live halves: a panel needs a kernel, and its static picture stands in for it.
Large pictures become JPEGs, so that a notebook stays under a megabyte. Tables that notebooks measure lie under runs/,
where git does not look; those that are published are copied from there.
"""

import argparse
import base64
import io
import shutil
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from ganlib.course.grading import with_preset

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 600
LIVE = "application/vnd.jupyter.widget-view+json"
STATIC = "ganlib-static"  # in the HTML of a panel's picture, which a saved notebook shows when it is opened anew
# What a notebook measured at the full preset, and where the report keeps it
TABLES = {"runs/05_low_vram/light/optimization.csv": "data/report/memory/optimization.csv"}
LARGE, QUALITY = 60_000, 90  # bytes of a PNG in base64 from which on it is saved as a JPEG, of this quality


def notebooks():
    """The course, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def execute(notebook):
    """Run every cell in the folder of the course; nbclient.CellExecutionError where one fails."""
    resources = {"metadata": {"path": str(HERE)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources).execute()
    return notebook


def publishable(notebook):
    """Without what changes at each run or cannot live without a kernel: times, widget state, bars, warnings."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_static, cell.outputs) if output]
    return notebook


def _static(output):
    if output.output_type == "stream" and output.name == "stderr":
        return None  # progress bars, and libraries' warnings
    data = output.get("data", {})
    if LIVE in data:
        del data[LIVE]
        if "image/png" not in data:
            return None  # a bar, or a panel: its picture is the next output
    if STATIC in data.get("text/html", ""):
        del data["text/html"]  # the picture stands in it once more
    if len(data.get("image/png", "")) > LARGE:
        data["image/jpeg"] = _jpeg(data.pop("image/png"))
        if "image/png" in output.metadata:  # its text for whoever cannot see it
            output.metadata["image/jpeg"] = output.metadata.pop("image/png")
    return output


def _jpeg(png):
    file = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        picture.convert("RGB").save(file, format="jpeg", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="notebooks (default: all)")
    parser.add_argument("--preset", help="run with this PRESET and save nothing")
    args = parser.parse_args()
    for path in args.files or notebooks():
        notebook = nbformat.read(path, as_version=4)
        began = time.monotonic()
        if args.preset:
            execute(with_preset(notebook, args.preset))
        else:
            nbformat.write(publishable(execute(notebook)), path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s")
    for measured, published in {} if args.preset else TABLES.items():
        if (HERE.parent / measured).exists():
            shutil.copyfile(HERE.parent / measured, HERE.parent / published)


if __name__ == "__main__":
    main()
