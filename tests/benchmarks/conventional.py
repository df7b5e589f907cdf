"""Pillow's steps: JPEG, WebP and AVIF at about ganlib's bytes, with the settings of ganlib.evaluation.baselines.

Only the preparation, which searches for the quality, loads ganlib: encoder and decoder must need no more memory
than Pillow does.
"""

import io
import json

import meter
import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile

GANLIB = "ganlib light"  # whose stream gives the size to match


def save(picture, format, options):
    """H,W,3 uint8 -> bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format, **options)
    return file.getvalue()


def prepare(job):
    """Find the quality whose file comes nearest to ganlib's in bytes.

    ganlib codes JPEG both as baseline and progressive and keeps the smaller: what is timed is one of the two,
    known beforehand.
    """
    from ganlib.evaluation import baselines

    target = (job.folder / f"{GANLIB}.stream").stat().st_size
    picture, codec = job.picture, baselines.CODECS[job.codec]
    data, quality = baselines.at_size(job.codec, picture, target)
    options = next(o for o in codec.variants(quality) if len(save(picture, codec.format, o)) == len(data))
    settings = {"format": codec.format, "options": options}
    job.file("settings").write_text(json.dumps(settings))
    return {"quality": quality}


def encode(job):
    """AVIF runs on one thread: with more, libaom writes other bytes (see ganlib.evaluation.baselines)."""
    settings, picture = json.loads(job.file("settings").read_text()), job.picture
    # an optimized JPEG is written at once, and Pillow's buffer must hold it
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, picture.size + 2**16)
    return lambda: save(picture, **settings)


def decode(job):
    AvifImagePlugin.DEFAULT_MAX_THREADS = job.threads
    data = job.file("stream").read_bytes()
    return lambda: np.array(Image.open(io.BytesIO(data)).convert("RGB"))


if __name__ == "__main__":
    meter.main(prepare, encode, decode)
