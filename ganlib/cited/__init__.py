"""The five models that the original report cites, each idea in one file, in miniature; and `mini`, ours at that size.

    toderici, islam     recurrent: bits of the residual, pass by pass     recurrent_codec.py, bit_coder.py
    song, xie, zou      other g_a and g_s around our entropy model        transform_codec.py, map_coding.py (song)

`ganlib.load_codec`, `ganlib.weights.load_weights`, `ganlib.config.preset` and the command line accept their names.
"""

from pkgutil import resolve_name

from ganlib import config
from ganlib.cited.presets import PRESETS

# Family -> its model, its codec and its training run, each imported when it is needed
MODELS = {
    "toderici": ("toderici:Toderici", "recurrent_codec:RecurrentCodec", "training:RecurrentRun"),
    "islam": ("islam:Islam", "recurrent_codec:RecurrentCodec", "training:RecurrentRun"),
    "song": ("song:Song", "map_coding:MapCodec", "training:MapRun"),
    "xie": ("xie:Xie", "transform_codec:TransformCodec", "training:TransformRun"),
    "zou": ("zou:Zou", "transform_codec:TransformCodec", "training:TransformRun"),
}
NAMES = ("mini", *MODELS)  # what `make cited` trains, in this order


def register():
    """Register these families in ganlib.config; `import ganlib` calls it."""
    config.MORE_PRESETS.update(PRESETS)
    for family, (model, its_codec, _) in MODELS.items():
        config.MODELS[family] = f"ganlib.cited.{model}"
        config.CODECS[family] = f"ganlib.cited.{its_codec}"


def run_class(family):
    """Class of a family's training runs, a ganlib.training.run.Run; the family of `mini` is ""."""
    return resolve_name(f"ganlib.cited.{MODELS[family][2] if family else 'training:TransformRun'}")
