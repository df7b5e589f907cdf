"""The codec of the recurrent models: layers of bits, of which the first few already give a picture."""

import itertools
import logging
import warnings

import numpy as np
import torch
import torch.nn.functional as F

from ganlib.cited import recurrent_file
from ganlib.cited.bit_coder import PlaneCoder
from ganlib.cited.recurrent_file import Layer, RecurrentIndex
from ganlib.cited.transform_codec import float32_only
from ganlib.codec import arguments, image_io
from ganlib.codec.arguments import DEFAULT_MAX_PIXELS
from ganlib.codec.codec import WINDOW, Codec
from ganlib.codec.geometry import Area
from ganlib.codec.header import MAX_QUALITY, BitstreamError, Header, tile_limits
from ganlib.codec.large_images import Strips
from ganlib.codec.pixel_tensors import to_pixels, to_tensor
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.codec.salvage import DamageWarning, in_words
from ganlib.config import STRIDE

log = logging.getLogger(__name__)


class RecurrentCodec(Codec):
    """Codec of toderici.py and islam.py. Quality sets the number of passes, evenly from 1 to `iterations`.

    Tiles of 1024x1024 pixels are coded one by one: in larger pictures a seam may show between them at few passes.
    Realism and window have no effect. The beginning of a file can be decoded too: all its complete passes are used.
    """

    def __init__(self, weights, device="cpu", precision="no"):
        self.model = weights.model.eval().to(device=device)
        self.name, self.fingerprint = weights.name, weights.fingerprint
        self.device, self.precision = torch.device(device), float32_only(precision)
        self.max_pixels, self.window = DEFAULT_MAX_PIXELS, WINDOW

    def passes(self, quality):
        """Passes of a file at a quality in hundredths."""
        return 1 + round(quality / MAX_QUALITY * (self.model.config.iterations - 1))

    def prefixes(self, data):
        """Bytes of a file -> the file cut off after its first pass, after its second, ..."""
        return [data[:end] for end in self._read(data, salvage=False).ends]

    def _encoder(self, pixels, channels, metadata):
        coded = []  # for each pass, a list of Layer for each tile

        def encode(hundredths):
            height, width = pixels.shape[:2]
            header = Header(width, height, channels, hundredths, self.fingerprint)
            passes = self.passes(hundredths)
            if len(coded) < passes:
                tiles = (self._encode_tile(pixels, header.tile_area(i), passes) for i in range(header.tiles))
                coded[:] = map(list, zip(*tiles))
            return recurrent_file.write(header, coded[:passes], metadata)

        return encode

    @torch.inference_mode()
    def _encode_tile(self, pixels, area, passes):
        """Layer of each pass: coded, or plain where that is shorter."""
        x = to_tensor(image_io.as_rgb(pixels[area.scaled(STRIDE).slices]), self.device)
        missing = [-n % STRIDE for n in x.shape[2:]]
        x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        coder = PlaneCoder(self.model.config.bits, *area.shape)
        layers = []
        for signs, _ in self.model.encode(x, passes):
            bits = (signs[0] > 0).cpu().numpy()
            coded, plain = coder.encode(bits), np.packbits(bits).tobytes()
            if not layers:  # a TILE; padding zeros, which a reader ignores
                layers.append(Layer(False, coded.ljust(tile_limits(area)[0], b"\0")))
            else:
                layers.append(Layer(True, plain) if len(plain) < len(coded) else Layer(False, coded))
        return layers

    def end_of_whole(self, data):
        return self._read(data, salvage=False).end

    def _read(self, data, salvage):
        return RecurrentIndex(data, self.passes, salvage)

    def _strips(self, index, realism, box, salvage):
        arguments.number("realism", realism, 0, 1)
        trained = self._trained_as(index.header)
        if not isinstance(trained, RecurrentCodec):
            return trained._strips(trained._read(index.data, salvage), realism, box, salvage)
        if not isinstance(index, RecurrentIndex):  # a damaged file whose header was not at its place
            index = trained._read(index.data, salvage)
        header, (x0, y0, x1, y1) = index.header, box
        wanted = Area(y0, x0, y1, x1)  # in pixels, as all areas here
        tiles = [(i, header.tile_area(i).scaled(STRIDE)) for i in header.tiles_of(Area.of_region(*box))]
        there = {i: len(index.layers[i]) for i, _ in tiles}
        if salvage:
            self._tell_damage(header, index.passes, there)
        elif min(there.values()) < index.passes:
            log.warning("of %d passes %d are there: the picture is coarser", index.passes, min(there.values()))
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for i, area in tiles:
            mask[area.common(wanted).seen_from(wanted).slices] = there[i] == index.passes

        def bands():
            for _, row in itertools.groupby(tiles, key=lambda tile: tile[1].top):
                parts = []
                for i, area in row:
                    pixels = trained._decode_tile(index.layers[i], area, header.channels, salvage)
                    parts.append(pixels[area.common(wanted).seen_from(area).slices])
                yield np.concatenate(parts, axis=1)

        metadata = {"icc": index.icc, "exif": index.exif, "dpi": index.dpi}
        return Strips(x1 - x0, y1 - y0, header.channels, bands(), **metadata, decoded_mask=mask if salvage else None)

    @staticmethod
    def _tell_damage(header, passes, there):
        """there: {number of a tile: how many of its passes are whole}."""
        missing = [i for i, count in there.items() if count == 0]
        coarser = [i for i, count in there.items() if 0 < count < passes]
        problems = [
            f"these are {what}: {in_words(n)}" for what, n in (("missing", missing), ("coarser", coarser)) if n
        ]
        if problems:
            warnings.warn(f"of {header.tiles} tiles {'; '.join(problems)}", DamageWarning, stacklevel=4)

    @torch.inference_mode()
    def _decode_tile(self, layers, area, channels, salvage):
        """Layers of passes -> 16h,16w,3 or 16h,16w uint8; gray where there are none."""
        shape = self.model.config.bits, area.shape[0] // STRIDE, area.shape[1] // STRIDE
        coder, planes = PlaneCoder(*shape), []
        try:
            for layer in layers:
                bits = coder.decode(layer.data, layer.plain)
                planes.append(torch.from_numpy(bits).to(self.device)[None] * 2.0 - 1)
        except CorruptSymbols as error:
            if not salvage:
                raise BitstreamError(f"pass {len(planes) + 1} is damaged: {error}") from error
        if not planes:
            return np.full((*area.shape, 3)[: 3 if channels == 3 else 2], 128, np.uint8)
        x_hat = self.model.decode(planes)[0].permute(1, 2, 0)
        if channels == 1:
            x_hat = x_hat.mean(dim=2)
        return to_pixels(x_hat)
