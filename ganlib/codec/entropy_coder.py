"""Latents to bytes and back, with the entropy model.

    y --round(y - mean)--> symbols --sorted by table--> range coder --> bytes of one tile

Encoder and decoder run the same loop over slices and phases; the encoder computes symbols from y, the decoder reads
them. Latents are h,w,C throughout. Torch settings of the caller have no effect here: types and devices are explicit,
autocast is switched off, and integer inference gives the same bits on any number of threads.
"""

import numpy as np
import torch
import torch.nn.functional as F

from ganlib.codec.geometry import ceil_div
from ganlib.codec.header import least_words
from ganlib.codec.integer_inference import ExactContexts, ExactNetwork, Grid
from ganlib.codec.range_coder import Reader, Writer, exact_model
from ganlib.config import HYPER_STRIDE, STRIDE, autocast
from ganlib.model.entropy_model import CONTEXT_SCALE, SCALES, Y_LIMIT, Z_LIMIT, context_input

HYPER_FACTOR = HYPER_STRIDE // STRIDE  # latents y along one side of a hyper-latent z


def quality_value(hundredths):
    """Quality in hundredths -> what EntropyModel.quality_plane is filled with: 0 to 4 in steps of 1/64.

    hundredths * 16 / 625 is never half-way between two whole numbers, so there is one way to round it.
    """
    return round(hundredths * 16 / 625) / 64


class LatentCoder:
    """Codes tiles of latents with the exact networks and integer tables of a trained model. It can be pickled.

    Args:
        entropy: EntropyModel.
        tables: {"y": SCALES,2*Y_LIMIT+1, "z": channels,2*Z_LIMIT+1} int32 frequencies that sum to 2^24; "z" with a
            hyperprior only.
    """

    def __init__(self, entropy, tables):
        self.entropy, self.tables = entropy, tables
        networks, parts = [ExactNetwork(network) for network in entropy.contexts], len(entropy.phases)
        self.contexts = [
            ExactContexts(networks[k::parts], entropy.features, phase) for k, phase in enumerate(entropy.phases)
        ]
        self.y_models = [exact_model(row) for row in tables["y"].cpu().numpy()]
        if entropy.hyperprior:
            self.h_s = ExactNetwork(entropy.h_s)
            self.z_models = [exact_model(row) for row in tables["z"].cpu().numpy()]

    def __reduce__(self):
        """The range coder's models cannot be pickled: they are made again from the tables."""
        return type(self), (self.entropy, self.tables)

    @staticmethod
    def quality_plane(like, quality):
        """h,w,C -> h,w,1: a quality in hundredths as input of the networks."""
        return torch.full_like(like[..., :1], quality_value(quality))

    def encode(self, y, quality):
        """Code one tile.

        Args:
            y: h,w,C float32 latents in quantization steps.
            quality: in hundredths, 0 to 10000.

        Returns:
            bytes, and y_hat: h,w,C float32 as the decoder will see it.
        """
        with torch.inference_mode(), autocast(y.device, "no"):
            height, width = y.shape[:2]
            z_hat = self._analyse(y, quality) if self.entropy.hyperprior else None
            writer = Writer()
            y_hat = self._code(writer, height, width, quality, y.device, z_hat, y.flatten(0, 1))
            return writer.bytes(least_words(height * width)), y_hat

    def _analyse(self, y, quality):
        """h_a: y of a tile, h,w,C -> z_hat, h/4,w/4,C' rounded up."""
        # h_a halves twice; repeat the last row and column until it can
        missing = [-n % HYPER_FACTOR for n in y.shape[:2]]
        padded = F.pad(y.permute(2, 0, 1)[None], (0, missing[1], 0, missing[0]), mode="replicate")  # 1,C,h',w'
        plane = self.quality_plane(padded[0].permute(1, 2, 0), quality).permute(2, 0, 1)[None]
        z = self.entropy.h_a(torch.cat([padded * CONTEXT_SCALE, plane], dim=1))[0].permute(1, 2, 0)
        return z.float().round().clamp(-Z_LIMIT, Z_LIMIT)

    def decode(self, data, height, width, quality, device="cpu"):
        """Bytes of one tile -> y_hat: h,w,C float32 in quantization steps.

        Raises:
            CorruptSymbols: these are not bytes that encode() wrote for this size.
        """
        with torch.inference_mode(), autocast(device, "no"):
            reader = Reader(data)
            y_hat = self._code(reader, height, width, quality, device)
            reader.finish()
            return y_hat

    def _code(self, coder, height, width, quality, device, z_hat=None, y=None):
        """The loop that both directions share: z_hat and y (h*w,C) are known when encoding, None when decoding."""
        starts = np.cumsum([0, *self.entropy.slices]).tolist()
        # input of the contexts: features, quality, and the latents that are already known, zero where they are not
        before = self.entropy.features
        known = Grid(height, width, before + starts[-1], device=device)
        if self.entropy.hyperprior:
            z_hat = self._code_z(coder, height, width, z_hat).to(device)
            plane = self.quality_plane(z_hat, quality)
            hyper = self.h_s(torch.cat([z_hat * CONTEXT_SCALE, plane], dim=2))[:height, :width]
            known.inside[..., : before - 1] = hyper
        known.inside[..., before - 1 : before] = self.quality_plane(known.inside, quality)
        sums = [contexts.begin(known) for contexts in self.contexts]
        places = [known.places(phase) for phase in self.entropy.phases]
        y_hat = known.rows.new_empty(height * width, starts[-1])
        for i, (low, high) in enumerate(zip(starts, starts[1:])):
            for contexts, begun, (rows, flat) in zip(self.contexts, sums, places):
                # n,c each: positions of one phase in reading order, channels of the slice
                mean, index = contexts.call(i, known, begun[i]).chunk(2, dim=1)
                index = index.round().clamp(0, SCALES - 1).to(torch.uint8).cpu().numpy().ravel()
                distance = None
                if y is not None:
                    distance = y[:, low:high].index_select(0, flat) - mean
                    distance = distance.round().clamp(-Y_LIMIT, Y_LIMIT).cpu().numpy().ravel()
                symbols = torch.from_numpy(self._code_part(coder, index, distance)).to(mean)
                found = mean + symbols.view_as(mean)
                y_hat[:, low:high].index_copy_(0, flat, found)
                near = context_input(found, self.entropy.knee)
                known.rows[:, before + low : before + high].index_copy_(0, rows, near)
        return y_hat.view(height, width, -1)

    def _code_z(self, coder, height, width, z_hat):
        """z_hat of h,w latents, channel by channel: h/4,w/4,C float32, rounded up."""
        height, width = ceil_div(height, HYPER_FACTOR), ceil_div(width, HYPER_FACTOR)
        known = None if z_hat is None else (z_hat.flatten(0, 1).T.cpu().numpy() + Z_LIMIT).astype(np.int32, order="C")
        rows = [
            coder.run(model, height * width if known is None else known[c]) for c, model in enumerate(self.z_models)
        ]
        symbols = np.stack(rows, axis=1).astype(np.float32) - np.float32(Z_LIMIT)
        return torch.from_numpy(symbols).view(height, width, -1)

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
            coder.run(model, end - begin if known is None else known[begin:end])
            for model, begin, end in zip(self.y_models[1:], [0, *ends.tolist()], ends.tolist())
            if end > begin
        ]
        symbols = np.zeros(len(index), np.float32)
        if groups:
            symbols[order] = np.concatenate(groups) - np.float32(Y_LIMIT)
        return symbols
