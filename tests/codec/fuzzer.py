"""A fuzzer that knows how .gic files are made: it changes chunks, mends their checksums, and decodes what comes out.

    make fuzz MINUTES=60         as long as that, each time with other seeds; a file that fails is kept
    tests/codec/test_fuzz.py     a few hundred cases, and every file in tests/codec/fuzz_corpus/

What must hold of every file, however it came about:
- decoding gives a picture of the size in the header, or BitstreamError, and nothing else;
- where no checksum was mended, what is accepted is the picture that was written, and what salvage calls decoded is;
- a region is the crop of the whole;
- a file asks for 2048 pixels a byte at most, and memory stays bounded;
- the state of torch stays what it was.
"""

import argparse
import io
import random
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

import ganlib
from ganlib.codec import container
from ganlib.codec.container import CHUNK, HEADER, SIGNATURE, BitstreamError

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CORPUS = Path(__file__).resolve().parent / "fuzz_corpus"
MENDED = 0.6  # of the cases have right checksums
MAX_PIXELS = 2**19  # of what is decoded: a header may ask for any size
KINDS = (b"HEAD", b"TILE", b"icCP", b"exIF", b"dENS", b"teXt", b"NEWT", b"\0\1\2\3")
EDGES = (0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 1024, 1088, 4096, 9999, 10_000, 10_001)
EDGES += (2**16 - 1, 2**20, 2**20 + 1, 2**31, 2**32 - 1)


class Failure(AssertionError):
    """A property that a file broke."""


def originals():
    """Undamaged files: two of the same size, quality and weights, one that holds another as EXIF, gray, one pixel."""
    return [path.read_bytes() for path in sorted(CORPUS.glob("whole_*.gic"))]


def split(data):
    """[signature, chunk, chunk, ...] of an undamaged file."""
    parts, at = [data[: len(SIGNATURE)]], len(SIGNATURE)
    for _, offset, length in container._heads(data):
        at = offset - CHUNK.size
        parts.append(data[at : offset + length + 4])
    return parts


def head_of(parts):
    """Payload of the first HEAD among chunks, b"" where there is none."""
    heads = (part[CHUNK.size : -4] for part in parts if part[:4] == b"HEAD")
    return next(heads, b"")


def mended(parts):
    """The same chunks with right lengths and checksums."""
    head, out = head_of(parts), parts[:1]
    for part in parts[1:]:
        body = part[:4].ljust(4, b"x") + struct.pack(">I", max(0, len(part) - 12)) + part[8:-4]
        out.append(body + struct.pack(">I", zlib.crc32(body, 0 if part[:4] == b"HEAD" else zlib.crc32(head))))
    return out


class Mutator:
    """Changes of a file, drawn by a seed."""

    def __init__(self, files, seed):
        self.files, self.random = files, random.Random(seed)

    def case(self):
        """(bytes, whether checksums were mended)."""
        parts = split(self.random.choice(self.files))
        mend = self.random.random() < MENDED
        for _ in range(self.random.randint(1, 4)):
            if len(parts) > 1:  # more than the signature is left
                parts = self.random.choice(self.CHANGES)(self, parts)
        data = b"".join(mended(parts) if mend else parts)
        if self.random.random() < (0.1 if mend else 0.7):
            data = self.random.choice(self.RAW)(self, data)
        return data, mend

    def _noise(self, most=40):
        return self.random.choice([bytes, self.random.randbytes])(self.random.randint(0, most))

    def _place(self, parts):
        return self.random.randrange(1, len(parts))

    def payload(self, parts):
        """Bits flipped, overwritten, cut off or added in a chunk's payload."""
        i = self._place(parts)
        part = bytearray(parts[i])
        if len(part) > 12:
            at = self.random.randrange(8, len(part) - 4)
            noise = self._noise()
            kind = self.random.randrange(4)
            if kind == 0:
                part[at] ^= 1 << self.random.randrange(8)
            elif kind == 1:
                part[at : min(at + len(noise), len(part) - 4)] = noise[: len(part) - 4 - at]
            elif kind == 2:
                del part[at:-4]
            else:
                part[-4:-4] = noise
        return [*parts[:i], bytes(part), *parts[i + 1 :]]

    def header(self, parts):
        """A field of HEAD set to an edge of its range."""
        for i, part in enumerate(parts):
            if part[:4] == b"HEAD" and len(part) == 12 + HEADER.size:
                fields = list(HEADER.unpack(part[8:-4]))
                which = self.random.randrange(len(fields))
                if which == 6:
                    fields[which] = self.random.randbytes(8)
                else:
                    bits = (8, 8, 32, 32, 16, 16, 64, 32)[which]
                    fields[which] = self.random.choice(EDGES) % 2**bits
                return [*parts[:i], part[:8] + HEADER.pack(*fields) + part[-4:], *parts[i + 1 :]]
        return parts

    def number(self, parts):
        """The number of a tile."""
        i = self._place(parts)
        part = parts[i]
        if part[:4] != b"TILE" or len(part) < 16:
            return parts
        return [*parts[:i], part[:8] + struct.pack(">I", self.random.choice(EDGES)) + part[12:], *parts[i + 1 :]]

    def kind(self, parts):
        i = self._place(parts)
        return [*parts[:i], self.random.choice(KINDS) + parts[i][4:], *parts[i + 1 :]]

    def drop(self, parts):
        i = self._place(parts)
        return [*parts[:i], *parts[i + 1 :]]

    def repeat(self, parts):
        i, j = self._place(parts), self._place(parts)
        return [*parts[:i], parts[j], *parts[i:]]

    def swap(self, parts):
        i, j = self._place(parts), self._place(parts)
        parts = list(parts)
        parts[i], parts[j] = parts[j], parts[i]
        return parts

    def splice(self, parts):
        """A chunk of another file, in place of one of this or between."""
        other, i = split(self.random.choice(self.files)), self._place(parts)
        return [*parts[:i], self.random.choice(other[1:]), *parts[i + self.random.randint(0, 1) :]]

    def invent(self, parts):
        payload = self.random.choice([self._noise(400), self.random.choice(self.files), b"TILE" * 50])
        i = self._place(parts)
        return [
            *parts[:i],
            self.random.choice(KINDS) + struct.pack(">I", len(payload)) + payload + bytes(4),
            *parts[i:],
        ]

    CHANGES = (payload, payload, header, number, kind, drop, repeat, swap, splice, splice, invent)

    def cut(self, data):
        return data[: self.random.randint(0, len(data))]

    def overwrite(self, data):
        at, noise = self.random.randint(0, len(data)), self._noise(200)
        return data[:at] + noise + data[at + len(noise) :]

    def insert(self, data):
        at = self.random.randint(0, len(data))
        return data[:at] + self._noise() + data[at:]

    def remove(self, data):
        at = self.random.randint(0, len(data))
        return data[:at] + data[at + self.random.randint(1, 200) :]

    def append(self, data):
        """Another file behind this one, whole or without its beginning."""
        return data + self.random.choice(self.files)[self.random.choice([0, 0, 3, 8, 46]) :]

    def flood(self, data):
        at = self.random.randint(0, len(data))
        return data[:at] + (b"TILE" + struct.pack(">II", len(data) // 2, 0)) * self.random.randint(1, 300) + data[at:]

    RAW = (cut, overwrite, overwrite, insert, remove, append, flood)


class Checker:
    """The properties, for files of one codec.

    Args:
        codec: small; its max_pixels is set to what a case may take.
        files: undamaged ones.
    """

    def __init__(self, codec, files):
        self.codec, self.expected, self.accepted, self.salvaged = codec, {}, 0, 0
        for data in files:
            self.expected[head_of(split(data))] = np.asarray(codec.decompress(data)).astype(int)
        codec.max_pixels = MAX_PIXELS

    def check(self, data, forged, seed=0):
        """Raise Failure where a property does not hold, or whatever the codec raises that is not BitstreamError."""
        whole = self._strict(data, forged)
        self._salvage(data, forged)
        self._pillow(data)
        if whole is not None:
            self._region(data, whole, random.Random(seed))

    def _strict(self, data, forged):
        try:
            index = container.Index(data)
            if index.header.area.size > 8 * len(data):
                raise Failure(f"{len(data)} bytes ask for {index.header.width}x{index.header.height} pixels")
            image = self.codec.decompress(data)
        except BitstreamError:
            return None
        if image.size != (index.header.width, index.header.height):
            raise Failure(f"a picture of {image.size} from {index.header}")
        pixels = np.asarray(image).astype(int)
        if not forged:
            self.accepted += 1
            self._compare(index, pixels, np.ones(pixels.shape[:2], bool), "accepted")
        return pixels

    def _compare(self, index, pixels, where, word):
        expected = self.expected.get(index._head)
        if expected is None:
            raise Failure(f"{word} a header that nobody wrote")
        error = np.abs(pixels - expected)[where]
        if error.size and error.max() > 1:
            raise Failure(f"{word} pixels that are wrong by {error.max()}")

    def _salvage(self, data, forged):
        try:
            index = ganlib.codec.salvage.SalvagedIndex(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ganlib.DamageWarning)
                image, decoded_mask = self.codec.decompress(data, salvage=True)
        except BitstreamError:
            return
        if decoded_mask.shape != image.size[::-1]:
            raise Failure(f"a mask of {decoded_mask.shape} for a picture of {image.size}")
        if not forged:
            self.salvaged += 1
            self._compare(index, np.asarray(image).astype(int), decoded_mask, "salvage gave")

    def _pillow(self, data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                with Image.open(io.BytesIO(data)) as image:
                    image.verify()
            except (OSError, Image.DecompressionBombError):
                pass

    def _region(self, data, whole, dice):
        height, width = whole.shape[:2]
        x0, y0 = dice.randrange(width), dice.randrange(height)
        x1, y1 = dice.randint(x0 + 1, width), dice.randint(y0 + 1, height)
        part = np.asarray(self.codec.decompress(data, region=(x0, y0, x1, y1))).astype(int)
        if np.abs(part - whole[y0:y1, x0:x1]).max() > 1:
            raise Failure(f"region {x0, y0, x1, y1} differs from the whole")


def peak():
    """Largest resident memory of this process so far, in MB; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first case; the clock's where none is given")
    options = parser.parse_args()
    seed = time.time_ns() % 2**40 if options.seed is None else options.seed
    codec = ganlib.load_codec(FIXTURES / "tiny.safetensors", precision="no")
    files = originals()
    checker, begin, cases, failed = Checker(codec, files), time.monotonic(), 0, []
    bar = tqdm(total=round(60 * options.minutes), unit="s")
    while (passed := time.monotonic() - begin) < 60 * options.minutes:
        data, forged = Mutator(files, seed + cases).case()
        try:
            checker.check(data, forged, seed + cases)
        except Exception as error:
            CORPUS.mkdir(exist_ok=True)
            path = CORPUS / f"{'forged' if forged else 'damaged'}_{seed + cases}.gic"
            path.write_bytes(data)
            failed.append(f"{path}: {type(error).__name__}: {error}")
            tqdm.write(failed[-1])
        cases += 1
        bar.update(round(passed) - bar.n)
    bar.close()
    print(
        f"{cases:,} files from seed {seed}: {len(failed)} failed; {checker.salvaged:,} of the damaged ones salvaged, "
        f"{checker.accepted:,} accepted with the right pixels; at most {peak():,.0f} MB"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
