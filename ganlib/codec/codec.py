"""The codec: an image in, the bytes of a .gic file out, and back. Memory depends on the window, not on the image."""

import functools
import os
import sys
import warnings
from pkgutil import resolve_name

import numpy as np
import torch

from ganlib.codec import arguments, container, image_io, mapped_arrays, windows
from ganlib.codec.container import Bitstream
from ganlib.codec.entropy_coder import LatentCoder
from ganlib.codec.geometry import Area
from ganlib.codec.header import MAX_QUALITY, BitstreamError, Header
from ganlib.codec.large_images import Strips
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.codec.rate_control import largest_file
from ganlib.codec.salvage import DamageWarning, SalvagedIndex, in_words
from ganlib.config import CODECS, QUALITY_MAX, STRIDE, autocast, chosen_precision
from ganlib.weights import load_weights, shipped_family, shipped_models, shipped_with

# Side of a window in pixels. Twice the side would save a quarter of g_s's work, the part for the halo, but a window
# with its halo would be three times as large.
WINDOW = 1024


# A forked process, such as multiprocessing makes on Linux, has OpenMP's state without its threads and would wait for
# them for ever. With one thread it does not wait.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


class Codec:
    """Compress and decompress images with one trained model. It can be copied, pickled, and used by many threads.

    Args:
        weights: ganlib.weights.Weights: model, tables and fingerprint.
        device: where g_a and g_s run; "cpu" or "cuda".
        precision: of g_a and g_s. "auto" is "bf16" where the chip supports it: this changes pixels by a level or two
            and hardly the size of files. "no" is float32: pixels differ by one level at most between machines. Any
            file decodes with either.

    Attributes:
        name: of the weights, "light" or the stem of their file.
        window: largest side, in pixels, of what g_a and g_s work on at once, without the halo; a multiple of 16.
            It may be changed at any time. It affects memory and speed, not files or pictures.
        max_pixels: of the largest picture for which decompress() allocates memory by itself.
    """

    def __init__(self, weights, device="cpu", precision="auto"):
        windows.halos(weights.model)  # raises where the receptive field of a layer is not known
        self.model = weights.model.eval().to(device=device, memory_format=torch.channels_last)
        self.coder = LatentCoder(self.model.entropy, weights.tables)
        self.name, self.fingerprint = weights.name, weights.fingerprint
        self.device = torch.device(device)
        self.precision = chosen_precision(precision)
        self.max_pixels, self.window = arguments.DEFAULT_MAX_PIXELS, WINDOW

    @property
    def window(self):
        return self._window

    @window.setter
    def window(self, pixels):
        side = arguments.number("window", pixels, STRIDE)
        if side % STRIDE:
            raise ValueError(f"window={pixels} must be a multiple of {STRIDE} pixels")
        self._window = int(side)

    @property
    def max_pixels(self):
        return self._max_pixels

    @max_pixels.setter
    def max_pixels(self, pixels):
        self._max_pixels = int(arguments.number("max_pixels", pixels, 1))

    def compress(self, image, quality=50.0, *, target_bytes=None, target_bpp=None, convert=False, metadata=True):
        """Compress an image to the bytes of a .gic file.

        Args:
            image: path, bytes or open file of an image, PIL.Image, HxWx3 or HxW uint8 array (large files and a
                numpy.memmap are read piece by piece), or a Picture that image_io.load() has made of these.
            quality: 0 (smallest) to 100 (best), in steps of 0.01.
            target_bytes, target_bpp: instead of quality, the largest size of the whole file, in bytes or in bits
                per pixel; the file is not larger.
            convert: see ganlib.codec.image_io.load.
            metadata: keep ICC profile, EXIF and pixel density.

        Returns:
            bytes.

        Raises:
            ImageError: the image cannot be coded as it is.
            TargetSizeError: even quality 0 is larger than the target.
            TypeError, ValueError: an argument of the wrong type, or out of range.
            OSError: no room for the pixels or latents of a large picture in the folder for temporary files.
        """
        hundredths = round(arguments.number("quality", quality, 0, QUALITY_MAX) * MAX_QUALITY / QUALITY_MAX)
        target_bytes, target_bpp = arguments.target(target_bytes, target_bpp)
        picture = image if isinstance(image, image_io.Picture) else image_io.load(image, convert)
        height, width = picture.pixels.shape[:2]
        channels = 3 if picture.pixels.ndim == 3 else 1
        try:
            Header(width, height, channels, hundredths, self.fingerprint).check()
        except BitstreamError as error:
            raise image_io.ImageError(f"too large for a .gic file: {error}") from None
        encode = self._encoder(picture.pixels, channels, (picture.icc, picture.exif, picture.dpi) if metadata else ())
        if target_bpp is not None:
            target_bytes = int(min(target_bpp * height * width / 8, sys.maxsize))
        return encode(hundredths) if target_bytes is None else largest_file(encode, target_bytes, MAX_QUALITY)

    def _encoder(self, pixels, channels, metadata):
        """Return a function: quality in hundredths -> bytes of a file. Work common to all qualities is done once."""
        y = self._windows_of(self.model).analyse(pixels)
        height, width = pixels.shape[:2]

        def encode(hundredths):
            header = Header(width, height, channels, hundredths, self.fingerprint)
            return container.write(Bitstream(header, list(self._encode_tiles(y, header)), *metadata))

        return encode

    def _windows_of(self, model):
        return windows.Windows(model, self.window // STRIDE, self.device, self.precision)

    def _encode_tiles(self, y, header):
        """y: h,w,C float32 before the gain -> bytes of each tile, in order."""
        with torch.inference_mode(), autocast(self.device, "no"):
            gain = self.model.gain(windows.conditioning(header.quality / 100, self.device)).flatten()  # C
        with windows.progress(header.tiles, "encoding", "tile") as bar:
            for i in range(header.tiles):
                tile = torch.tensor(y[header.tile_area(i).slices], device=self.device)
                yield self.coder.encode(tile.mul_(gain), header.quality)[0]
                mapped_arrays.release(y)
                bar.update()

    def decompress(self, data, realism=0.0, *, region=None, salvage=False, out=None):
        """Decompress a .gic file, or a part of it.

        A file that was made by another shipped model is decoded with that model.

        Args:
            data: bytes of the file, or its path; with a path, only what the region needs is read.
            realism: 0 (most faithful) to 1 (most natural); chosen here, for any file.
            region: (x0, y0, x1, y1) in pixels, x1 and y1 excluded; the whole picture where None.
            salvage: return the undamaged parts of a damaged file. It needs its header and at least one tile.
            out: array of the right shape, uint8, to write the pixels to; a numpy.memmap need not fit into memory.

        Returns:
            PIL.Image, RGB or L, of the size of the region, with the file's ICC profile, EXIF and dpi in .info; or
            `out`. With salvage, a pair of that and decoded_mask, H,W bool: True where the pixel is what the undamaged
            file would have given, within one level. A DamageWarning names the tiles and metadata that are missing.

        Raises:
            BitstreamError: the file is damaged, not a .gic file, made with unknown weights, or of more
                pixels than `max_pixels`.
            TypeError, ValueError: an argument of the wrong type, out of range, or outside of the picture.
            OSError: the file cannot be read (FileNotFoundError, IsADirectoryError), or as in compress().
        """
        index = self._index(data, salvage)
        x0, y0, x1, y1 = box = arguments.region(region, index.header.width, index.header.height)
        if out is not None:
            arguments.output(out, (y1 - y0, x1 - x0, 3)[: 3 if index.header.channels == 3 else 2])
        elif (x1 - x0) * (y1 - y0) > self.max_pixels:
            raise BitstreamError(
                f"{x1 - x0}x{y1 - y0} pixels are more than codec.max_pixels={self.max_pixels:,}: "
                "raise it if you trust the file, take a region, or write to a numpy.memmap with out="
            )
        strips = self._strips(index, realism, box, salvage)
        pixels = strips.into(out)
        image = image_io.to_pil(pixels, strips.icc, strips.exif, strips.dpi) if out is None else out
        return (image, strips.decoded_mask) if salvage else image

    def strips(self, data, realism=0.0, *, region=None, salvage=False):
        """Decompress in strips, for pictures that need not fit into memory. (Arguments as in decompress.)

        All tiles are read and checked before the first strip comes.

        Returns:
            Strips. (Errors as in decompress.)
        """
        index = self._index(data, salvage)
        box = arguments.region(region, index.header.width, index.header.height)
        return self._strips(index, realism, box, salvage)

    def _index(self, data, salvage):
        """Index, read by the codec of the file's own weights: which parts may be missing depends on the model."""
        data = container.buffer(data)
        header = container.first_header(data)
        index = (self if header is None else self._trained_as(header))._read(data, salvage)
        if index.damaged:
            warnings.warn(f"damaged and left out: {index.damaged}", DamageWarning, stacklevel=3)
        return index

    def _read(self, data, salvage):
        return (SalvagedIndex if salvage else container.Index)(data)

    def end_of_whole(self, data):
        """Length of a file in bytes, up to its last whole chunk. Here all must be whole, else BitstreamError."""
        container.read(data)
        return len(data)

    def _strips(self, index, realism, box, salvage):
        realism, header = arguments.number("realism", realism, 0, 1), index.header
        trained = self._trained_as(header)
        if type(trained) is not type(self):  # a model of another family, which may have files of another kind
            return trained._strips(index, realism, box, salvage)
        model = trained.model
        (x0, y0, x1, y1), wanted = box, Area.of_region(*box)
        halo = windows.halos(model)[1]
        known = wanted.widened(halo, header.area, model.grid)
        y_hat, decoded = self.latents(index, known, salvage)
        decoded_mask = None
        if salvage:
            inside = windows.eroded(decoded, halo)[wanted.seen_from(known).slices]
            decoded_mask = inside.repeat(STRIDE, 0).repeat(STRIDE, 1)
            decoded_mask = decoded_mask[y0 - wanted.top * STRIDE :, x0 - wanted.left * STRIDE :][: y1 - y0, : x1 - x0]

        def cropped():
            bands = self._windows_of(model).synthesize(y_hat, known, wanted, header.quality, realism, header.channels)
            top, left = wanted.top * STRIDE, wanted.left * STRIDE
            for band in bands:
                yield band[max(0, y0 - top) : y1 - top, x0 - left : x1 - left]
                top += len(band)

        metadata = {"icc": index.icc, "exif": index.exif, "dpi": index.dpi}
        return Strips(x1 - x0, y1 - y0, header.channels, cropped(), **metadata, decoded_mask=decoded_mask)

    def latents(self, index, area, salvage=False):
        """Decode the tiles that an area touches.

        Args:
            index: container.Index.
            area: Area of latents.
            salvage: leave zeros where a tile is damaged, and warn.

        Returns:
            y_hat: h,w,C float32 in quantization steps, in a temporary file where it is large; decoded: h,w bool.
        """
        header, trained = index.header, self._trained_as(index.header)
        y_hat = mapped_arrays.array((*area.shape, trained.model.channels), np.float32)
        decoded, missing = np.ones(area.shape, bool), []
        touched = header.tiles_of(area)
        with windows.progress(len(touched), "decoding", "tile") as bar:
            for i in touched:
                tile = header.tile_area(i)
                part = tile.common(area)
                place = part.seen_from(area).slices
                try:
                    symbols = trained.coder.decode(index.tile(i), *tile.shape, header.quality, self.device)
                except (BitstreamError, CorruptSymbols) as error:
                    if not salvage:
                        raise BitstreamError(f"tile {i}: {error}") from error
                    decoded[place] = False
                    missing.append(i)
                else:
                    y_hat[place] = symbols[part.seen_from(tile).slices].cpu().numpy()
                mapped_arrays.release(y_hat)
                bar.update()
        if missing:
            text = f"of {header.tiles} tiles these are missing: {in_words(missing)}"
            warnings.warn(text, DamageWarning, stacklevel=4)
        return y_hat, decoded

    def _trained_as(self, header):
        """The codec with the weights of a file: this one, or that of the shipped model with its fingerprint."""
        if header.fingerprint == self.fingerprint:
            return self
        name = shipped_with(header.fingerprint)
        if name is None:
            raise BitstreamError(
                f"made with weights {header.fingerprint.hex()}: not the loaded ones ({self.fingerprint.hex()}), nor "
                f"shipped ({', '.join(shipped_models())}). Give the right ones: --model PATH, or load_codec(PATH)"
            )
        precision = "no" if shipped_family(name) else self.precision  # other families compute in float32 only
        return shipped_codec(name, str(self.device), precision)


def load_codec(name="light", device="cpu", precision="auto"):
    """A codec with shipped weights, or with those of a .safetensors file. Needs no network. (See Codec.)

    Raises:
        WeightsError: there are no such weights, or they are damaged.
        ValueError: the precision does not exist, or these weights do not support it.
        RuntimeError: the device does not exist here.
    """
    with torch.inference_mode(False):
        weights = load_weights(name)
        return resolve_name(CODECS[weights.model.config.family])(weights, device, precision)


@functools.cache
def shipped_codec(name, device="cpu", precision="auto"):
    """load_codec() of a shipped model, the same object for every caller: do not change its attributes."""
    return load_codec(name, device, precision)
