"""The five models that the original report cites, each idea in one file, in miniature; and `mini`, ours at that size.

    toderici, islam     recurrent: bits of the residual, pass by pass     recurrent_codec.py, bit_coder.py
    song, xie, zou      other g_a and g_s around our entropy model        transform_codec.py, map_coding.py (song)

`ganlib.load_codec`, `ganlib.weights.load_weights` and `ganlib.config.preset` take their names. What a family is made
of is imported when it is asked for.
"""

import importlib

# Family -> where its model, its codec and its training run are, each "module:class"
MODELS = {
    "toderici": ("toderici:Toderici", "recurrent_codec:RecurrentCodec", "training:RecurrentRun"),
    "islam": ("islam:Islam", "recurrent_codec:RecurrentCodec", "training:RecurrentRun"),
    "song": ("song:Song", "map_coding:MapCodec", "training:MapRun"),
    "xie": ("xie:Xie", "transform_codec:TransformCodec", "training:TransformRun"),
    "zou": ("zou:Zou", "transform_codec:TransformCodec", "training:TransformRun"),
}
NAMES = ("mini", *MODELS)  # what `make cited` trains, in this order


def _find(family, part):
    if family not in MODELS:
        raise ValueError(f"no family {family!r} of models: there are {', '.join(MODELS)}")
    module, name = MODELS[family][part].split(":")
    return getattr(importlib.import_module(f"ganlib.cited.{module}"), name)


def model_class(family):
    """Class of the family's models; its attribute Config is the class of their configurations."""
    return _find(family, 0)


def codec_class(family):
    """Class of the family's codecs, made from (model, tables, fingerprint, device, precision)."""
    return _find(family, 1)


def run_class(family):
    """Class of the family's training runs, a ganlib.training.loop.Run."""
    return _find(family, 2)


def configurations():
    """{name: configuration} of the miniatures."""
    from ganlib.cited.presets import PRESETS

    return PRESETS
