"""The codec of the recurrent models: layers of bits, any first few of which are a picture."""

import itertools
import logging

import numpy as np
import torch
import torch.nn.functional as F

from ganlib.cited import recurrent_file
from ganlib.cited.bit_coder import PlaneCoder
from ganlib.codec import container, image_io, windows
from ganlib.codec.codec import MAX_PIXELS, checked_region
from ganlib.codec.container import BitstreamError, Header
from ganlib.codec.entropy_coder import CorruptSymbols
from ganlib.codec.large_images import Strips
from ganlib.codec.rate_control import TargetSizeError
from ganlib.config import QUALITY_MAX, STRIDE

log = logging.getLogger(__name__)

TILE = 2048  # pixels along one side. Tiles are coded one by one, so that a seam may show between them at few passes


class RecurrentCodec:
    """Compress and decompress images with a recurrent model. The face of ganlib.Codec; arguments as there.

    Attributes:
        max_pixels: of a picture that decompress() makes room for by itself.
    """

    def __init__(self, model, tables, fingerprint, device="cpu", precision="no"):
        self.model = model.eval().to(device=device)
        self.fingerprint, self.device = fingerprint, torch.device(device)
        self.precision, self.max_pixels = "no", MAX_PIXELS

    def passes(self, quality):
        """Passes for a quality from 0 to 100: 1 to `iterations`, evenly."""
        if not 0 <= quality <= QUALITY_MAX:
            raise ValueError(f"quality={quality} must be from 0 to 100")
        return 1 + round(quality / QUALITY_MAX * (self.model.config.iterations - 1))

    def compress(self, image, quality=50.0, *, target_bytes=None, target_bpp=None, convert=False, metadata=True):
        """Compress an image to the bytes of a .gic file, whose beginnings are coarser pictures.

        Raises:
            ImageError: the image cannot be coded as it is.
            TargetSizeError: even one pass is larger than the target.
        """
        if target_bytes is not None and target_bpp is not None:
            raise ValueError("give target_bytes or target_bpp, not both")
        passes = self.passes(quality)
        picture = image_io.load(image, convert)
        height, width = picture.pixels.shape[:2]
        header = Header(width, height, 3 if picture.pixels.ndim == 3 else 1, quality, self.fingerprint, TILE)
        try:
            header.check()
        except BitstreamError as error:
            raise image_io.ImageError(f"too large for a .gic file: {error}") from None
        if target_bpp is not None:
            target_bytes = int(target_bpp * height * width / 8)
        if target_bytes is not None:
            passes = self.model.config.iterations
        layers = list(zip(*(self._encode_tile(picture.pixels, tile, passes) for tile in _tiles(header))))
        metadata = (picture.icc, picture.exif) if metadata else (None, None)
        for count in range(passes, 0, -1):
            data = recurrent_file.write(header, layers[:count], *metadata)
            if target_bytes is None or len(data) <= target_bytes:
                return data
        raise TargetSizeError(f"{target_bytes} bytes are too few: the first pass of this image takes {len(data)}")

    @torch.inference_mode()
    def _encode_tile(self, pixels, area, passes):
        """Bytes of each pass."""
        crop = image_io.as_rgb(pixels[area.scaled(STRIDE).slices])
        x = torch.tensor(crop, device=self.device).permute(2, 0, 1)[None].float().div_(255)
        missing = [-n % STRIDE for n in x.shape[2:]]
        x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        coder = PlaneCoder(self.model.config.bits, *area.shape)
        return [coder.encode((bits[0] > 0).cpu().numpy()) for bits, _ in self.model.encode(x, passes)]

    def decompress(self, data, realism=0.0, *, region=None, salvage=False, out=None, passes=None):
        """Decompress a .gic file, the beginning of one, or a part of it. (Arguments and errors as Codec.decompress.)

        Args:
            realism: has no effect.
            passes: the first so many; all that are there where None.
        """
        file = self._read(data, salvage)
        x0, y0, x1, y1 = region = checked_region(region, file.header)
        if out is None and (x1 - x0) * (y1 - y0) > self.max_pixels:
            raise BitstreamError(
                f"{x1 - x0}x{y1 - y0} pixels are more than codec.max_pixels={self.max_pixels:,}: "
                "raise it if you trust the file, take a region, or write to a numpy.memmap with out="
            )
        strips = self._strips(file, region, salvage, passes)
        pixels = strips.into(out)
        image = image_io.to_pil(pixels, strips.icc, strips.exif) if out is None else out
        return (image, strips.valid) if salvage else image

    def strips(self, data, realism=0.0, *, region=None, salvage=False, passes=None):
        """The same as Strips, from top to bottom."""
        file = self._read(data, salvage)
        return self._strips(file, checked_region(region, file.header), salvage, passes)

    def _read(self, data, salvage):
        file = recurrent_file.read(container.buffer(data), salvage)
        if file.header.model != self.fingerprint:
            raise BitstreamError(
                f"made with the weights {file.header.model.hex()}; these are {self.fingerprint.hex()}. "
                "Decode it with the weights that it was made with"
            )
        if file.passes > self.model.config.iterations:
            raise BitstreamError(f"{file.passes} passes; this model has {self.model.config.iterations}")
        there = min(map(len, file.layers))
        if there == 0 and not salvage:
            raise BitstreamError("cut short: not even the first pass is there")
        if there < file.passes:
            log.warning("of %d passes %d are there: a coarser picture", file.passes, there)
        return file

    def _strips(self, file, region, salvage, passes):
        header = file.header
        x0, y0, x1, y1 = region
        wanted = windows.Area(y0, x0, y1, x1)  # pixels
        tiles = [(i, area.scaled(STRIDE)) for i, area in enumerate(_tiles(header))]
        touched = [(i, area) for i, area in tiles if min(area.common(wanted).shape) > 0]
        decoded = {i: file.layers[i][:passes] for i, _ in touched}
        valid = np.zeros((y1 - y0, x1 - x0), bool)
        for i, area in touched:
            valid[area.common(wanted).seen_from(wanted).slices] = len(file.layers[i]) == file.passes

        def bands():
            for row in _rows(touched):
                top = row[0][1].common(wanted)
                band = np.empty((top.shape[0], x1 - x0, 3)[: 3 if header.channels == 3 else 2], np.uint8)
                for i, area in row:
                    part = area.common(wanted)
                    pixels = self._decode_tile(decoded[i], area, header.channels, salvage)
                    band[:, part.seen_from(wanted).slices[1]] = pixels[part.seen_from(area).slices]
                yield band

        icc, exif = file.icc, file.exif
        return Strips(x1 - x0, y1 - y0, header.channels, bands(), icc, exif, valid if salvage else None)

    @torch.inference_mode()
    def _decode_tile(self, layers, area, channels, salvage):
        """Bytes of passes -> 16h,16w,3 or 16h,16w uint8."""
        shape = self.model.config.bits, area.shape[0] // STRIDE, area.shape[1] // STRIDE
        coder, planes = PlaneCoder(*shape), []
        try:
            for data in layers:
                planes.append(torch.from_numpy(coder.decode(data)).to(self.device)[None] * 2.0 - 1)
        except CorruptSymbols as error:
            if not salvage:
                raise BitstreamError(f"pass {len(planes) + 1} is damaged: {error}") from error
        if not planes:
            return np.full((*area.shape, 3)[: 3 if channels == 3 else 2], 128, np.uint8)
        x_hat = self.model.decode(planes)[0].permute(1, 2, 0)
        if channels == 1:
            x_hat = x_hat.mean(dim=2)
        return x_hat.clamp(0, 1).mul(255).round().byte().cpu().numpy()


def _tiles(header):
    """Areas of the tiles in reading order, in latents."""
    for i in range(header.tiles):
        top, left, rows, columns = header.tile_latents(i)
        yield windows.Area(top, left, top + rows, left + columns)


def _rows(tiles):
    """(number, area) in reading order -> lists of those that stand side by side."""
    return [list(row) for _, row in itertools.groupby(tiles, key=lambda tile: tile[1].top)]
