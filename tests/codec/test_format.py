"""FORMAT.md is enough: a second decoder, written from that page alone, reads the golden file.

Plain Python integers and NumPy; nothing of ganlib but what it is compared with.
"""

import json
import math
import struct
import zlib

import numpy as np
from conftest import FIXTURES, TINY, latents
from safetensors import safe_open


class RangeDecoder:
    def __init__(self, data):
        self.words = list(struct.unpack(f"<{len(data) // 4}I", data))
        self.lower, self.range = 0, 2**64 - 1
        self.point = self.next() << 32 | self.next()

    def next(self):
        return self.words.pop(0) if self.words else 0

    def read(self, frequencies):
        scale = self.range >> 24
        quantile = ((self.point - self.lower) % 2**64) // scale
        assert quantile < 2**24
        symbol, before = 0, 0
        while before + frequencies[symbol] <= quantile:
            before += frequencies[symbol]
            symbol += 1
        self.lower = (self.lower + scale * before) % 2**64
        self.range = scale * frequencies[symbol]
        if self.range < 2**32:
            self.lower = self.lower << 32 & (2**64 - 1)
            self.range = self.range << 32 & (2**64 - 1)
            self.point = (self.point << 32 | self.next()) & (2**64 - 1)
        return symbol


def half_even(numerator, bits):
    low = numerator >> bits
    rest, half = numerator & ((1 << bits) - 1), 1 << (bits - 1)
    return low + ((rest > half) | ((rest == half) & (low & 1 == 1)))


SIXTEENTH = 4  # bits


class Decoder:
    """Activations are int64 in units of 2^-6, weights in units of 2^-24, which float16 is made of."""

    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.config = json.loads(file.metadata()["config"])
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}

    def layer(self, x, name, limit=4, leaky=True):
        weight, bias = (
            np.rint(self.tensors[f"{name}.{part}"].astype(np.float64) * 2**24).astype(np.int64)
            for part in ("weight", "bias")
        )
        k = weight.shape[2]
        _, h, w = x.shape
        padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
        out = np.zeros((len(weight), h, w), np.int64) + bias[:, None, None] * 64
        for i in range(k):
            for j in range(k):
                out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
        if leaky:
            out = np.where(out < 0, out, 8 * out)  # in units of 2^-33
        return np.clip(half_even(out, 27 if leaky else 24), -limit * 64, limit * 64)

    @staticmethod
    def shuffle(x):
        c, h, w = x.shape
        return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)

    def decode(self, tile, h, w, hundredths):
        coder = RangeDecoder(tile)
        tables = {key: self.tensors[f"tables.{key}"].tolist() for key in ("y", "z")}
        zh, zw = math.ceil(h / 4), math.ceil(w / 4)
        z = np.array([[coder.read(row) - 63 for _ in range(zh * zw)] for row in tables["z"]], np.int64)
        z = z.reshape(-1, zh, zw) * 64 // 16
        q = np.rint(np.float32(hundredths / 100) * np.float32(2.56)).astype(np.int64)  # in units of 1/64

        def plane(like):
            return np.full((1, *like.shape[1:]), q)

        x = np.concatenate([z, plane(z)])
        x = self.shuffle(self.layer(x, "entropy.h_s.0"))
        x = self.shuffle(self.layer(x, "entropy.h_s.3"))
        hyper = self.layer(x, "entropy.h_s.6")[:, :h, :w]

        known, y_hat = [hyper, plane(hyper)], []
        for i, channels in enumerate(self.config["slices"]):
            part = np.zeros((channels, h, w), np.int64)  # zero where it is not known yet
            for colour in (0, 1):
                own = [np.clip(half_even(part, SIXTEENTH), -256, 256)] * colour
                x = np.concatenate([*known, *own])
                name = f"entropy.contexts.{2 * i + colour}"
                x = self.layer(self.layer(x, f"{name}.0"), f"{name}.2")
                x = self.layer(x, f"{name}.4", limit=512, leaky=False)
                mean, index = x[:channels], np.clip(half_even(x[channels:], 6), 0, 63)
                places = [
                    (c, row, column)
                    for row in range(h) for column in range(w) if (row + column) % 2 == colour
                    for c in range(channels)
                ]  # fmt: skip
                for place in sorted(places, key=lambda place: index[place]):  # stable
                    symbol = coder.read(tables["y"][index[place]]) - 255 if index[place] > 0 else 0
                    part[place] = mean[place] + symbol * 64
            y_hat.append(part)
            known.append(np.clip(half_even(part, SIXTEENTH), -256, 256))
        assert not coder.words
        return np.concatenate(y_hat)


def test_a_second_decoder_reads_the_golden_file(codec):
    data = (FIXTURES / "golden.gic").read_bytes()
    assert data[:8] == b"\x89GIC\r\n\x1a\n"
    at, payloads = 8, []
    while at < len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        payload = data[at + 8 : at + 8 + length]
        assert zlib.crc32(data[at : at + 8 + length]) == int.from_bytes(
            data[at + 8 + length : at + 12 + length], "big"
        )
        payloads.append((kind, payload))
        at += 12 + length
    assert [kind for kind, _ in payloads] == [b"HEAD", b"TILE"]
    version, channels, width, height, hundredths, tile, _ = struct.unpack(">BBIIHH8s", payloads[0][1])
    assert (version, channels, width, height, hundredths, tile) == (2, 3, 81, 95, 6000, 1024)
    ours = Decoder(TINY).decode(payloads[1][1][4:], math.ceil(height / 16), math.ceil(width / 16), hundredths)
    theirs = latents(codec, data).transpose(2, 0, 1) * 64
    assert np.array_equal(ours, theirs)
