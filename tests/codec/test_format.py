"""FORMAT.md is enough: a second decoder, written from that page alone, reads the golden file and files of any knee.

Plain Python numbers and NumPy; nothing of ganlib but what it is compared with.
"""

import json
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import FIXTURES, TINY, latents
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import ganlib
from ganlib.codec.range_coder import CorruptSymbols, Reader, exact_model
from ganlib.config import ModelConfig, preset
from ganlib.model.compression_model import CompressionModel
from ganlib.weights import save_weights


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

    def ends_well(self):
        nothing_read = self.range == 2**64 - 1
        return not any(self.words) and (nothing_read or (self.point - self.lower) % 2**64 < 2**33 - 1)


class RangeEncoder:
    """One whole number for all symbols; a word more of it for each that the decoder will shift in."""

    def __init__(self):
        self.lower, self.range, self.words = 0, 2**64 - 1, 2

    def write(self, symbol, frequencies):
        scale = self.range >> 24
        self.lower += scale * sum(frequencies[:symbol])
        self.range = scale * frequencies[symbol]
        if self.range < 2**32:
            self.lower, self.range, self.words = self.lower << 32, self.range << 32, self.words + 1

    def bytes(self, beyond):
        """Words of the number that lies so far beyond `lower`."""
        number = (self.lower + beyond).to_bytes(4 * self.words, "big")
        return np.frombuffer(number, ">u4").astype("<u4").tobytes()


def half_even(numerator, bits):
    low = numerator >> bits
    rest, half = numerator & ((1 << bits) - 1), 1 << (bits - 1)
    return low + ((rest > half) | ((rest == half) & (low & 1 == 1)))


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

    def near(self, y_hat):
        """In units of 2^-6; c / 16 + (y_hat - c) / 64 is (4 c + y_hat - c) / 64."""
        knee = int(self.config.get("context_knee", 64)) * 64
        c = np.clip(y_hat, -knee, knee)
        return np.clip(half_even(3 * c + y_hat, 6), -256, 256)

    @staticmethod
    def shuffle(x, r=2):
        c, h, w = x.shape
        return x.reshape(c // r**2, r, r, h, w).transpose(0, 3, 1, 4, 2).reshape(c // r**2, r * h, r * w)

    def decode(self, tile, h, w, hundredths):
        coder = RangeDecoder(tile)
        rows = self.tensors["tables.y"].tolist()
        zh, zw = math.ceil(h / 4), math.ceil(w / 4)
        q = (2 * hundredths * 16 + 625) // (2 * 625)  # in units of 1/64
        known, y_hat = [np.full((1, h, w), q)], []
        if self.config.get("hyperprior", True):
            symbols = [[coder.read(row) - 63 for _ in range(zh * zw)] for row in self.tensors["tables.z"].tolist()]
            z = np.array(symbols, np.int64).reshape(-1, zh, zw) * 64 // 16
            x = np.concatenate([z, np.full((1, zh, zw), q)])
            x = self.shuffle(self.layer(x, "entropy.h_s.0"))
            x = self.shuffle(self.layer(x, "entropy.h_s.3"))
            known = [self.layer(x, "entropy.h_s.6")[:, :h, :w], *known]
        phases = 2 if self.config.get("checkerboard", True) else 1
        for i, channels in enumerate(self.config["slices"]):
            part = np.zeros((channels, h, w), np.int64)  # zero where it is not known yet
            for phase in range(phases):
                own = [self.near(part)] * phase
                x = np.concatenate([*known, *own])
                name = f"entropy.contexts.{phases * i + phase}"
                x = self.layer(self.layer(x, f"{name}.0"), f"{name}.2")
                x = self.layer(x, f"{name}.4", limit=512, leaky=False)
                mean, index = x[:channels], np.clip(half_even(x[channels:], 6), 0, 63)
                places = [
                    (c, row, column)
                    for row in range(h) for column in range(w) if (row + column) % phases == phase
                    for c in range(channels)
                ]  # fmt: skip
                for place in sorted(places, key=lambda place: index[place]):  # stable
                    symbol = coder.read(rows[index[place]]) - 255 if index[place] > 0 else 0
                    part[place] = mean[place] + symbol * 64
            y_hat.append(part)
            known.append(self.near(part))
        assert coder.ends_well()
        return np.concatenate(y_hat)

    # pixels: float64 throughout

    def parameters(self, name):
        return (self.tensors[f"g_s.{name}.{part}"].astype(np.float64) for part in ("weight", "bias"))

    def conv(self, x, name):
        weight, bias = self.parameters(name)
        k = weight.shape[2]
        _, h, w = x.shape
        padded = np.pad(x, [(0, 0), (k // 2, k // 2), (k // 2, k // 2)])
        shifted = [
            np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
            for i in range(k) for j in range(k)
        ]  # fmt: skip
        return sum(shifted) + bias[:, None, None]

    def matrix(self, x, name):
        weight, bias = self.parameters(name)
        return weight @ x + bias

    def pixels(self, y_hat, hundredths, realism):
        """Latents C,h,w -> 16h,16w,3 float64, about 0 to 255."""
        table, quality = self.tensors["log_inverse_gain"].astype(np.float64), hundredths / 100
        points = np.linspace(0, 100, len(table))
        y = y_hat * np.exp([np.interp(quality, points, column) for column in table.T])[:, None, None]
        numbers = []
        for t in (quality / 100, realism):
            angles = [math.pi * 2**k * t for k in range(4)]
            numbers += [t, *map(math.sin, angles), *map(math.cos, angles)]
        condition = self.matrix(leaky(self.matrix(np.array(numbers), "condition.0")), "condition.2")
        h, number = self.conv(y, "enter"), 0
        widths, blocks = self.config["generator_widths"][::-1], self.config["generator_blocks"][::-1]
        for i, depth in enumerate(blocks):
            for _ in range(depth):
                scale, shift = np.split(self.matrix(condition, f"stages.{number}.film")[:, None, None], 2)
                a = self.conv(leaky(h), f"stages.{number}.conv1") * (1 + scale) + shift
                h, number = h + self.conv(leaky(a), f"stages.{number}.conv2"), number + 1
            if i + 1 < len(widths):
                h, number = self.shuffle(self.conv(h, f"stages.{number}")), number + 2
        texture = self.shuffle(self.conv(leaky(h), "leave.1"), 16 // 2 ** (len(widths) - 1))
        patches = np.einsum("chw,ckij->khiwj", y, self.tensors["g_s.shortcut.weight"].astype(np.float64))
        return 255 * (0.5 + texture + patches.reshape(texture.shape)).transpose(1, 2, 0)


def leaky(x):
    return np.where(x < 0, x / 8, x)


def read(data):
    """Fields of HEAD, and the payloads of all chunks by type; checks signature and checksums."""
    assert data[:8] == b"\x89GIC\r\n\x1a\n"
    at, head, payloads = 8, b"", {}
    while at < len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        payload, checksum = data[at + 8 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        assert zlib.crc32(head + data[at : at + 8 + length]) == int.from_bytes(checksum, "big")
        head = head or payload
        payloads.setdefault(kind, []).append(payload)
        at += 12 + length
    return struct.unpack(">BBIIHH8sI", head), payloads


def test_a_second_decoder_reads_the_golden_file(codec):
    data = (FIXTURES / "golden.gic").read_bytes()
    fields, payloads = read(data)
    assert list(payloads) == [b"HEAD", b"TILE"]
    version, channels, width, height, hundredths, tile, fingerprint, content = fields
    assert (version, channels, width, height, hundredths, tile) == (3, 3, 81, 95, 6000, 1024)
    assert fingerprint == codec.fingerprint and content == zlib.crc32(payloads[b"TILE"][0][4:])
    ours = Decoder(TINY).decode(payloads[b"TILE"][0][4:], math.ceil(height / 16), math.ceil(width / 16), hundredths)
    theirs = latents(codec, data).transpose(2, 0, 1) * 64
    assert np.array_equal(ours, theirs)
    for realism in (0, 0.37, 1):
        pixels = Decoder(TINY).pixels(ours / 64, hundredths, realism)[:height, :width]
        decoded = np.asarray(codec.decompress(data, realism=realism), dtype=np.float64)
        assert np.abs(decoded - pixels.clip(0, 255)).max() < 0.51  # rounded, and computed in float32


@pytest.mark.parametrize(
    ("knee", "quality", "parts"),
    [(4, 37.21, {}), (32, 99.37, {}), (4, 90, {"hyperprior": False}), (4, 90, {"checkerboard": False})],
    ids=str,
)
def test_a_second_decoder_reads_files_of_any_knee_and_parts(photo, tmp_path, knee, quality, parts):
    """Weights that nobody has trained, so that latents are far from what is predicted, and beyond the knee."""
    torch.manual_seed(knee)
    model = CompressionModel(ModelConfig(**(vars(preset("tiny")) | {"context_knee": float(knee)} | parts)))
    with torch.no_grad():
        for name, parameter in model.entropy.named_parameters():
            if name.startswith(("h_s", "contexts")):
                parameter += 0.05 * torch.randn_like(parameter)
    save_weights(model, tmp_path / "a.safetensors")
    codec = ganlib.load_codec(tmp_path / "a.safetensors")
    data = codec.compress(photo[100:150, 180:230], quality=quality)
    fields, payloads = read(data)
    theirs = latents(codec, data).transpose(2, 0, 1)
    assert (np.abs(theirs) > knee).mean() > 0.001
    ours = Decoder(tmp_path / "a.safetensors").decode(payloads[b"TILE"][0][4:], 4, 4, fields[4])
    assert np.array_equal(ours, theirs * 64)


@given(
    st.lists(st.integers(1, 2**20), min_size=2, max_size=5),
    st.lists(st.integers(0, 4), max_size=30),
    st.sampled_from([0, 1, 2**33 - 2, 2**33 - 1, 2**40]) | st.integers(0, 2**64),
)
def test_words_end_as_the_page_says(weights, symbols, beyond):
    """A second encoder's words are taken, and those that it must not write are refused."""
    frequencies = [1 + n * (2**24 - len(weights)) // sum(weights) for n in weights]
    frequencies[0] += 2**24 - sum(frequencies)
    symbols = [n % len(weights) for n in symbols]
    encoder = RangeEncoder()
    for symbol in symbols:
        encoder.write(symbol, frequencies)
    data = encoder.bytes(beyond % encoder.range)
    decoder, reader, model = RangeDecoder(data), Reader(data), exact_model(frequencies)
    assert [decoder.read(frequencies) for _ in symbols] == symbols == reader.run(model, len(symbols)).tolist()
    assert decoder.ends_well() == (not symbols or beyond % encoder.range < 2**33 - 1)
    if decoder.ends_well():
        reader.finish()
    else:
        with pytest.raises(CorruptSymbols, match="left over"):
            reader.finish()


def test_metadata_lie_where_the_page_says(codec, photo):
    picture = ganlib.codec.image_io.Picture(photo[:20, :30], b"a profile", b"Exif\0\0...", (300.0, 72.5))
    _, payloads = read(codec.compress(picture))
    assert payloads[b"icCP"] == [b"a profile"] and payloads[b"exIF"] == [b"Exif\0\0..."]
    assert payloads[b"dENS"] == [struct.pack(">II", 300_000, 72_500)]
    assert list(payloads) == [b"HEAD", b"icCP", b"exIF", b"dENS", b"TILE"]
