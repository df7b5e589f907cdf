"""The settings of a training run that change its pictures: their sliders, the configuration from them, and the
differences between runs."""

from dataclasses import dataclass

from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.rate_distortion import RateDistortionRun

# Without influence on a picture: a log row about every second, and checkpoints so often that a crash costs little.
FIXED = dict(log_every=5, checkpoint_minutes=0.5)


@dataclass(frozen=True)
class Setting:
    """One slider: which fields of the configuration it sets, and its range.

    fields: one name, or two for the ends of a range. kind: "whole", "real", "log" (low and high are powers of ten) or
    "range". default: of stage one and of stage two; a pair of numbers each for a range. Both None where the
    stage has no such field.
    """

    fields: tuple[str, ...]
    label: str
    kind: str
    low: float
    high: float
    step: float
    defaults: tuple

    @property
    def key(self):
        return self.fields[0]


SETTINGS = (
    Setting(("steps",), "steps", "whole", 20, 4000, 20, (200, 200)),
    Setting(("lr",), "learning rate", "log", -5, -1, 0.1, (1e-2, 1e-3)),
    Setting(("quality_low", "quality_high"), "qualities", "range", 0, 100, 1, ((0, 100), (40, 40))),
    Setting(("crop",), "crop (pixels)", "whole", 64, 256, 64, (128, 128)),
    Setting(("batch",), "batch (crops)", "whole", 2, 16, 1, (4, 4)),
    Setting(("perceptual_weight",), "weight of LPIPS", "real", 0, 20, 0.5, (2.5, 5.0)),
    Setting(("adversarial_weight",), "weight of -log D", "real", 0, 5, 0.25, (None, 1.0)),
    Setting(("grid_artifact_weight",), "weight of grid", "real", 0, 2, 0.05, (None, 0.05)),
    Setting(("realism_low", "realism_high"), "realisms", "range", 0, 1, 0.05, (None, (1.0, 1.0))),
    Setting(("discriminator_lr",), "rate of D", "log", -5, -2, 0.1, (None, 4e-4)),
    Setting(("warmup",), "warm-up (steps)", "whole", 0, 200, 10, (20, 20)),
    Setting(("decay",), "decay (share)", "real", 0, 1, 0.05, (0.2, 0.2)),
    Setting(("ema",), "average (decay)", "real", 0, 0.999, 0.001, (0.95, 0.95)),
    Setting(("clip",), "clip gradient at", "log", -2, 2, 0.1, (1.0, 1.0)),
    Setting(("seed",), "seed", "whole", 0, 99, 1, (0, 0)),
)
MAIN = 10  # the first settings, always shown; the others are behind "more settings"

STAGE_NAMES = {RateDistortionRun: "one: rate and distortion", AdversarialRun: "two: adversary"}
CONFIGS = {RateDistortionRun: TrainConfig, AdversarialRun: AdversarialConfig}


def defaults(stage):
    """{key: value} of every setting that a stage has: the first values of its sliders."""
    which = 1 if stage is AdversarialRun else 0
    return {s.key: s.defaults[which] for s in SETTINGS if s.defaults[which] is not None}


def run_config(stage, **values):
    """The configuration that the sliders set.

    Args:
        stage: RateDistortionRun or AdversarialRun.
        values: by the keys of SETTINGS, a pair for a range; defaults where left out.

    Returns:
        TrainConfig or AdversarialConfig.

    Raises:
        ValueError: a number outside of its limits.
        TypeError: no such setting in this stage.
    """
    values = defaults(stage) | values
    by_key = {setting.key: setting for setting in SETTINGS}
    if unknown := values.keys() - defaults(stage).keys():
        raise TypeError(f"{STAGE_NAMES[stage]} has no setting {', '.join(sorted(unknown))}")
    fields = {}
    for key, value in values.items():
        pair = value if isinstance(value, (tuple, list)) else (value,)
        fields |= dict(zip(by_key[key].fields, pair))
    return CONFIGS[stage](**fields, **FIXED)


def values_of(config):
    """A configuration from disk (a dict of fields) -> {key: value} for the sliders."""
    values = {}
    for setting in SETTINGS:
        if all(field in config for field in setting.fields):
            value = tuple(config[field] for field in setting.fields)
            values[setting.key] = value if len(value) > 1 else value[0]
    return values


def stage_of(config):
    """The stage that a configuration from disk belongs to."""
    return next(stage for stage in STAGE_NAMES if stage.STAGE == config["stage"])


def shown(setting, value):
    """A setting as a person reads it: "weight of -log D 0.4", "qualities 0 to 100"."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    return f"{setting.label} {' to '.join(f'{number:g}' for number in numbers)}"


def in_words(config):
    """All settings of a configuration from disk in one line."""
    values = values_of(config)
    return ", ".join(shown(s, values[s.key]) for s in SETTINGS if s.key in values)


def differences(configs):
    """How runs differ: {run: configuration from disk} -> {run: words, "" where nothing differs}."""
    values = {name: values_of(config) | {"stage": stage_of(config)} for name, config in configs.items()}
    words = {}
    for name, own in values.items():
        differing = [s for s in SETTINGS if len({str(other.get(s.key)) for other in values.values()}) > 1]
        parts = [shown(s, own[s.key]) for s in differing if s.key in own]
        if len({other["stage"] for other in values.values()}) > 1:
            parts.insert(0, f"stage {STAGE_NAMES[own['stage']]}")
        words[name] = ", ".join(parts)
    return words
