"""The codec: an image in, the bytes of a .gic file out, and back."""

import logging

import numpy as np
import torch
import torch.nn.functional as F

from ganlib import bitstream, images
from ganlib.bitstream import Bitstream, BitstreamError, Header
from ganlib.coder import CorruptSymbols, LatentCoder
from ganlib.config import QUALITY_MAX, STRIDE

log = logging.getLogger(__name__)

QUALITY_STEP = 0.01  # the header's unit
TARGET_TOLERANCE = 0.01  # search for a size ends once the file fills 99 % of it
# Either direction holds about 100 bytes a pixel: this keeps it near 4 GB. Raise Codec.max_pixels to go beyond.
MAX_PIXELS = 40_000_000


class TargetSizeError(ValueError):
    """No quality makes the file as small as asked."""


class Codec:
    """Compress and decompress images with one trained model.

    Args:
        model: CompressionModel, trained.
        tables: {"y", "z"}: integer frequencies for the range coder, as stored with the weights.
        fingerprint: 8 bytes that name the weights in each file; a decoder with others refuses it.
        device: where g_a and g_s run; "cpu" or "cuda".
    """

    def __init__(self, model, tables, fingerprint, device="cpu"):
        self.model = model.eval().to(device=device, memory_format=torch.channels_last)
        self.coder = LatentCoder(self.model.entropy, tables)
        self.fingerprint = fingerprint
        self.device = torch.device(device)
        self.max_pixels = MAX_PIXELS

    @torch.inference_mode()
    def compress(self, image, quality=50.0, *, target_bytes=None, target_bpp=None, convert=False, metadata=True):
        """Compress an image to the bytes of a .gic file.

        Args:
            image: PIL.Image, HxWx3 or HxW uint8 array, or a path.
            quality: 0 (smallest) to 100 (best), in steps of 0.01.
            target_bytes, target_bpp: instead of quality, the largest size of the whole file, in bytes or in bits
                per pixel; it is met from below.
            convert: see ganlib.images.load.
            metadata: keep ICC profile and EXIF.

        Returns:
            bytes.

        Raises:
            ImageError: the image cannot be coded as it is.
            TargetSizeError: even quality 0 is larger than the target.
        """
        picture = images.load(image, convert)
        height, width = picture.pixels.shape[:2]
        if height * width > self.max_pixels:
            raise images.ImageError(
                f"{width}x{height} is {height * width:,} pixels, more than codec.max_pixels={self.max_pixels:,}: "
                "raise it where there is memory (about 100 bytes a pixel)"
            )
        y = self._analyse(picture.pixels)

        def encode(quality):
            return self._encode(picture, y, quality, metadata)

        if target_bytes is not None and target_bpp is not None:
            raise ValueError("give target_bytes or target_bpp, not both")
        if target_bpp is not None:
            target_bytes = int(target_bpp * height * width / 8)
        if target_bytes is not None:
            return self._search(encode, target_bytes)
        if not 0 <= quality <= QUALITY_MAX:
            raise ValueError(f"quality={quality} must be from 0 to 100")
        return encode(round(quality / QUALITY_STEP))

    @torch.inference_mode()
    def decompress(self, data, realism=0.0):
        """Decompress the bytes of a .gic file.

        Args:
            data: bytes of the file.
            realism: 0 (most faithful) to 1 (most natural); chosen here, whatever the file.

        Returns:
            PIL.Image, RGB or L, of the size that was compressed, with its ICC profile and EXIF in .info.

        Raises:
            BitstreamError: the file is damaged, not a .gic file, or made with other weights.
        """
        if not 0 <= realism <= 1:
            raise ValueError(f"realism={realism} must be from 0 to 1")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"give the bytes of a .gic file (Path.read_bytes()), not {type(data).__name__}")
        stream = bitstream.read(bytes(data))
        y_hat = self._decode_latents(stream)
        return images.to_pil(self._synthesize(y_hat, stream.header, realism), stream.icc, stream.exif)

    def _analyse(self, pixels):
        """H,W,3 or H,W uint8 -> y: C,h,w on the device, before the gain."""
        x = torch.tensor(images.as_rgb(pixels), device=self.device).permute(2, 0, 1)[None].float() / 255
        missing = [-n % STRIDE for n in x.shape[2:]]
        return self.model.g_a(F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate"))[0]

    def _encode(self, picture, y, hundredths, metadata):
        quality = hundredths * QUALITY_STEP
        height, width = picture.pixels.shape[:2]
        header = Header(
            width=width,
            height=height,
            channels=3 if picture.pixels.ndim == 3 else 1,
            quality=quality,
            model=self.fingerprint,
        )
        steps = y * self.model.gain(torch.tensor([quality], device=self.device))[0]
        tiles = []
        for index in range(header.grid[0] * header.grid[1]):
            top, left, rows, columns = header.tile_latents(index)
            tile, _ = self.coder.encode(steps[:, top : top + rows, left : left + columns], quality)
            tiles.append(tile)
        icc, exif = (picture.icc, picture.exif) if metadata else (None, None)
        return bitstream.write(Bitstream(header, tiles, icc, exif))

    @staticmethod
    def _search(encode, target):
        """The largest file of at most `target` bytes: bisection over the 10,001 qualities, y computed once."""
        low, high = 0, round(QUALITY_MAX / QUALITY_STEP)
        best = encode(low)
        if len(best) > target:
            raise TargetSizeError(
                f"{target} bytes are too few: this image takes {len(best)} at quality 0. Ask for more, make the "
                "image smaller, or leave out its metadata"
            )
        largest = encode(high)
        if len(largest) <= target:
            log.warning("quality 100 takes %d of the %d bytes allowed", len(largest), target)
            return largest
        while high - low > 1 and len(best) < (1 - TARGET_TOLERANCE) * target:
            middle = (low + high) // 2
            data = encode(middle)
            if len(data) <= target:
                low, best = middle, data
            else:
                high = middle
        return best

    def _decode_latents(self, stream):
        header = stream.header
        if header.model != self.fingerprint:
            raise BitstreamError(
                f"made with the weights {header.model.hex()}; these are {self.fingerprint.hex()}. "
                "Decode it with the weights that it was made with"
            )
        if header.width * header.height > self.max_pixels:
            raise BitstreamError(
                f"header asks for {header.width}x{header.height} pixels, more than "
                f"codec.max_pixels={self.max_pixels:,}: raise it if you trust the file"
            )
        rows, columns = -(-header.height // STRIDE), -(-header.width // STRIDE)
        y_hat = torch.empty(self.model.config.latent_channels, rows, columns, device=self.device)
        for index, tile in enumerate(stream.tiles):
            top, left, height, width = header.tile_latents(index)
            try:
                decoded = self.coder.decode(tile, height, width, header.quality, self.device)
            except CorruptSymbols as error:
                raise BitstreamError(f"tile {index} is damaged: {error}") from error
            y_hat[:, top : top + height, left : left + width] = decoded
        return y_hat

    def _synthesize(self, y_hat, header, realism):
        quality = torch.tensor([header.quality], device=self.device)
        decoded = (y_hat[None] * self.model.inverse_gain(quality)).contiguous(memory_format=torch.channels_last)
        x_hat = self.model.g_s(decoded, quality, torch.tensor([float(realism)], device=self.device))
        x_hat = x_hat[0, :, : header.height, : header.width]
        if header.channels == 1:
            x_hat = x_hat.mean(dim=0, keepdim=True)
        pixels = (x_hat.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(pixels[:, :, 0] if header.channels == 1 else pixels)
