"""Shapes of the cited models in miniature, and of ours beside them; all widths from the finest resolution on.

g_a and g_s together cost about the same for each pixel; data/report/cited/table.csv has the figures as measured.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from ganlib.config import ModelConfig, TrainConfig, check_limits, within

# What the four transform coders share: the entropy model, and rates from about 0.1 to 0.9 bits per pixel.
# 128 latents: 0.5 for each pixel, and 768 values of 16x16 pixels in six groups (xie.py).
ENTROPY = dict(
    latent_channels=128, hyper_channels=32, hyper_width=48, context_width=64, slices=(16, 32, 80),
    lambda_low=0.0004, lambda_high=0.04, gain_points=6,
)  # fmt: skip


@dataclass(frozen=True)
class RecurrentConfig:
    """toderici.py: widths from 1/2 resolution to 1/16."""

    family: ClassVar[str] = "toderici"
    name: str = "toderici"
    encoder_widths: tuple[int, ...] = within(1, 512, (12, 24, 48, 64))
    decoder_widths: tuple[int, ...] = within(4, 512, (12, 24, 48, 64))  # multiples of 4, for the shuffles
    bits: int = within(1, 256, 32)  # of each latent position and pass: 32 / 256 bits per pixel
    iterations: int = within(1, 64, 8)  # passes at the highest quality: 1 bit per pixel in all

    def __post_init__(self):
        check_limits(self)
        if not len(self.encoder_widths) == len(self.decoder_widths) == 4 or any(n % 4 for n in self.decoder_widths):
            raise ValueError(f"give four widths each, the decoder's divisible by 4: {self}")


@dataclass(frozen=True)
class IslamConfig(RecurrentConfig):
    """islam.py: the same shape as Toderici's."""

    family: ClassVar[str] = "islam"
    name: str = "islam"


@dataclass(frozen=True)
class SongConfig(ModelConfig):
    """song.py: widths at 1/2, 1/4 and 1/8 resolution."""

    family: ClassVar[str] = "song"
    condition_width: int = within(1, 256, 8)  # channels of the condition features


@dataclass(frozen=True)
class XieConfig(ModelConfig):
    """xie.py: encoder_widths are those inside the coupling layers, encoder_blocks their number, at 1/2 to 1/16."""

    family: ClassVar[str] = "xie"
    enhancement_width: int = within(1, 256, 4)  # channels that a layer of the feature enhancement adds

    def __post_init__(self):
        super().__post_init__()
        if self.encoder_blocks != (1, 1, 1, 1):
            raise ValueError(
                f"give one coupling per level: xie.py states how far four of them see, no other number: {self}"
            )


@dataclass(frozen=True)
class ZouConfig(ModelConfig):
    """zou.py: widths at 1/2, 1/4 and 1/8 resolution, and, in the transformer, at 1/16: there y has that width."""

    family: ClassVar[str] = "zou"
    transformer: bool = False  # STF in place of WACNN
    heads: tuple[int, ...] = within(1, 64, (2, 8))  # of attention at 1/4 and 1/16; of the transformer at each stage

    def __post_init__(self):
        super().__post_init__()
        if self.transformer and {*self.encoder_blocks, *self.generator_blocks} != {2}:
            raise ValueError(f"give two blocks per stage: zou.py states how far these see, no other number: {self}")


PRESETS = {
    "mini": ModelConfig(
        name="mini",
        encoder_widths=(16, 32, 48, 96), encoder_blocks=(0, 1, 1, 1),
        generator_widths=(24, 48, 96), generator_blocks=(2, 1, 1), **ENTROPY,
    ),
    "toderici": RecurrentConfig(),
    "islam": IslamConfig(),
    "song": SongConfig(
        name="song",
        encoder_widths=(16, 24, 48), encoder_blocks=(0, 0, 0),
        generator_widths=(16, 24, 48), generator_blocks=(0, 0, 0), **ENTROPY,
    ),
    "xie": XieConfig(
        name="xie",
        encoder_widths=(4, 4, 6, 6), encoder_blocks=(1, 1, 1, 1),
        generator_widths=(4, 4, 6, 6), generator_blocks=(1, 1, 1, 1), **ENTROPY,
    ),
    "zou": ZouConfig(
        name="zou",
        encoder_widths=(16, 32, 48), encoder_blocks=(0, 0, 0),
        generator_widths=(16, 32, 48), generator_blocks=(0, 0, 0), **ENTROPY,
    ),
    "zou-stf": ZouConfig(
        name="zou-stf", transformer=True, heads=(1, 2, 4, 8),
        encoder_widths=(12, 24, 48, 96), encoder_blocks=(2, 2, 2, 2),
        generator_widths=(12, 24, 48, 96), generator_blocks=(2, 2, 2, 2),
        **ENTROPY | dict(latent_channels=96, slices=(16, 32, 48)),
    ),
}  # fmt: skip

# One training budget for all six: `make cited`. No perceptual loss, which only ours could use. Small crops first, as
# more of them fit into the same time; then large ones. With large crops alone the models learnt less, with small ones
# alone they needed more bits for a whole picture than for its parts (data/weights/README.md).
# The learning rate falls from early on: after 1,300 steps at 2e-2, toderici lost in 300 more what it had learnt.
SMALL_CROPS = TrainConfig(steps=2500, batch=8, crop=128, lr=2e-2, decay=0.9, perceptual_weight=0.0, precision="no")
LARGE_CROPS = replace(SMALL_CROPS, steps=500, batch=4, crop=256, lr=7e-3, warmup=50, decay=1.0, ema=0.99)
TRAINING = (SMALL_CROPS, LARGE_CROPS)
