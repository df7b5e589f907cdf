"""Colour information of a PNG other than an ICC profile. A .gic file does not hold it; a warning names it."""

import logging

log = logging.getLogger(__name__)

SRGB_GAMMA = 1 / 2.2  # as PNG's gAMA chunk has it
SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of white, red, green, blue
SRGB_CICP = bytes((1, 13, 0, 1))  # primaries, transfer function, matrix, full range
GAMMA_TOLERANCE, CHROMATICITY_TOLERANCE = 0.01, 0.004


def warn(info, icc, name):
    """Log what is left out. cICP overrides all others; gAMA and cHRM count only without a profile and without sRGB.

    Args:
        info: of a PIL.Image; "cICP": payload of that chunk.
        icc: its profile, or None.
        name: for the log.
    """
    lost = []
    if "cICP" in info:
        if info["cICP"] != SRGB_CICP:
            lost = [f"colour space (cICP {', '.join(map(str, info['cICP']))}) is"]
    elif not icc and "srgb" not in info:
        gamma, chromaticity = info.get("gamma", SRGB_GAMMA), info.get("chromaticity", ())
        if abs(gamma - SRGB_GAMMA) > GAMMA_TOLERANCE:
            lost.append(f"gamma of {gamma:g} is")
        if any(abs(a - b) > CHROMATICITY_TOLERANCE for a, b in zip(chromaticity, SRGB_CHROMATICITY)):
            lost.append("primaries (cHRM) are")
    for what in lost:
        log.warning("%s: its %s left out: convert to sRGB first, or it looks different", name, what)
