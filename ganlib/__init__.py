"""GAN-based image compression: a course that runs, and a codec that can be used.

Example:
    import ganlib
    codec = ganlib.load_codec("light")
    data = codec.compress("photo.png", quality=50)  # bytes of a .gic file
    image = codec.decompress(data)  # PIL.Image

Importing it also makes Pillow open and save .gic files (ganlib.codec.pillow_plugin).
"""

import os

# torch's OpenMP threads wait for their next task in a busy loop. Where other processes want the cores as well, that
# slows everything down: a Kodak picture beside three busy loops on two cores took ten times as long. These settings
# make threads sleep instead. They are read when torch is loaded, so import ganlib before torch. What the user has set
# stays: with OMP_WAIT_POLICY=ACTIVE a spin count of 0 would overrule it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

from ganlib import cited
from ganlib.codec import pillow_plugin
from ganlib.codec.codec import Codec, DamageWarning, load_codec
from ganlib.codec.header import BitstreamError
from ganlib.codec.image_io import ImageError
from ganlib.codec.rate_control import TargetSizeError
from ganlib.weights import WeightsError, shipped_models

pillow_plugin.register()
cited.register()

__version__ = "0.1.0"
__all__ = [
    "BitstreamError",
    "Codec",
    "DamageWarning",
    "ImageError",
    "TargetSizeError",
    "WeightsError",
    "load_codec",
    "shipped_models",
]
