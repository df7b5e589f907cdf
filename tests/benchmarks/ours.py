"""ganlib's steps: whole calls, from an array to the bytes of a .gic file and back, with the shipped weights."""

import meter
import numpy as np
import torch

import ganlib

QUALITY = 50.0


def prepare(job):
    """Count arithmetic on the picture itself: margins of tiles depend on its size."""
    codec, picture = ganlib.load_codec("light"), job.picture
    pixels = picture.shape[0] * picture.shape[1]
    data = codec.compress(picture, quality=QUALITY)
    return {
        "torch": torch.__version__,
        "quality": QUALITY,
        "encode_kmac": meter.kmacs_per_pixel(lambda: codec.compress(picture, quality=QUALITY), pixels),
        "decode_kmac": meter.kmacs_per_pixel(lambda: codec.decompress(data), pixels),
    }


def encode(job):
    torch.set_num_threads(job.threads)
    codec, picture = ganlib.load_codec("light"), job.picture
    return lambda: codec.compress(picture, quality=QUALITY)


def decode(job):
    """Realism 0: any other takes the same time, being one more number among the generator's inputs."""
    torch.set_num_threads(job.threads)
    codec, data = ganlib.load_codec("light"), job.file("stream").read_bytes()
    return lambda: np.asarray(codec.decompress(data))


if __name__ == "__main__":
    meter.main(prepare, encode, decode)
