"""The codec: an image in, the bytes of a .gic file out, and back. Memory depends on the window, not on the image."""

import warnings

import numpy as np
import torch

from ganlib.codec import container, image_io, mapped_arrays, windows
from ganlib.codec.container import Bitstream, BitstreamError, Header
from ganlib.codec.entropy_coder import CorruptSymbols, LatentCoder
from ganlib.codec.large_images import Strips
from ganlib.codec.rate_control import largest_file
from ganlib.config import QUALITY_MAX, STRIDE, chosen_precision
from ganlib.weights import load_weights

QUALITY_STEP = 0.01  # the header's unit
# Side of a window in pixels. Twice the side would save a quarter of g_s's work, which is halo, and make a window with
# its halo three times as large.
WINDOW = 1024
# A file of some hundred bytes may ask for 2^30 pixels. What is returned as one picture stays below 600 MB, unless
# Codec.max_pixels is raised; strips and regions know no such limit.
MAX_PIXELS = 200_000_000


class DamageWarning(UserWarning):
    """Parts of a salvaged picture are missing."""


class Codec:
    """Compress and decompress images with one trained model.

    Args:
        model: CompressionModel, trained.
        tables: {"y", "z"}: integer frequencies for the range coder, as stored with the weights.
        fingerprint: 8 bytes that name the weights in each file; a decoder with others refuses it.
        device: where g_a and g_s run; "cpu" or "cuda".
        precision: of g_a and g_s: "auto" is "bf16" where the chip multiplies in it, which moves pixels by a level or
            two and hardly changes the size of files; "no" is float32, with pixels that differ by a level at most
            between machines. Any file decodes in either.
        name: of the weights, for labels.

    Attributes:
        window: largest side, in pixels, of what g_a and g_s work on at once, without the halo; a multiple of 16.
            It may be changed at any time, and changes neither files nor pictures, only memory and speed.
        max_pixels: of a picture that decompress() makes room for by itself.
    """

    def __init__(self, model, tables, fingerprint, device="cpu", precision="auto", name="unnamed"):
        self.model = model.eval().to(device=device, memory_format=torch.channels_last)
        self.coder = LatentCoder(self.model.entropy, tables)
        self.fingerprint = fingerprint
        self.name = name
        self.device = torch.device(device)
        self.precision = chosen_precision(precision)
        self.max_pixels = MAX_PIXELS
        self.window = WINDOW

    @property
    def window(self):
        return self._window

    @window.setter
    def window(self, pixels):
        if pixels < STRIDE or pixels % STRIDE:
            raise ValueError(f"window={pixels} must be a multiple of {STRIDE} pixels")
        self._window = int(pixels)

    def compress(self, image, quality=50.0, *, target_bytes=None, target_bpp=None, convert=False, metadata=True):
        """Compress an image to the bytes of a .gic file.

        Args:
            image: PIL.Image, HxWx3 or HxW uint8 array (a numpy.memmap is read piece by piece), or a path (large
                files are read piece by piece).
            quality: 0 (smallest) to 100 (best), in steps of 0.01.
            target_bytes, target_bpp: instead of quality, the largest size of the whole file, in bytes or in bits
                per pixel; it is met from below.
            convert: see ganlib.codec.image_io.load.
            metadata: keep ICC profile and EXIF.

        Returns:
            bytes.

        Raises:
            ImageError: the image cannot be coded as it is.
            TargetSizeError: even quality 0 is larger than the target.
        """
        if target_bytes is not None and target_bpp is not None:
            raise ValueError("give target_bytes or target_bpp, not both")
        if not 0 <= quality <= QUALITY_MAX:
            raise ValueError(f"quality={quality} must be from 0 to 100")
        picture = image_io.load(image, convert)
        height, width = picture.pixels.shape[:2]
        channels = 3 if picture.pixels.ndim == 3 else 1
        try:
            Header(width, height, channels, quality, self.fingerprint).check()
        except BitstreamError as error:
            raise image_io.ImageError(f"too large for a .gic file: {error}") from None
        y = self._windows.analyse(picture.pixels)
        icc, exif = (picture.icc, picture.exif) if metadata else (None, None)

        def encode(hundredths):
            header = Header(width, height, channels, hundredths * QUALITY_STEP, self.fingerprint)
            return container.write(Bitstream(header, list(self._encode_tiles(y, header)), icc, exif))

        if target_bpp is not None:
            target_bytes = int(target_bpp * height * width / 8)
        if target_bytes is not None:
            return largest_file(encode, target_bytes, round(QUALITY_MAX / QUALITY_STEP))
        return encode(round(quality / QUALITY_STEP))

    @property
    def _windows(self):
        return windows.Windows(self.model, self.window // STRIDE, self.device, self.precision)

    @torch.inference_mode()
    def _encode_tiles(self, y, header):
        """y: h,w,C float32 before the gain -> bytes of each tile, in order."""
        gain = self.model.gain(torch.tensor([header.quality], device=self.device))[0]
        with windows.progress(header.tiles, "encoding", "tile") as bar:
            for area in _tile_areas(header):
                tile = torch.tensor(y[area.slices], device=self.device).permute(2, 0, 1)
                yield self.coder.encode(tile * gain, header.quality)[0]
                mapped_arrays.release(y)
                bar.update()

    def decompress(self, data, realism=0.0, *, region=None, salvage=False, out=None):
        """Decompress a .gic file, or a part of it.

        Args:
            data: bytes of the file, or its path; with a path, only what the region needs is read.
            realism: 0 (most faithful) to 1 (most natural); chosen here, whatever the file.
            region: (x0, y0, x1, y1) in pixels, x1 and y1 excluded; the whole picture where None.
            salvage: of a damaged file, return what is whole. Only its header must be.
            out: array of the right shape, uint8, to write the pixels to; a numpy.memmap need not fit into memory.

        Returns:
            PIL.Image, RGB or L, of the size of the region, with the file's ICC profile and EXIF in .info; or `out`.
            With salvage, a pair of that and a mask, H,W bool: True where the pixel is what the undamaged file would
            have given, within one level. A DamageWarning names the tiles that are missing.

        Raises:
            BitstreamError: the file is damaged, not a .gic file, or made with other weights.
            ValueError: a region outside of the picture, an `out` of another shape.
        """
        index = container.Index(container.buffer(data), salvage)
        x0, y0, x1, y1 = _checked(region, index.header)
        if out is None and (x1 - x0) * (y1 - y0) > self.max_pixels:
            raise BitstreamError(
                f"{x1 - x0}x{y1 - y0} pixels are more than codec.max_pixels={self.max_pixels:,}: "
                "raise it if you trust the file, take a region, or write to a numpy.memmap with out="
            )
        strips = self._strips(index, realism, (x0, y0, x1, y1), salvage)
        pixels = strips.into(out)
        image = image_io.to_pil(pixels, strips.icc, strips.exif) if out is None else out
        return (image, strips.valid) if salvage else image

    def strips(self, data, realism=0.0, *, region=None, salvage=False):
        """The same in strips, for pictures that need not fit into memory. (Arguments as in decompress.)

        All tiles are read and checked before the first strip comes.

        Returns:
            Strips.
        """
        index = container.Index(container.buffer(data), salvage)
        return self._strips(index, realism, _checked(region, index.header), salvage)

    def _strips(self, index, realism, region, salvage):
        if not 0 <= realism <= 1:
            raise ValueError(f"realism={realism} must be from 0 to 1")
        header = index.header
        if header.model != self.fingerprint:
            raise BitstreamError(
                f"made with the weights {header.model.hex()}; these are {self.fingerprint.hex()}. "
                "Decode it with the weights that it was made with"
            )
        x0, y0, x1, y1 = region
        wanted = windows.Area(y0 // STRIDE, x0 // STRIDE, -(-y1 // STRIDE), -(-x1 // STRIDE))
        halo = windows.halos(self.model)[1]
        known = wanted.widened(halo, windows.whole(header.height, header.width))
        y_hat, there = self.latents(index, known, salvage)
        valid = None
        if salvage:
            inside = windows.eroded(there, halo)[wanted.seen_from(known).slices]
            valid = inside.repeat(STRIDE, 0).repeat(STRIDE, 1)
            valid = valid[y0 - wanted.top * STRIDE :, x0 - wanted.left * STRIDE :][: y1 - y0, : x1 - x0]

        def cropped():
            bands = self._windows.synthesize(y_hat, known, wanted, header.quality, realism, header.channels)
            top = wanted.top * STRIDE
            for band in bands:
                left = wanted.left * STRIDE
                yield band[max(0, y0 - top) : y1 - top, x0 - left : x1 - left]
                top += len(band)

        return Strips(x1 - x0, y1 - y0, header.channels, cropped(), index.icc, index.exif, valid)

    def latents(self, index, area, salvage=False):
        """Decode the tiles that an area touches.

        Args:
            index: container.Index.
            area: windows.Area of latents.
            salvage: leave zeros where a tile is damaged, and warn.

        Returns:
            y_hat: h,w,C float32 in quantization steps, in a temporary file where it is large; there: h,w bool.
        """
        header = index.header
        y_hat = mapped_arrays.array((*area.shape, self.model.config.latent_channels), np.float32)
        there, damaged = np.ones(area.shape, bool), []
        touched = [(i, tile) for i, tile in enumerate(_tile_areas(header)) if min(tile.common(area).shape) > 0]
        with windows.progress(len(touched), "decoding", "tile") as bar:
            for i, tile in touched:
                part = tile.common(area)
                place = part.seen_from(area).slices
                try:
                    decoded = self._decode_tile(index, i, tile)
                except BitstreamError:
                    if not salvage:
                        raise
                    there[place] = False
                    damaged.append(i)
                else:
                    y_hat[place] = decoded[:, *part.seen_from(tile).slices].permute(1, 2, 0).cpu().numpy()
                mapped_arrays.release(y_hat)
                bar.update()
        if damaged:
            names = ", ".join(map(str, damaged))
            warnings.warn(f"of {header.tiles} tiles these are missing: {names}", DamageWarning, stacklevel=3)
        return y_hat, there

    def _decode_tile(self, index, i, tile):
        try:
            return self.coder.decode(index.tile(i), *tile.shape, index.header.quality, self.device)
        except CorruptSymbols as error:
            raise BitstreamError(f"tile {i} is damaged: {error}") from error


def _tile_areas(header):
    for i in range(header.tiles):
        top, left, rows, columns = header.tile_latents(i)
        yield windows.Area(top, left, top + rows, left + columns)


def _checked(region, header):
    if region is None:
        return 0, 0, header.width, header.height
    x0, y0, x1, y1 = region
    if any(n != int(n) for n in region) or not (0 <= x0 < x1 <= header.width and 0 <= y0 < y1 <= header.height):
        raise ValueError(
            f"region={tuple(region)} must be whole numbers x0 < x1 and y0 < y1 within {header.width}x{header.height}"
        )
    return tuple(int(n) for n in region)


def load_codec(name="light", device="cpu", precision="auto"):
    """A codec with shipped weights, or with those of a .safetensors file. Needs no network. (See Codec.)"""
    weights = load_weights(name)
    return Codec(weights.model, weights.tables, weights.fingerprint, device, precision, weights.name)
