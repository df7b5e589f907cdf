"""The quality map of song.py in the file: what the entropy model sees of it, and how it is stored.

    tile of the file:  map, deflated: 8 bits for each 64x64 pixels, in reading order | range coder's words, as in ours

The map lies on the grid of z, so that each tile holds its own part and can be read alone. g_a receives it as a
fourth channel of the pixels, g_s as one more channel of the latents: windows, regions and salvage work as without it.
"""

import copy
import zlib

import numpy as np
import torch
from PIL import Image

from ganlib.cited.transform_codec import TransformCodec
from ganlib.codec.entropy_coder import HYPER_FACTOR, LatentCoder, quality_value
from ganlib.codec.geometry import ceil_div
from ganlib.codec.header import MAX_QUALITY
from ganlib.codec.image_io import as_rgb
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.config import HYPER_STRIDE, QUALITY_MAX
from ganlib.model.entropy_model import EntropyModel, round_quality

LEVELS = 255  # the map's 8 bits: level l is quality 100 * l / 255
# What the networks see of each level
VALUES = torch.tensor(
    [quality_value(round(level * MAX_QUALITY / LEVELS)) for level in range(LEVELS + 1)], device="cpu"
)
RAW_DEFLATE = -15  # zlib's name for deflate without header and checksum; the file has its own


def repeat(regions, times, height, width):
    """...,h,w -> ...,height,width: each number `times` times down and across, cut to size."""
    return regions.repeat_interleave(times, -2).repeat_interleave(times, -1)[..., :height, :width]


def as_map(quality, x):
    """B qualities, or already a map of them -> B,1,H/64,W/64 for pictures x: B,3,H,W, multiples of 64."""
    height, width = (n // HYPER_STRIDE for n in x.shape[2:])
    return quality if quality.dim() == 4 else quality.view(-1, 1, 1, 1).expand(-1, 1, height, width)


class MapEntropyModel(EntropyModel):
    """EntropyModel in which "quality" is a map: B,1,h,w on the grid of z, each number 0 to 100."""

    @staticmethod
    def quality_plane(like, quality):
        """The map as networks see it, on the grid of z or of y (`like`), rounded as one quality would be."""
        plane = round_quality(quality)
        times = 1 if like.shape[2:] == plane.shape[2:] else HYPER_FACTOR
        return repeat(plane.to(like.dtype), times, *like.shape[2:])


class MapCoder(LatentCoder):
    """LatentCoder of latents h,w,C+1 whose last channel is the map, 0 to 1. The quality is not used."""

    @staticmethod
    def quality_plane(like, quality):
        """Here `quality` are the levels of the map, h/4,w/4 uint8."""
        times = 1 if like.shape[:2] == quality.shape else HYPER_FACTOR
        values = VALUES.to(like)[quality.long()]
        return repeat(values, times, *like.shape[:2])[..., None]

    def encode(self, y, quality=None):
        levels = (y[::HYPER_FACTOR, ::HYPER_FACTOR, -1] * LEVELS).round().to(torch.uint8)
        data, y_hat = super().encode(y[..., :-1], levels)
        deflate = zlib.compressobj(9, wbits=RAW_DEFLATE)
        packed = deflate.compress(levels.cpu().numpy().tobytes()) + deflate.flush()
        return packed + data, self._beside(y_hat, levels)

    def decode(self, data, height, width, quality=None, device="cpu"):
        shape = ceil_div(height, HYPER_FACTOR), ceil_div(width, HYPER_FACTOR)
        inflate = zlib.decompressobj(wbits=RAW_DEFLATE)
        try:
            levels = inflate.decompress(data, shape[0] * shape[1] + 1)
        except zlib.error as error:
            raise CorruptSymbols(f"the quality map cannot be read: {error}") from error
        if not inflate.eof or len(levels) != shape[0] * shape[1]:
            raise CorruptSymbols(f"the quality map should have {shape[0]}x{shape[1]} values")
        levels = torch.frombuffer(bytearray(levels), dtype=torch.uint8).view(shape).to(device)
        return self._beside(super().decode(inflate.unused_data, height, width, levels, device), levels)

    @staticmethod
    def _beside(y_hat, levels):
        plane = repeat(levels.to(y_hat) / LEVELS, HYPER_FACTOR, *y_hat.shape[:2])
        return torch.cat([y_hat, plane[..., None]], dim=2)


class MapCodec(TransformCodec):
    """Codec of song.py: compress() takes a map."""

    offsets = None  # of one call of compress()

    def __init__(self, weights, device="cpu", precision="no"):
        super().__init__(weights, device, precision)
        self.coder = MapCoder(self.model.entropy, weights.tables)

    def compress(self, image, quality=50.0, *, quality_map=None, **options):
        """As Codec.compress().

        Args:
            quality_map: h,w numbers from -100 to 100, of any h and w, resized to the whole picture and added to the
                quality: 0 changes nothing, 20 spends more bits on that region, -20 fewer. Each 64x64 pixels get the
                mean of their numbers.
        """
        if quality_map is not None:
            quality_map = np.asarray(quality_map, np.float32)
            if quality_map.ndim != 2 or not quality_map.size or not np.abs(quality_map).max() <= QUALITY_MAX:
                raise ValueError("quality_map must be h,w numbers from -100 to 100")
        call = copy.copy(self)  # other threads may compress with other maps
        call.offsets = quality_map
        return super(MapCodec, call).compress(image, quality, **options)

    def _encoder(self, pixels, channels, metadata):
        """The input of g_a contains the map, and so the quality: qualities share no work."""

        def encode(hundredths):
            levels = self.levels(hundredths, *pixels.shape[:2])
            with_map = np.dstack([as_rgb(pixels), levels])
            return TransformCodec._encoder(self, with_map, channels, metadata)(hundredths)

        return encode

    def levels(self, hundredths, height, width):
        """The map of a picture at a quality in hundredths, for each pixel: height,width uint8."""
        rows, columns = ceil_div(height, HYPER_STRIDE), ceil_div(width, HYPER_STRIDE)
        qualities = np.full((rows, columns), hundredths * QUALITY_MAX / MAX_QUALITY, np.float32)
        if self.offsets is not None:
            qualities += Image.fromarray(self.offsets).resize((columns, rows), Image.Resampling.BOX)
        levels = np.round(qualities.clip(0, QUALITY_MAX) * (LEVELS / QUALITY_MAX)).astype(np.uint8)
        return levels.repeat(HYPER_STRIDE, 0).repeat(HYPER_STRIDE, 1)[:height, :width]
