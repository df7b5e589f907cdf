"""The numbers that shape a model and its training, each with its meaning, its unit, its limits and the reason.

torch is imported inside the functions that need it, so that `ganlib --help` does not wait for it.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

STRIDE = 16  # pixels of x along one side of a latent y: four halvings
HYPER_STRIDE = 64  # pixels along one side of a hyper-latent z: two more halvings
QUALITY_MAX = 100.0  # quality runs from 0 to 100
MAX_HOURS = 100_000  # of a run of training: eleven years
PRECISIONS = ("auto", "no", "bf16")  # of g_a and g_s; "no" is float32, "auto" bf16 where the chip supports it

# Data that comes with the code: data/ of a clone, or its copy inside an installed package
_INSTALLED = Path(__file__).resolve().parent / "_data"
DATA = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "data"


def within(low, high, default, help=""):
    """A field of a configuration, with the limits of its number (or of each of its numbers), both included.

    Wide limits do not say which values are sensible: they only catch typing errors and forged files.

    Args:
        help: description of the field for the command line.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "help": help})


def choice(default, help):
    """A field of a configuration that is not a number. (Arguments as in within().)"""
    return dataclasses.field(default=default, metadata={"help": help})


def limits(field):
    """The limits of a field in words, "1 to 64"; "" where it has none."""
    return f"{field.metadata['low']:,.15g} to {field.metadata['high']:,.15g}" if "low" in field.metadata else ""


def check_limits(config):
    """Raise ValueError where a number of a configuration is outside its limits or of another type."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default, low, high = field.default, field.metadata.get("low"), field.metadata.get("high")
        if isinstance(default, tuple):
            numbers, kind = value if isinstance(value, (tuple, list)) else [None], int
        else:
            numbers, kind = [value], type(default)
        for number in numbers:
            accepted = (int, float) if kind is float else kind
            if not isinstance(number, accepted) or (isinstance(number, bool) and kind is not bool):
                raise ValueError(f"{field.name}={value!r} must be {kind.__name__}, as in {default!r}")
            if low is not None and not low <= number <= high:  # NaN is outside too
                raise ValueError(f"{field.name}={value!r} must be from {limits(field)}")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the networks. Channels are listed from the finest resolution to the coarsest (1/16)."""

    family: ClassVar[str] = ""  # "" is CompressionModel, other names are those of ganlib.cited
    name: str = "light"
    # Four stages: 1/2, 1/4, 1/8, 1/16. Doubling the channels while halving the side keeps the cost of a
    # residual block the same at every depth (2.6 kMAC/pixel), so no stage is a bottleneck.
    encoder_widths: tuple[int, ...] = within(1, 1024, (32, 48, 96, 192))
    encoder_blocks: tuple[int, ...] = within(0, 32, (0, 1, 1, 2))
    # The generator stops at 1/4 and ends in a pixel shuffle: layers at full resolution cost the most time
    # and memory and gain the least.
    generator_widths: tuple[int, ...] = within(1, 1024, (48, 96, 192))
    generator_blocks: tuple[int, ...] = within(0, 32, (2, 3, 3))
    # Channels of y. Before training they are 192 luma and 64 chroma frequencies of the 16x16 DCT. With these alone
    # photographs reach 37.8 dB; with 128, 30.7 dB, too little for training to reach the 38 dB of quality 100.
    latent_channels: int = within(1, 768, 256)
    hyper_channels: int = within(1, 768, 64)  # channels of z
    hyper_width: int = within(1, 1024, 96)  # hidden channels of h_a and h_s
    context_width: int = within(1, 1024, 128)  # hidden channels of the context networks
    # Channels of y that are coded together, small slices first: the first ones carry most bits, and each slice is
    # predicted from those before it. A fifth slice would add a fifth to the entropy model's work.
    slices: tuple[int, ...] = within(1, 768, (16, 16, 32, 192))
    # The two ideas of the entropy model. False, for ablation: no z; or one part per slice instead of two.
    hyperprior: bool = True
    checkerboard: bool = True
    # The context networks see latents up to +-context_knee quantization steps unchanged, larger ones four times as
    # coarsely, up to 256 - 3 * context_knee (160 for a knee of 32, 64 for 64). Beyond that they are clipped.
    context_knee: float = within(1, 64, 32.0)
    # Points of the rate-distortion trade-off: lambda, spaced geometrically, for D = 255^2 * MSE. (PRESETS has
    # those of `light`.)
    lambda_low: float = within(1e-6, 10, 0.00018)
    lambda_high: float = within(1e-6, 10, 0.13)
    gain_points: int = within(2, 64, 9)

    def __post_init__(self):
        check_limits(self)
        if sum(self.slices) != self.latent_channels:
            raise ValueError(f"slices {self.slices} must sum to latent_channels={self.latent_channels}")
        if not self.lambda_low < self.lambda_high:
            raise ValueError(f"lambda must rise, not from {self.lambda_low} to {self.lambda_high}")
        for widths, blocks in (
            (self.encoder_widths, self.encoder_blocks),
            (self.generator_widths, self.generator_blocks),
        ):
            if len(widths) != len(blocks) or not 1 <= len(widths) <= 5:
                raise ValueError(f"give one number of blocks per width, one to five stages: {widths}, {blocks}")

    def lambda_weight(self, quality):
        """lambda for a quality in [0, 100]: geometric between lambda_low and lambda_high."""
        return self.lambda_low * (self.lambda_high / self.lambda_low) ** (quality / QUALITY_MAX)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field can be set from `python -m ganlib train`."""

    steps: int = within(1, 10**9, 20_000, "optimizer steps")  # as in the original report
    batch: int = within(1, 4096, 8, "crops per step")
    # A hyper-latent covers 64x64 pixels. On crops of 128 each one lies at two borders, and large pictures cost more.
    crop: int = within(64, 4096, 256, "side of a crop in pixels, multiple of 64; below 256, large pictures get worse")
    lr: float = within(0, 1, 1e-2, "learning rate after warm-up")  # of Muon: the size of a step's singular values
    warmup: int = within(0, 10**6, 100, "steps of linear warm-up")
    decay: float = within(0, 1, 0.3, "final fraction of the run, in which the learning rate falls linearly to 0")
    quality_low: float = within(0, QUALITY_MAX, 0.0, "lowest quality that a crop is coded at")
    quality_high: float = within(0, QUALITY_MAX, QUALITY_MAX, "highest quality that a crop is coded at")
    # For comparison: distortion is about 0.3 at quality 50. With this loss, encoder and entropy model learn to send
    # what realism 1 needs.
    perceptual_weight: float = within(0, 1e6, 2.5, "weight of LPIPS at realism 1")
    clip: float = within(1e-9, 1e9, 1.0, "largest norm of the gradient")
    ema: float = within(0, 1, 0.998, "decay of the averaged weights")  # a window of about 500 steps
    precision: str = choice("auto", "no (float32), bf16, or auto: bf16, twice as fast, where the chip computes in it")
    # Training in less memory: bf16 above, and these two, which do not change the gradient.
    accumulate: int = within(1, 4096, 1, "equal parts in which a batch is processed; their gradients add up")
    recompute: bool = choice(False, "compute activations again in the backward pass: less memory, a third more work")
    compile: bool = choice(False, "fuse small operations with torch.compile: takes minutes, then is faster on a GPU")
    checkpoint_minutes: float = within(0, 10**6, 5.0, "minutes between two checkpoints on disk")
    log_every: int = within(1, 10**9, 20, "steps over which a row of the log averages")
    seed: int = within(0, 2**31, 0, "seed of all random numbers: weights, crops, noise")

    def __post_init__(self):
        check_limits(self)
        if self.crop % HYPER_STRIDE:
            raise ValueError(f"crop={self.crop} must be a multiple of {HYPER_STRIDE} pixels")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate={self.accumulate} must divide batch={self.batch} into equal parts")
        if self.quality_low > self.quality_high:
            raise ValueError(f"qualities {self.quality_low} to {self.quality_high} must rise")


@dataclass(frozen=True)
class AdversarialConfig(TrainConfig):
    """How to train stage two: the fields of TrainConfig, and those of adversarial training."""

    lr: float = within(0, 1, 1e-3, "learning rate after warm-up")  # lower than in stage one, which it starts from
    # Weights at realism 1. The effect of a loss is its gradient on x_hat, not its value. For a crop of 128 the norms
    # of these three gradients are about 1.4, 0.4 and 0.05 at the beginning, and that of distortion is 0.05.
    perceptual_weight: float = within(0, 1e6, 5.0, "weight of LPIPS at realism 1")
    adversarial_weight: float = within(0, 1e6, 1.0, "weight of -log D(x_hat) at realism 1")
    # the penalty measures how much of the error repeats: 1 for noise, 16 for a grid
    grid_artifact_weight: float = within(0, 1e6, 0.05, "weight of the penalty on grids at realism 1")
    realism_low: float = within(0, 1, 0.0, "lowest realism that a crop is rebuilt at")
    realism_high: float = within(0, 1, 1.0, "highest realism that a crop is rebuilt at")
    # Adam without momentum: the generator that it judges keeps changing
    discriminator_lr: float = within(0, 1, 1e-3, "learning rate of the discriminator")

    def __post_init__(self):
        super().__post_init__()
        if self.realism_low > self.realism_high:
            raise ValueError(f"realisms {self.realism_low} to {self.realism_high} must rise")
        if self.batch < 2:
            raise ValueError(
                f"batch={self.batch} must be 2 or more: one crop may have realism 0, which trains no discriminator"
            )


PRESETS = {
    "light": ModelConfig(lambda_low=0.00022, lambda_high=0.085),  # about 0.05 and 1.45 bits per pixel on Kodak
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
    # The model before the low-VRAM optimization: its first and last layers work at full resolution.
    "before": ModelConfig(
        name="before",
        encoder_widths=(32, 32, 48, 96, 192),
        encoder_blocks=(1, 0, 1, 1, 2),
        generator_widths=(32, 32, 48, 96, 192),
        generator_blocks=(1, 1, 2, 3, 3),
    ),
}


# Presets of other families of models; and family -> "module:class" of its model and of its codec, imported when they
# are first used. ganlib.cited adds its own.
MORE_PRESETS = {}
MODELS = {"": "ganlib.model.compression_model:CompressionModel"}
CODECS = {"": "ganlib.codec.codec:Codec"}


def preset(name):
    """Configuration of a model by name. For an unknown name ValueError lists the known ones."""
    presets = PRESETS | MORE_PRESETS
    if name not in presets:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(presets)}")
    return presets[name]


def from_dict(cls, values):
    """Rebuild a configuration from parsed JSON (lists become tuples).

    Raises:
        ValueError: not a dict, unknown names, or numbers outside of their limits.
    """
    if not isinstance(values, dict):
        raise ValueError(f"a {cls.__name__} is an object of names and values, not {values!r}")
    known = {field.name for field in dataclasses.fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def best_precision():
    """Give "bf16" where the chip supports it, else "no": emulated bf16 is slower than float32."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def chosen_precision(precision):
    """One of PRECISIONS -> "no" or "bf16". ValueError for any other value."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be one of {', '.join(map(repr, PRECISIONS))}")
    return best_precision() if precision == "auto" else precision


def autocast(device, precision):
    """A context in which convolutions compute in `precision`, "no" or "bf16", whatever the caller has set."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")
