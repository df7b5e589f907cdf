"""GAN-based image compression: a course that runs, and a codec that can be used.

Example:
    import ganlib
    codec = ganlib.load_codec("light")
    data = codec.compress("photo.png", quality=50)  # bytes of a .gic file
    image = codec.decompress(data)  # PIL.Image
"""

from ganlib.codec.codec import Codec, DamageWarning, load_codec
from ganlib.codec.container import BitstreamError
from ganlib.codec.image_io import ImageError
from ganlib.codec.rate_control import TargetSizeError
from ganlib.weights import WeightsError

__version__ = "0.1.0"
__all__ = ["BitstreamError", "Codec", "DamageWarning", "ImageError", "TargetSizeError", "WeightsError", "load_codec"]
