"""Pillow opens and saves .gic files like PNG files. `import ganlib` registers this.

    import ganlib
    from PIL import Image

    image.save("photo.gic", quality=50)  # RGB or L
    image.save(file, "GIC", target_bytes=35_000, model="light")

    image = Image.open("photo.gic")  # reads size and metadata
    image.realism = 1.0  # set it before the pixels are loaded; the default is GicImageFile.realism, 0, most faithful
    image.load()  # or whatever needs the pixels

Options of save(): quality, target_bytes and target_bpp, as in Codec.compress; model, the name of a shipped model, the
path of other weights, or a Codec; icc_profile, exif and dpi, by default those of the image itself (None leaves them
out). A file made with weights that are not shipped needs `image.codec = ganlib.load_codec(PATH)` before
its pixels are loaded.

torch is loaded with the first pixels, not with this module, since `import ganlib` should not take seconds.
"""

import dataclasses
import numbers

import numpy as np
from PIL import Image, ImageFile

from ganlib.codec import container, image_io
from ganlib.codec.container import CHECKSUM, CHUNK, MAX_METADATA, SIGNATURE
from ganlib.codec.header import BitstreamError
from ganlib.codec.verification import whole_part

FORMAT = "GIC"
MODES = {1: "L", 3: "RGB"}  # by channels


class UnreadableImage(BitstreamError, OSError):
    """A .gic file whose pixels cannot be decoded: an OSError too, which is what Pillow's users expect."""


class GicImageFile(ImageFile.ImageFile):
    """A .gic file that Pillow has opened.

    Attributes:
        realism: 0 to 1; used when the pixels are first needed and decoded.
        codec: Codec for a file made with weights that are not shipped.
    """

    format = FORMAT
    format_description = "ganlib GAN-compressed image"
    realism = 0.0
    codec = None

    def _open(self):
        """Read what stands before the tiles."""
        try:
            index = container.Index(_before_tiles(self.fp), only_header=True)
        except BitstreamError as error:
            raise SyntaxError(str(error)) from error  # open() then tries other formats, or raises its own error
        header = index.header
        self._size, self._mode = (header.width, header.height), MODES[header.channels]
        self._fingerprint = header.fingerprint
        for name, value in (("icc_profile", index.icc), ("exif", index.exif), ("dpi", index.dpi)):
            if value:
                self.info[name] = value
        self.tile = [(FORMAT, (0, 0, *self.size), 0, ())]  # says that there are pixels to be loaded

    def load_seek(self, position):
        """Empty. Because it exists, ImageFile.Parser does not decode before the whole file has arrived."""

    def load(self):
        """Decode the pixels at the first call; with ImageFile.LOAD_TRUNCATED_IMAGES, those that are not damaged."""
        if self.tile:
            data = self._data()
            pixels = np.empty((self.height, self.width, 3)[: 3 if self.mode == "RGB" else 2], np.uint8)
            try:
                codec = self.codec or load_shipped(self._fingerprint)
                codec.decompress(data, self.realism, salvage=ImageFile.LOAD_TRUNCATED_IMAGES, out=pixels)
            except BitstreamError as error:
                raise UnreadableImage(str(error)) from error
            self.im, self.tile, self.readonly = Image.fromarray(pixels).im, [], 0
            if self._exclusive_fp and self._close_exclusive_fp_after_loading:
                self.fp.close()
            self.fp = None
        return Image.Image.load(self)

    def verify(self):
        """Check every checksum; no pixel is decoded. As with every image, the file must be opened again afterwards.

        Raises:
            UnreadableImage: the file is damaged.
        """
        try:
            whole_part(self._data(), self.codec)
        except BitstreamError as error:
            raise UnreadableImage(str(error)) from error
        finally:
            super().verify()

    def _data(self):
        if self.fp is None:
            raise ValueError("operation on a closed image: open it again")
        self.fp.seek(0)
        return self.fp.read()


def _before_tiles(file):
    """The beginning of a file, up to its first TILE."""
    parts = [file.read(len(SIGNATURE))]
    while len(head := file.read(CHUNK.size)) == CHUNK.size:
        kind, length = CHUNK.unpack(head)
        if kind == b"TILE" or length > MAX_METADATA:
            break
        parts += [head, file.read(length + CHECKSUM.size)]
    return b"".join(parts)


def load_shipped(fingerprint):
    """The codec of the shipped model with a fingerprint; if there is none, `light`, whose error then says so."""
    from ganlib.codec.codec import shipped_codec
    from ganlib.weights import shipped_with

    return shipped_codec(shipped_with(fingerprint) or "light")


def _accept(prefix):
    return prefix.startswith(SIGNATURE)


def _save(image, file, filename):
    """Image.save() calls this. OSError for modes that a .gic file does not hold, as Pillow's own plugins do."""
    from ganlib.codec.codec import Codec, load_codec, shipped_codec
    from ganlib.weights import shipped_models

    if image.mode not in MODES.values():
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}")
    options = image.encoderinfo
    model = options.get("model", "light")
    if isinstance(model, Codec):
        codec = model
    else:
        codec = shipped_codec(model) if model in shipped_models() else load_codec(model)
    target = {name: options[name] for name in ("target_bytes", "target_bpp") if name in options}
    file.write(codec.compress(_picture(image, options), options.get("quality", 50.0), **target))


def _picture(image, options):
    """A PIL image with the metadata that save() was given in place of its own -> Picture, upright."""
    options = {name: options[name] for name in ("exif", "icc_profile", "dpi") if name in options}
    if isinstance(options.get("exif"), Image.Exif):
        options["exif"] = options["exif"].tobytes()
    for name in ("exif", "icc_profile"):
        if not isinstance(options.get(name) or b"", bytes):
            raise TypeError(f"{name}={options[name]!r} must be bytes")
    if (dpi := options.get("dpi")) is not None:
        pair = dpi if isinstance(dpi, (tuple, list)) else ()
        if len(pair) != 2 or not all(isinstance(n, numbers.Real) and n > 0 for n in pair):
            raise TypeError(f"dpi={dpi!r} must be two numbers above 0, such as (300, 300)")
    if "exif" in options:
        image = image.copy()
        image.info["exif"] = options["exif"] or b""
    picture = image_io.load(image)
    given = {"icc": options.get("icc_profile", picture.icc) or None, "dpi": options.get("dpi", picture.dpi)}
    return dataclasses.replace(picture, **given)


def register():
    """Tell Pillow about .gic files."""
    Image.register_open(FORMAT, GicImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".gic")
    Image.register_mime(FORMAT, "image/x-gic")
