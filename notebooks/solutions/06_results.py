"""Solutions of notebook 06, one function for each exercise, and answers to its questions."""

import numpy as np

ANSWERS = {
    1: """The ratio gives each picture a share of its PNG's bits. A PNG pays for noise too, which a lossy codec leaves
    out, so that the same share is generous for one picture and scarce for another.""",
    2: """Both codecs find the same pictures easy and the same ones hard, and that makes most of the spread. The
    difference on one picture does not contain it, so differences are much more alike than the values.""",
    3: """Its seed. If another seed alone changes the result as much, the idea has not been shown to help. Train both
    settings with several seeds, and compare the means with the spread.""",
    4: """PSNR compares pixel by pixel, and after a shift by one pixel every edge is in the wrong place. LPIPS
    compares features over larger regions, which hardly change. A blurred picture keeps its edges in place and
    loses texture, which LPIPS counts.""",
    5: """From the file it knows roughly where strokes are, and it adds texture that looks likely there. A wrong
    letter looks as likely as the right one. Where the exact content matters, use realism 0 and more bits.""",
}


def psnr(reference, image):
    # Widened first: in uint8, 3 - 40 is 219, and 37 squared is 89. (Errors below 16 come out right by luck: -2 is
    # 254, and 254 squared wraps around to 4. So the trap opens only where a picture is bad.) One mean over pixels and
    # channels.
    error = reference.astype(np.float64) - image.astype(np.float64)
    return 10 * np.log10(255**2 / np.mean(error**2))


def compression_ratio_at_equal_quality(bpp, psnr, quality_db):
    # np.interp wants rising x and repeats its ends beyond them: sorted first, and nan where nothing was measured.
    # log(rate), because each dB costs about the same factor of bits, so that the curve is nearly a straight line.
    order = np.argsort(psnr)
    log_rate = np.interp(quality_db, psnr[order], np.log(bpp[order]), left=np.nan, right=np.nan)
    return 24 / np.exp(log_rate)


def bd_psnr(anchor_bpp, anchor_psnr, bpp, psnr):
    # A mean over log(rate), so that a halving of the file weighs the same at 0.2 bpp as at 0.8; and over no rate that
    # one of the two never reached, since np.interp would invent a flat curve there.
    low = max(anchor_bpp.min(), bpp.min())
    high = min(anchor_bpp.max(), bpp.max())
    at = np.linspace(np.log(low), np.log(high), 1000)
    gain = np.interp(at, np.log(bpp), psnr) - np.interp(at, np.log(anchor_bpp), anchor_psnr)
    return np.trapezoid(gain, at) / (at[-1] - at[0])
