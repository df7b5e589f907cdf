"""A file button for pictures of any size, and the conversion of files that were uploaded."""

import io
from pathlib import Path

import anywidget
import numpy as np
from PIL import Image

from ganlib.codec import image_io

UPLOAD_PIXELS = 4_000_000  # a larger photograph would make the sliders wait for seconds
UPLOAD_BYTES = 300_000_000  # a larger file is not a photograph


class PictureUpload(anywidget.AnyWidget):
    """A file button. ipywidgets.FileUpload sends a file in one message, and a notebook server closes the connection
    at 10 MB without an error message. This button sends a file in parts.

    Args:
        take: called with the name and the bytes of an uploaded file.
        refuse: called with an Exception if the file is too large.
    """

    _esm = Path(__file__).parent / "upload.js"

    def __init__(self, take, refuse):
        super().__init__()
        self.take, self.refuse = take, refuse
        self.name, self.size, self.content = "", 0, bytearray()
        self.on_msg(self._hear)

    def _hear(self, widget, message, buffers):
        kind = message.get("kind")
        if kind == "begin":
            self.name, self.size, self.content = str(message["name"]), int(message["size"]), bytearray()
        elif kind == "part" and self.size <= UPLOAD_BYTES:
            self.content += buffers[0]
            self.send({"received": len(self.content)})
        elif kind == "part":
            self.send({"received": -1})
        elif kind == "end" and self.size > UPLOAD_BYTES:
            self.refuse(
                image_io.ImageError(
                    f"{self.name} has {self.size / 1e6:,.0f} MB; this panel takes up to {UPLOAD_BYTES / 1e6:.0f}: "
                    "use codec.compress(path), which takes pictures of any size"
                )
            )
        elif kind == "end":
            content, self.content = bytes(self.content), bytearray()
            self.take(self.name, content)


def picture_of(name, content):
    """An uploaded file -> H,W,3 uint8, and a sentence on how it was changed, "" where it was not.

    Formats that the codec does not take (transparency, 16 bits, CMYK, frames) are converted, and pictures of more
    than UPLOAD_PIXELS are scaled down.

    Raises:
        ImageError: it cannot be read.
    """
    file = io.BytesIO(content)
    file.name = name
    done = []
    try:
        picture = image_io.load(file)
    except image_io.ImageError:
        file.seek(0)
        picture = image_io.load(file, convert=True)
        with Image.open(io.BytesIO(content)) as opened:
            done.append(f"converted to 8 bits of red, green and blue (it was {opened.mode})")
    pixels = image_io.as_rgb(picture.pixels)
    height, width = pixels.shape[:2]
    if height * width > UPLOAD_PIXELS:
        scale = (UPLOAD_PIXELS / (height * width)) ** 0.5
        size = max(1, int(width * scale)), max(1, int(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
        done.append(f"scaled down from {width}x{height} to {size[0]}x{size[1]}, {UPLOAD_PIXELS / 1e6:g} megapixels")
    return pixels, f"{name}: {', and '.join(done)}." if done else ""


def free_name(name, taken):
    """The name, with a number if it is taken: "cat", "cat (2)", "cat (3)"."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found
