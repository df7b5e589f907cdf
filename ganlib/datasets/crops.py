"""Random crops of photographs, as training sees them."""

import logging
from pathlib import Path

import numpy as np
import torch

from ganlib.codec import image_formats, image_io
from ganlib.datasets.sources import NoImagesError, image_files

log = logging.getLogger(__name__)

CACHE_BYTES = 3 * 2**30  # decoded pictures kept in memory while training; reading a JPEG again costs 5 ms


def mirrored(pixels, side):
    """H,W,3 -> the same, mirrored outwards to the right and below where it is smaller than a square of `side`."""
    missing = [max(0, side - n) for n in pixels.shape[:2]]
    return np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric") if any(missing) else pixels


class Crops(torch.utils.data.Dataset):
    """An endless, repeatable sequence of random crops: item i depends on the seed and i alone.

    So a run that resumes at step s continues with item s * batch and sees the same crops as without a stop.

    Args:
        folders: searched for images, sub-folders included.
        side: of a crop, in pixels. Smaller images are mirrored outwards.
        seed: of the sequence.
        qualities: lowest and highest.

    Items are (3,side,side uint8 tensor, quality float32 drawn between the two).

    Raises:
        NoImagesError: where nothing can be read. Single unreadable files are left out and logged.
    """

    def __init__(self, folders, side, seed, qualities=(0.0, 100.0)):
        self.side, self.seed, self.qualities = side, seed, qualities
        self.folders = [Path(folder).name for folder in folders]
        self.files, unreadable = [], 0
        for path in image_files(*folders):
            try:
                with open(path, "rb") as file:
                    image_formats.open_header(file).verify()
                self.files.append(path)
            except Exception as error:  # a decoder may raise anything on a damaged file
                unreadable += 1
                log.warning("left out %s: %s", path, error)
        if not self.files:
            raise NoImagesError(f"none of the {unreadable} images in {', '.join(map(str, folders))} can be read")
        self.cache, self.cached_bytes = {}, 0
        self.epoch, self.order = -1, None
        self.damaged = set()  # indices of files that open but cannot be decoded

    def _pixels(self, path):
        if path in self.cache:
            return self.cache[path]
        pixels = image_io.as_rgb(image_io.load(path, convert=True).pixels)  # as the codec sees them
        if self.cached_bytes + pixels.nbytes <= CACHE_BYTES:
            self.cache[path] = pixels
            self.cached_bytes += pixels.nbytes
        return pixels

    def _image(self, i):
        epoch, position = divmod(i, len(self.files))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.files))
        for index in np.roll(self.order, -position):
            try:
                return self._pixels(self.files[index])
            except Exception as error:  # a cut-off JPEG fails only here; the next image is used instead
                if index not in self.damaged:
                    log.warning("skipped %s: %s", self.files[index], error)
                self.damaged.add(index)
        raise NoImagesError(f"none of the {len(self.files)} images can be decoded any more")

    def __getitem__(self, i):
        rng = np.random.default_rng([self.seed, 1, i])
        pixels = mirrored(self._image(i), self.side)
        top, left = (rng.integers(n - self.side + 1) for n in pixels.shape[:2])
        crop = pixels[top : top + self.side, left : left + self.side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        quality = np.float32(rng.uniform(*self.qualities))
        return torch.from_numpy(crop.transpose(2, 0, 1).copy()), quality

    def __len__(self):
        return 2**40  # endless; a sampler decides where to stop
