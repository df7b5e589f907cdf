"""Latents to bytes and back: the entropy model at work.

    y --round(y - mean)--> symbols --sorted by table--> range coder --> bytes of one tile

Encoder and decoder run the same loop over slices and colours; the encoder looks symbols up, the decoder reads them.
"""

import constriction
import numpy as np
import torch
import torch.nn.functional as F

from ganlib.codec.integer_inference import ExactContexts, ExactNetwork, Grid, short_factors
from ganlib.model.entropy_model import COLOURS, CONTEXT_SCALE, SCALES, Y_LIMIT, Z_LIMIT, context_input

HYPER_FACTOR = 4  # latents y along one side of a hyper-latent z


class CorruptSymbols(ValueError):
    """The bytes of a tile are not what the encoder wrote."""


def _models(table):
    """Rows of integer frequencies -> constriction models that use exactly these frequencies.

    constriction gives every symbol 1 of 2^24 and shares the rest in proportion to the numbers it is given.
    Given frequency - 1, which sum to that rest exactly, its factor of proportion is 1.0 and it rounds nothing.
    """
    weights = table.cpu().numpy().astype(np.float64) - 1
    return [constriction.stream.model.Categorical(row, perfect=False) for row in weights]


class _Writer:
    """Range encoder with the reader's face."""

    def __init__(self):
        self.coder = constriction.stream.queue.RangeEncoder()

    def run(self, model, count, symbols):
        self.coder.encode(symbols, model)
        return symbols

    def bytes(self):
        return self.coder.get_compressed().astype("<u4").tobytes()


class _Reader:
    def __init__(self, data):
        if len(data) % 4:
            raise CorruptSymbols(f"{len(data)} bytes are not whole 32-bit words")
        self.coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def run(self, model, count, symbols):
        try:
            return self.coder.decode(model, count)
        except Exception as error:  # the binding raises AssertionError and others for impossible code points
            raise CorruptSymbols("the range coder met a code point that no symbol has") from error

    def finish(self):
        if not self.coder.maybe_exhausted():
            raise CorruptSymbols("bytes are left over after the last symbol")


class LatentCoder:
    """Codes tiles of latents with the exact networks and integer tables of a trained model.

    Args:
        entropy: EntropyModel.
        tables: {"y": SCALES,2*Y_LIMIT+1, "z": channels,2*Z_LIMIT+1} int32 frequencies that sum to 2^24.
    """

    def __init__(self, entropy, tables):
        self.entropy = entropy
        self.h_s = ExactNetwork(entropy.h_s)
        networks = [ExactNetwork(network) for network in entropy.contexts]
        self.contexts = [
            ExactContexts(networks[colour::COLOURS], entropy.features, colour) for colour in range(COLOURS)
        ]
        self.y_models, self.z_models = _models(tables["y"]), _models(tables["z"])

    @torch.inference_mode()
    def encode(self, y, quality):
        """Code one tile.

        Args:
            y: C,h,w float32 latents in quantization steps.
            quality: 0 to 100.

        Returns:
            bytes, and y_hat: C,h,w float32 as the decoder will see it.
        """
        height, width = y.shape[1:]
        quality = torch.tensor([quality], device=y.device)
        # h_a halves twice; repeat the last row and column until it can
        missing = [-n % HYPER_FACTOR for n in (height, width)]
        padded = F.pad(y[None], (0, missing[1], 0, missing[0]), mode="replicate")
        plane = self.entropy.quality_plane(padded, quality)
        z = self.entropy.h_a(torch.cat([padded * CONTEXT_SCALE, plane], dim=1))[0]
        z_hat = z.float().round().clamp(-Z_LIMIT, Z_LIMIT)
        writer = _Writer()
        y_hat = self._code(writer, z_hat.shape, height, width, quality, y.device, z_hat, y)
        return writer.bytes(), y_hat

    @torch.inference_mode()
    def decode(self, data, height, width, quality, device="cpu"):
        """Bytes of one tile -> y_hat: C,h,w float32 in quantization steps.

        Raises:
            CorruptSymbols: these are not bytes that encode() wrote for this size.
        """
        reader = _Reader(data)
        z_shape = (len(self.z_models), *(-(-n // HYPER_FACTOR) for n in (height, width)))
        quality = torch.tensor([quality], device=device)
        y_hat = self._code(reader, z_shape, height, width, quality, device)
        reader.finish()
        return y_hat

    @short_factors()
    def _code(self, coder, z_shape, height, width, quality, device, z_hat=None, y=None):
        """The loop that both directions share: z_hat and y are known when encoding, None when decoding."""
        z_hat = self._code_z(coder, z_shape, z_hat).to(device)
        plane = self.entropy.quality_plane(z_hat[None], quality)[0]
        hyper = self.h_s(torch.cat([z_hat * CONTEXT_SCALE, plane]).permute(1, 2, 0))[:height, :width]
        starts = np.cumsum([0, *self.entropy.slices]).tolist()
        # what the contexts see: features, quality, and the latents that are known by then, zero where they are not
        before = self.entropy.features
        seen = Grid(height, width, before + starts[-1], device=device)
        seen.inside[..., : before - 1], seen.inside[..., before - 1] = hyper, plane.flatten()[0]
        sums = [contexts.begin(seen) for contexts in self.contexts]
        places = [seen.places(colour) for colour in range(COLOURS)]
        y_hat = hyper.new_empty(height * width, starts[-1])
        for i, (low, high) in enumerate(zip(starts, starts[1:])):
            for contexts, begun, (rows, flat) in zip(self.contexts, sums, places):
                # n,c each: positions of one colour in reading order, channels of the slice
                mean, index = contexts.call(i, seen, begun[i]).chunk(2, dim=1)
                index = index.round().clamp(0, SCALES - 1).to(torch.uint8).cpu().numpy().ravel()
                distance = None
                if y is not None:
                    distance = y[low:high].flatten(1).T[flat] - mean
                    distance = distance.round().clamp(-Y_LIMIT, Y_LIMIT).cpu().numpy().ravel()
                symbols = torch.from_numpy(self._code_part(coder, index, distance)).to(mean)
                found = mean + symbols.view_as(mean)
                y_hat[:, low:high].index_copy_(0, flat, found)
                near = context_input(found, self.entropy.knee)
                seen.rows[:, before + low : before + high].index_copy_(0, rows, near)
        return y_hat.T.unflatten(1, (height, width))

    def _code_z(self, coder, shape, z_hat):
        channels, count = shape[0], shape[1] * shape[2]
        known = None if z_hat is None else (z_hat.cpu().numpy().reshape(channels, count) + Z_LIMIT).astype(np.int32)
        rows = [
            coder.run(model, count, None if known is None else np.ascontiguousarray(known[c]))
            for c, model in enumerate(self.z_models)
        ]
        return torch.from_numpy(np.stack(rows).astype(np.float32) - Z_LIMIT).view(shape)

    def _code_part(self, coder, index, distance):
        """Symbols of a part, grouped by table: one call of the coder per table instead of one per symbol.

        Where the index is 0 the symbol is zero by rule and costs nothing.

        Args:
            index: n uint8; distance: n whole numbers where they are known, else None.

        Returns:
            n float32.
        """
        counts = np.bincount(index, minlength=SCALES)
        order = np.argsort(index, kind="stable")[counts[0] :]
        known = None if distance is None else (distance[order] + Y_LIMIT).astype(np.int32)
        ends = np.cumsum(counts[1:])
        groups = [
            coder.run(model, end - begin, None if known is None else known[begin:end])
            for model, begin, end in zip(self.y_models[1:], [0, *ends.tolist()], ends.tolist())
            if end > begin
        ]
        symbols = np.zeros(len(index), np.float32)
        if groups:
            symbols[order] = np.concatenate(groups) - np.float32(Y_LIMIT)
        return symbols
