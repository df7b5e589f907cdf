"""Which image formats can be read and written: those of Pillow, and of its plugins where they are installed."""

import contextlib
import importlib
import importlib.util
import threading

from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

# Formats that libvips reads strip by strip: their first bytes, and the part of Pillow that reads their headers.
# Image.open() would refuse large files before that.
STRIPPED = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.jpeg_factory),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"II+\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TiffImagePlugin.TiffImageFile),
)
# Formats that need a plugin of Pillow: {format: (module, class that reads it, package to install, suffixes)}
PLUGINS = {
    "HEIF": ("pillow_heif", "HeifImageFile", "pillow-heif", (".heic", ".heif", ".hif")),
    "JXL": ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "pillow-jxl-plugin", (".jxl",)),
}
UNREAD_SAMPLES = "a TIFF of samples that cannot be read here, such as colour in floating point: save them as uint8"
HEVC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")  # in the first box of HEIC, and not of AVIF
JPEG_XL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")
# Formats that Pillow opens, but that hold drawings, films or tables of numbers; and .gic, which is decompressed
NO_PICTURES = {"BUFR", "EPS", "GIC", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}


_lifted = threading.Lock()  # Pillow's limit belongs to the whole process


class ImageError(ValueError):
    """The picture cannot be coded as it is; the message says what to do."""


def open_header(file, any_size=False):
    """An image of which only the header has been read.

    Args:
        file: opened for reading bytes, seekable.
        any_size: ignore Pillow's own limit, Image.MAX_IMAGE_PIXELS.

    Returns:
        PIL.Image; of any size where its format is one of STRIPPED.

    Raises:
        ImageError: it needs a plugin that is not installed, or has samples that Pillow does not read.
        Any error that Pillow and its plugins raise for damaged and unknown files.
    """
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    for magic, reader in STRIPPED:
        if start.startswith(magic):
            try:
                return reader(file, "")
            except SyntaxError as error:
                if reader is TiffImagePlugin.TiffImageFile and str(error) == "unknown pixel mode":
                    raise ImageError(UNREAD_SAMPLES) from None
                raise
    if start[4:8] == b"ftyp" and any(brand in start[8 : start[3]] for brand in HEVC_BRANDS):
        return _plugin("HEIF")(file, "")
    if start.startswith(JPEG_XL_STARTS):
        return _plugin("JXL")(file, "")
    Image.init()
    with _without_limit() if any_size else contextlib.nullcontext():
        return Image.open(file, formats=[name for name in Image.ID if name not in NO_PICTURES])


@contextlib.contextmanager
def _without_limit():
    with _lifted:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def readable_suffixes():
    """Suffixes of all files that can be read here: {".png", ...}."""
    suffixes = {
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in NO_PICTURES
    }
    for module, _, _, endings in PLUGINS.values():
        if importlib.util.find_spec(module.partition(".")[0]):
            suffixes.update(endings)
    return suffixes


def writable_format(suffix):
    """Pillow's name of the format with a suffix, such as ".png". ImageError where it cannot be written."""
    suffix = suffix.lower()
    if suffix == ".gic":
        raise ImageError(".gic is what is decompressed: name a picture; .png loses nothing")
    for name, (_, _, _, endings) in PLUGINS.items():
        if suffix in endings:
            _plugin(name)
    name = Image.registered_extensions().get(suffix)
    if name not in Image.SAVE or name in NO_PICTURES:
        raise ImageError(f"no image format is called {suffix!r}; .png loses nothing")
    return name


def _plugin(name):
    """The class that reads a format. Its plugin is also registered for writing."""
    module, reader, package, _ = PLUGINS[name]
    try:
        plugin = importlib.import_module(module)
    except ImportError as error:
        raise ImageError(f"a {name} file: `pip install {package}` is needed ({error})") from None
    if name == "HEIF":
        plugin.register_heif_opener()
    return getattr(plugin, reader)
