"""The dataset browser: a photograph, and the crop of it that training sees."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as ui
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ganlib import datasets
from ganlib.codec.geometry import ceil_div
from ganlib.course.widgets.base import Busy, Latest, Picture, reporting, row
from ganlib.datasets.sources import DOWNLOADS
from ganlib.evaluation.comparisons import png_bytes
from ganlib.evaluation.metrics import bits_per_pixel, detail
from ganlib.evaluation.plots import OUR_COLOURS

SIDES = (32, 512, 32)  # of a crop, in pixels: least, greatest, step
SEED_MAX = 99
LISTED = 200  # photographs of one source in the list: more would be too many to scroll through
COORDINATES = 2**24  # pixels whose numbers fit into three 8-bit channels
BOX = OUR_COLOURS[1]
DPI = 80
CAPTION = 0.45  # inches, of two lines above a contact sheet's pictures


def read(path):
    """Image file -> H,W,3 uint8, as `Crops` reads it."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def sources(root=None):
    """Every data set that is complete on this machine (no network is used): {source: {photograph: Path}}.

    Args:
        root: where the data sets lie; `data/downloads` of this clone by default.

    Returns:
        "embedded" first, then names of datasets.SOURCES; at most LISTED photographs of each.
    """
    root = Path(root or DOWNLOADS)
    found = {"embedded": datasets.embedded_files()}
    for name, source in datasets.SOURCES.items():
        if all(file.present(root / name) for file in source.files):
            paths = datasets.image_files(*(file.place(root / name) for file in source.files))[:LISTED]
            found[name] = {str(path.relative_to(root / name)): path for path in paths}
    return found


def place(height, width, side, seed, index=0):
    """Where `Crops` cuts item `index` out of a picture, found by running `Crops` itself.

    It gets a picture whose pixel values are their own positions, so that the crop shows where it came from:

        pixel (y, x) = y * width + x in 24 bits --Crops--> its four corners --> box, mirrored or not

    Args:
        height, width: of the picture, in pixels.
        side: of the crop, 2 pixels or more. Beyond a smaller picture it is mirrored; the box does not include that.
        seed, index: of the sequence of crops of this picture alone.

    Returns:
        (x0, y0, x1, y1) with x1 and y1 excluded, and whether the crop is mirrored.

    Raises:
        ValueError: more than 2^24 pixels.
    """
    if height * width > COORDINATES:
        raise ValueError(f"{width}x{height} is more than {COORDINATES:,} pixels: scale the picture down to browse it")
    number = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    own = np.stack([number >> 16, number >> 8 & 255, number & 255], axis=2).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coordinates.ppm"
        Image.fromarray(own).save(file)
        crop = datasets.Crops([file], side, seed)[index][0].numpy().astype(np.int64)
    y, x = np.divmod(crop[0] << 16 | crop[1] << 8 | crop[2], width)
    start, after = x[0, :2].tolist()
    # too narrow a picture begins at its column 0, and is mirrored at its right edge
    mirrored = after < start if width >= side else (start, after) != (0, 1)
    return (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1), mirrored


@dataclass(frozen=True)
class CropView:
    """One crop: where it lies, what was measured, and the picture of it."""

    crop: np.ndarray  # side,side,3 uint8, as the network sees it
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in the photograph
    mirrored: bool
    detail: float  # levels per pixel
    png_bytes: int
    figure: Figure


def crop_view(pixels, side=128, seed=0):
    """Cut the first crop that training would see of a picture, and measure it.

        pixels --Crops(side, seed)[0]--> crop --> detail, PNG bytes, picture

    Args:
        pixels: H,W,3 uint8.
        side: of the crop, in pixels. A smaller picture is mirrored outwards.
        seed: of the sequence of crops.

    Returns:
        CropView; its figure shows the photograph with the crop's box, and the crop enlarged.

    Raises:
        ValueError: more than 2^24 pixels.
    """
    height, width = pixels.shape[:2]
    box, mirrored = place(height, width, side, seed)
    x0, y0, x1, y1 = box
    crop = pixels[y0:y1, x0:x1]
    crop = np.pad(crop, [(0, side - (y1 - y0)), (0, side - (x1 - x0)), (0, 0)], mode="symmetric")
    crop = np.ascontiguousarray(crop[:, ::-1] if mirrored else crop)
    return CropView(crop, box, mirrored, detail(crop), png_bytes(crop), _figure(pixels, crop, box, mirrored))


def _figure(pixels, crop, box, mirrored):
    x0, y0, x1, y1 = box
    figure = Figure(figsize=(6.4, 2.9), dpi=DPI, layout="constrained")
    whole, enlarged = figure.subplots(1, 2, width_ratios=(pixels.shape[1] / pixels.shape[0], 1))
    whole.imshow(pixels)
    frame = dict(fill=False, edgecolor=BOX, linewidth=2)
    whole.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, **frame))  # pixel centres lie on whole numbers
    whole.set_title(f"{pixels.shape[1]}x{pixels.shape[0]} pixels", fontsize=10)
    enlarged.imshow(crop, interpolation="nearest")
    enlarged.set_title(f"{len(crop)}x{len(crop)}{', mirrored' * mirrored}", fontsize=10, color=BOX)
    for ax in (whole, enlarged):
        ax.set_axis_off()
    return figure


def contact_sheet(pictures, columns=5, inches=1.4):
    """All pictures at a glance, small, with their names and sizes.

    Args:
        pictures: {name: H,W,3 uint8}.
        columns: in a row.
        inches: width of each.

    Returns:
        Figure.

    Raises:
        ValueError: no picture.
    """
    if not pictures:
        raise ValueError("there is no picture to show: give {name: array}, such as ganlib.datasets.embedded()")
    columns = min(columns, len(pictures))
    rows = ceil_div(len(pictures), columns)
    figure = Figure(figsize=(inches * columns, (inches + CAPTION) * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, pixels) in zip(axes, pictures.items()):
        ax.imshow(pixels)
        ax.set_title(f"{name}\n{pixels.shape[1]}x{pixels.shape[0]}", fontsize=9, parse_math=False)
    return figure


def summary(view):
    """The numbers of a CropView as a line of HTML."""
    side, (x0, y0, _, _) = len(view.crop), view.box
    return (
        f"<b>{side}x{side}</b> pixels from x={x0}, y={y0}{', mirrored' * view.mirrored}; detail "
        f"<b>{view.detail:.1f}</b> levels a pixel; PNG <b>{view.png_bytes:,} bytes</b>, "
        f"{bits_per_pixel(view.png_bytes, side, side):.1f} bits per pixel."
    )


class DatasetBrowser(ui.VBox):
    """Choose a set, a photograph, the side of a crop and a seed; see where the crop lies and how many bytes it has.

    Args:
        places: {source: {photograph: Path}}, such as sources().
        side, seed: first values of the sliders.
    """

    def __init__(self, places, side=128, seed=0):
        self.places = {source: dict(paths) for source, paths in places.items()}
        slow = dict(continuous_update=False, style={"description_width": "80px"})
        self.source = ui.Dropdown(options=list(self.places), description="source", style=slow["style"])
        self.picture = ui.Dropdown(options=self._listed(), description="photograph", style=slow["style"])
        low, high, step = SIDES
        self.side = ui.IntSlider(side, min=low, max=high, step=step, description="crop, pixels", **slow)
        self.seed = ui.IntSlider(seed, min=0, max=SEED_MAX, description="seed", **slow)
        self.numbers, self.status, self.image, self.busy = ui.HTML(), ui.HTML(), Picture(), Busy()
        self.latest = Latest(reporting(self.status, self._show), busy=self.busy)
        choices, sliders = row(self.source, self.picture), row(self.side, self.seed, self.busy)
        super().__init__(
            [choices, sliders, self.numbers, self.status, self.image], layout=ui.Layout(max_width="100%")
        )
        self.source.observe(self._turn, names="value")
        for control in (self.picture, self.side, self.seed):
            control.observe(self._ask, names="value")
        self._ask()

    def _listed(self):
        return list(self.places[self.source.value])

    def _turn(self, change):
        self.picture.options = self._listed()
        self._ask()  # if both sets begin with the same name, the list reports no change

    def _ask(self, change=None):
        path = self.places[self.source.value].get(self.picture.value)
        if path is not None:  # None while the list has changed and its choice has not
            self.latest.request(path=path, side=self.side.value, seed=self.seed.value)

    def _show(self, path, side, seed):
        view = crop_view(read(path), side, seed)
        alt = f"{path.stem} with the box of a crop of {side} pixels at {view.box[:2]}, and the crop enlarged"
        self.image.draw(view.figure, alt)
        self.numbers.value = summary(view)
