"""GAN-based image compression: a course that runs, and a codec that can be used.

Example:
    import ganlib
    codec = ganlib.load_codec("light")
    data = codec.compress("photo.png", quality=50)  # bytes of a .gic file
    image = codec.decompress(data)  # PIL.Image

`import ganlib` also lets Pillow open and save .gic files (ganlib.codec.pillow_plugin).
"""

import os

# torch's OpenMP threads wait for their next task in a busy loop. Where other processes want the cores as well, that
# slows everything down: a Kodak picture beside three busy loops on two cores took ten times as long. These settings
# make threads sleep instead. They are read when torch is loaded, so import ganlib before torch. Nothing is changed
# where the user has set OMP_WAIT_POLICY: a spin count of 0 would overrule ACTIVE.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

from importlib import import_module

from ganlib import cited
from ganlib.codec import pillow_plugin
from ganlib.version import __version__ as __version__

# Public name -> its module, which is imported when the name is first used: torch takes seconds to load, and neither
# `ganlib --help` nor Pillow, when it reads the size of a .gic file, needs it.
_HOME = {
    "BitstreamError": "ganlib.codec.header",
    "Codec": "ganlib.codec.codec",
    "DamageWarning": "ganlib.codec.salvage",
    "ImageError": "ganlib.codec.image_formats",
    "TargetSizeError": "ganlib.codec.rate_control",
    "WeightsError": "ganlib.weights",
    "load_codec": "ganlib.codec.codec",
    "shipped_models": "ganlib.weights",
}
__all__ = list(_HOME)


def __getattr__(name):
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__():
    return sorted(globals().keys() | _HOME.keys())


pillow_plugin.register()
cited.register()
