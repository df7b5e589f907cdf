"""Solutions of notebook 00, one function for each exercise, and answers to its questions."""

import numpy as np

from ganlib.evaluation import metrics

ANSWERS = {
    1: """8 * 35,000 / 1,000,000 = 0.28 bits per pixel. The raw pixels have 3,000,000 bytes, so the file is about 86
    times smaller.""",
    2: """No. Realism is chosen when the file is read: your friend decodes the same file once more, at realism 1.""",
    3: """It adds texture where the file does not say what was there. The texture looks likely, but its pixels are not
    those of the original, and the squared error counts each of them.""",
    4: """Smaller than what (raw pixels, PNG, a JPEG), at which quality (such as PSNR and LPIPS), and on which
    pictures. Any codec can reach any ratio if the quality does not matter.""",
}


def bits_per_pixel(n_bytes, width, height):
    """Bits of the file over pixels of the picture: a byte has eight bits, and colour does not multiply pixels."""
    return 8 * n_bytes / (width * height)


def smallest_quality(codec, picture, least_psnr):
    """Bisection keeps one promise: everything below `low` is too bad, and `high` is good enough or 100."""
    low, high = 0, 100
    while low < high:
        middle = (low + high) // 2
        back = codec.decompress(codec.compress(picture, quality=middle))
        if metrics.psnr(picture, np.asarray(back)) >= least_psnr:
            high = middle
        else:
            low = middle + 1
    return low
