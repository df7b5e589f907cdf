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


def clip(x):
    return np.clip(x, -1024 * 256, 1024 * 256)


class Decoder:
    """Numbers are int64 in units of 2^-8 (activations) and 2^-12 (weights)."""

    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.config = json.loads(file.metadata()["config"])
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}

    def layer(self, x, name):
        weight, bias = (
            np.rint(self.tensors[f"{name}.{part}"].astype(np.float64) * 4096).astype(np.int64)
            for part in ("weight", "bias")
        )
        k = weight.shape[2]
        _, h, w = x.shape
        padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
        out = np.zeros((len(weight), h, w), np.int64) + bias[:, None, None] * 256
        for i in range(k):
            for j in range(k):
                out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
        return clip(half_even(out, 12))

    @staticmethod
    def leaky(x):
        return np.where(x < 0, half_even(x, 3), x)

    @staticmethod
    def shuffle(x):
        c, h, w = x.shape
        return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)

    def decode(self, tile, h, w, hundredths):
        coder = RangeDecoder(tile)
        tables = {key: self.tensors[f"tables.{key}"].tolist() for key in ("y", "z")}
        zh, zw = math.ceil(h / 4), math.ceil(w / 4)
        z = np.array([[coder.read(row) - 63 for _ in range(zh * zw)] for row in tables["z"]], np.int64)
        z = z.reshape(-1, zh, zw) * 256
        q = np.rint(np.float32(hundredths / 100) * np.float32(2.56)).astype(np.int64)  # in units of 1/256

        def plane(like):
            return np.full((1, *like.shape[1:]), q)

        x = clip(np.concatenate([z, plane(z)]))
        x = self.leaky(self.shuffle(self.layer(x, "entropy.h_s.0")))
        x = self.leaky(self.shuffle(self.layer(x, "entropy.h_s.3")))
        x = self.leaky(self.layer(x, "entropy.h_s.6"))
        hyper = x[:, :h, :w]

        y_hat = []
        for i, channels in enumerate(self.config["slices"]):
            before = [clip(half_even(part, 4)) for part in y_hat]
            x = np.concatenate([hyper, plane(hyper), *before])
            for k in (0, 2):
                x = self.leaky(self.layer(x, f"entropy.contexts.{i}.{k}"))
            x = self.layer(x, f"entropy.contexts.{i}.4")
            mean, index = x[:channels], np.clip(half_even(x[channels:], 8), 0, 63)
            symbols = np.zeros(index.size, np.int64)
            order = np.argsort(index.ravel(), kind="stable")
            for position in order:
                if index.flat[position] > 0:
                    symbols[position] = coder.read(tables["y"][index.flat[position]]) - 255
            y_hat.append(mean + symbols.reshape(mean.shape) * 256)
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
    assert (version, channels, width, height, hundredths, tile) == (1, 3, 81, 95, 6000, 1024)
    ours = Decoder(TINY).decode(payloads[1][1][4:], math.ceil(height / 16), math.ceil(width / 16), hundredths)
    theirs = latents(codec, data).transpose(2, 0, 1) * 256
    assert np.array_equal(ours, theirs)
