"""The numbers that shape a model and its training, each with its meaning, its unit and the reason."""

import math
from dataclasses import dataclass, fields

STRIDE = 16  # pixels of x along one side of a latent y: four halvings
HYPER_STRIDE = 64  # pixels along one side of a hyper-latent z: two more halvings
QUALITY_MAX = 100.0  # quality runs from 0 to 100, fractions allowed
PRECISIONS = ("auto", "no", "bf16")  # of g_a and g_s; "no" is float32, "auto" what the chip is best at


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the networks. Channels are listed from the finest resolution to the coarsest (1/16)."""

    name: str = "light"
    # Four stages: 1/2, 1/4, 1/8, 1/16. Doubling the channels while halving the side keeps the price of a
    # residual block the same at every depth (2.6 kMAC/pixel), so no stage is a bottleneck.
    encoder_widths: tuple[int, ...] = (32, 48, 96, 192)
    encoder_blocks: tuple[int, ...] = (0, 1, 1, 2)
    # The generator stops at 1/4 and ends in a pixel shuffle: layers at full resolution cost the most time
    # and memory and gain the least.
    generator_widths: tuple[int, ...] = (48, 96, 192)
    generator_blocks: tuple[int, ...] = (2, 3, 3)
    # Channels of y: at the start 192 luma and 64 chroma frequencies of the 16x16 DCT, which alone leave 37.8 dB of
    # photographs; 128 leave 30.7 dB, and made training end at 33.4.
    latent_channels: int = 256
    hyper_channels: int = 64  # channels of z
    hyper_width: int = 96  # hidden channels of h_a and h_s
    context_width: int = 128  # hidden channels of the context networks
    slices: tuple[int, ...] = (16, 32, 80, 128)  # channels of y coded together; few first, they teach the rest
    # Latents up to +-context_knee quantization steps enter the context networks as they are, larger ones four times
    # as coarsely, up to 5 knees. 64 means that what is beyond 64 is clipped.
    context_knee: float = 32.0
    # Points of the rate-distortion trade, geometric, for D = 255^2 * MSE: about 0.05 to 1.3 bits per pixel.
    lambda_low: float = 0.00018
    lambda_high: float = 0.13
    gain_points: int = 9

    def __post_init__(self):
        if sum(self.slices) != self.latent_channels:
            raise ValueError(f"slices {self.slices} must sum to latent_channels={self.latent_channels}")
        for widths, blocks in (
            (self.encoder_widths, self.encoder_blocks),
            (self.generator_widths, self.generator_blocks),
        ):
            if len(widths) != len(blocks) or not 1 <= len(widths) <= 5:
                raise ValueError(f"give one number of blocks per width, one to five stages: {widths}, {blocks}")

    def lam(self, quality):
        """lambda for a quality in [0, 100]: geometric between lambda_low and lambda_high."""
        return self.lambda_low * (self.lambda_high / self.lambda_low) ** (quality / QUALITY_MAX)

    def quality(self, lam):
        """Quality for a lambda, the inverse of lam(): below 0 or above 100 where lambda is out of range."""
        return QUALITY_MAX * math.log(lam / self.lambda_low) / math.log(self.lambda_high / self.lambda_low)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field can be set from `python -m ganlib train`."""

    steps: int = 20_000  # optimizer steps; the report's own number
    batch: int = 8  # crops a step
    crop: int = 256  # side of a crop in pixels, a multiple of 64
    lr: float = 3e-3  # learning rate of OutputSideSOAP after warm-up
    warmup: int = 100  # steps of linear warm-up, while SOAP's preconditioner settles
    decay: float = 0.3  # last part of the run in which the rate falls linearly to zero
    quality_low: float = 0.0  # each crop is coded at a quality drawn between these two
    quality_high: float = QUALITY_MAX
    # Weight of LPIPS at realism 1, beside a distortion that is about 0.3 at quality 50: encoder and entropy model
    # learn to send what the natural end of the dial needs.
    perceptual_weight: float = 2.5
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.998  # decay of the averaged weights, a window of about 500 steps
    precision: str = "auto"  # bf16, which doubles the speed, where the chip computes in it
    # Training in less memory: bf16 above, and these two, which leave the gradient what it is.
    accumulate: int = 1  # equal parts that a batch is worked through in, one after the other; their gradients add up
    recompute: bool = False  # make activations anew in the backward pass (gradient checkpointing): a third more work
    checkpoint_minutes: float = 5.0  # between two checkpoints on disk
    log_every: int = 20  # steps a row of the log averages over
    seed: int = 0

    def __post_init__(self):
        if self.crop % HYPER_STRIDE:
            raise ValueError(f"crop={self.crop} must be a multiple of {HYPER_STRIDE} pixels")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
        if self.accumulate < 1 or self.batch % self.accumulate:
            raise ValueError(
                f"accumulate={self.accumulate} must be 1 or more and divide batch={self.batch} into equal parts"
            )
        if not 0 <= self.quality_low <= self.quality_high <= QUALITY_MAX:
            raise ValueError(f"qualities {self.quality_low} to {self.quality_high} must rise within 0 to 100")


@dataclass(frozen=True)
class AdversarialConfig(TrainConfig):
    """How to train stage two: the fields of TrainConfig, and what the adversary needs."""

    lr: float = 2e-4  # of the generator; lower than in stage one, which it starts from
    perceptual_weight: float = 5.0  # of LPIPS at realism 1, beside a distortion that is about 0.3 at quality 50
    adversarial_weight: float = 0.4  # of -log D(x_hat) at realism 1, which is about 1
    repetition_weight: float = 0.5  # of the part of the error that repeats, 1 for noise, 16 for a grid, at realism 1
    realism_low: float = 0.0  # each crop is rebuilt at a realism drawn between these two
    realism_high: float = 1.0
    discriminator_lr: float = 4e-4  # Adam's, without momentum: the target never stands still
    guard_steps: int = 200  # steps in a row that the discriminator may win before its rate is halved
    guard_gap: float = 0.8  # it wins where D(x) - D(x_hat) is above this

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.realism_low <= self.realism_high <= 1:
            raise ValueError(f"realisms {self.realism_low} to {self.realism_high} must rise within 0 to 1")
        if self.batch < 2:
            raise ValueError(
                f"batch={self.batch} must be 2 or more: one at realism 0 has nothing for a discriminator"
            )


PRESETS = {
    # What is shipped.
    "light": ModelConfig(),
    # A minute of training on a laptop, for the notebooks and for tests.
    "tiny": ModelConfig(
        name="tiny",
        encoder_widths=(16, 24, 32),
        encoder_blocks=(0, 0, 1),
        generator_widths=(16, 24, 32),
        generator_blocks=(0, 1, 1),
        latent_channels=32,
        hyper_channels=8,
        hyper_width=16,
        context_width=16,
        slices=(8, 8, 16),
    ),
    # The model before the low-VRAM optimization: it enters and leaves at full resolution.
    "before": ModelConfig(
        name="before",
        encoder_widths=(32, 32, 48, 96, 192),
        encoder_blocks=(1, 0, 1, 1, 2),
        generator_widths=(32, 32, 48, 96, 192),
        generator_blocks=(1, 1, 2, 3, 3),
    ),
}


def preset(name):
    """ModelConfig by name; ValueError lists the names where there is none."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def from_dict(cls, values):
    """Rebuild a config from parsed JSON (lists become tuples); unknown names raise ValueError."""
    known = {f.name for f in fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
