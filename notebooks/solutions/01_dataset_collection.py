"""Solutions of notebook 01, one function for each exercise, and answers to its questions."""

import hashlib

import numpy as np

ANSWERS = {
    1: """Nobody can say. Rate and PSNR depend on the pictures, and the two were measured on different ones. Measure
    both on the same pictures.""",
    2: """The same picture can be saved in two formats, or at two compression levels. Then the files and
    their checksums differ, while the pixels are equal. Compare the pixels.""",
    3: """By scene: for example eight scenes for training and two for the test. At random, nearly every test picture
    would have a picture of the same scene in the training set, which is a leak.""",
    4: """It is the control. The training sets differ not only in the leak: the third picture is another one, and may
    be a better one to learn from in general. What the cat gains shows that part, and it is small.""",
    5: """Check for the grid of JPEG's blocks. Scale the pictures down (to half the size or less) and save them with
    little or no loss, so that the network does not learn to draw the grid. And look for near duplicates.""",
}


def mean_bpp(n_bytes, sizes):
    """Divide first, then average: a rate belongs to one picture, and each picture has one vote."""
    return np.mean([8 * n / (width * height) for n, (width, height) in zip(n_bytes, sizes)])


def crop_corner(seed, index, height, width, side):
    """A new generator for each crop, fed with both numbers: no state is left over, so nothing need be saved.

    The pair is mixed, where a sum would make seed 1 repeat seed 0. And `integers` leaves out its upper end, which is
    why the last position, height - side, needs the + 1.
    """
    rng = np.random.default_rng([seed, index])
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))


def find_overlap(train, test):
    """One hash a picture and a look-up: as many steps as there are pictures, where comparing all pairs multiplies.

    `tobytes` writes the pixels in reading order, whatever the array's layout in memory. The shape belongs to the
    content too: 8x6 and 6x8 pictures may have the same bytes.
    """

    def key(pixels):
        return pixels.shape, hashlib.sha256(pixels.tobytes()).digest()

    where = {}
    for i, pixels in enumerate(train):
        where.setdefault(key(pixels), []).append(i)
    return [(i, j) for j, pixels in enumerate(test) for i in where.get(key(pixels), [])]
