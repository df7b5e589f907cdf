"""Configurations: each number is checked, with its range in the message."""

import dataclasses
import math

import pytest

from ganlib.config import (
    PRESETS,
    AdversarialConfig,
    ModelConfig,
    TrainConfig,
    chosen_precision,
    from_dict,
    preset,
)

KINDS = (ModelConfig, TrainConfig, AdversarialConfig)
LIMITED = [(kind, field.name) for kind in KINDS for field in dataclasses.fields(kind) if "low" in field.metadata]


def field_of(kind, name):
    return next(field for field in dataclasses.fields(kind) if field.name == name)


def with_value(kind, name, number):
    """A configuration in which one number of a field is another."""
    default = field_of(kind, name).default
    return kind(**{name: (number, *default[1:]) if isinstance(default, tuple) else number})


def just_outside(kind, name):
    """Numbers below and above the limits of a field."""
    field = field_of(kind, name)
    low, high = field.metadata["low"], field.metadata["high"]
    whole = not isinstance(field.default, float)
    return [low - 1, high + 1] if whole else [math.nextafter(low, -math.inf), math.nextafter(high, math.inf)]


def test_every_number_has_limits():
    for kind in KINDS:
        for field in dataclasses.fields(kind):
            assert "low" in field.metadata or isinstance(field.default, (str, bool)), f"{kind.__name__}.{field.name}"


@pytest.mark.parametrize("kind, name", LIMITED)
def test_numbers_outside_of_their_limits_are_refused(kind, name):
    field = field_of(kind, name)
    told = f"{name}=.*must be from {field.metadata['low']:,.15g} to {field.metadata['high']:,.15g}$"
    for number in just_outside(kind, name):
        with pytest.raises(ValueError, match=told):
            with_value(kind, name, number)
    if isinstance(field.default, float):
        for number in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=told):
                with_value(kind, name, number)


@pytest.mark.parametrize("kind, name", LIMITED)
@pytest.mark.parametrize("value", ["8", None, True, [], {}, 1j])
def test_values_of_another_type_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*must be (int|float), as in"):
        with_value(kind, name, value)


@pytest.mark.parametrize("kind, name", [pair for pair in LIMITED if not isinstance(field_of(*pair).default, float)])
def test_whole_numbers_are_asked_for(kind, name):
    with pytest.raises(ValueError, match=f"^{name}=.*must be int, as in"):
        with_value(kind, name, 2.0)


@pytest.mark.parametrize("kind, name, value", [(TrainConfig, "recompute", 1), (ModelConfig, "name", 3)])
def test_words_and_switches_are_asked_for(kind, name, value):
    with pytest.raises(ValueError, match=f"{name}={value} must be (bool|str)"):
        kind(**{name: value})


def test_limits_themselves_are_allowed():
    for kind, name in LIMITED:
        if kind is ModelConfig:  # one number alone would not fit the others
            continue
        field = field_of(kind, name)
        for number in (field.metadata["low"], field.metadata["high"]):
            # what depends on another number has a test of its own
            if name in ("batch", "accumulate", "quality_low", "quality_high", "realism_low", "realism_high"):
                continue
            assert getattr(kind(**{name: number}), name) == number


@pytest.mark.parametrize(
    "kind, values, told",
    [
        (ModelConfig, dict(slices=(16, 16)), r"slices \(16, 16\) must sum to latent_channels=256"),
        (ModelConfig, dict(encoder_blocks=(1,)), "one number of blocks per width"),
        (ModelConfig, dict(generator_widths=(), generator_blocks=()), "one to five stages"),
        (ModelConfig, dict(lambda_low=0.2), "lambda must rise, not from 0.2 to 0.13"),
        (ModelConfig, dict(slices=256), "slices=256 must be int"),
        (TrainConfig, dict(crop=100), "crop=100 must be a multiple of 64 pixels"),
        (TrainConfig, dict(precision="int8"), "precision='int8' must be one of 'auto', 'no', 'bf16'"),
        (TrainConfig, dict(batch=8, accumulate=3), "accumulate=3 must divide batch=8"),
        (TrainConfig, dict(batch=8, accumulate=16), "accumulate=16 must divide batch=8"),
        (TrainConfig, dict(quality_low=50.0, quality_high=40.0), "qualities 50.0 to 40.0 must rise"),
        (AdversarialConfig, dict(realism_low=0.6, realism_high=0.5), "realisms 0.6 to 0.5 must rise"),
        (AdversarialConfig, dict(batch=1), "batch=1 must be 2 or more"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(kind, values, told):
    with pytest.raises(ValueError, match=told):
        kind(**values)


def test_numbers_that_may_be_equal():
    assert TrainConfig(quality_low=30.0, quality_high=30.0, batch=8, accumulate=8)
    assert AdversarialConfig(realism_low=1.0, realism_high=1.0, batch=2)
    assert TrainConfig(lr=1, warmup=0, decay=0).lr == 1  # whole numbers for fractions


def test_presets_are_found_by_name():
    assert [preset(name).name for name in PRESETS] == list(PRESETS)
    with pytest.raises(ValueError, match="no preset 'huge': choose one of light, tiny, before"):
        preset("huge")


@pytest.mark.parametrize("kind", KINDS)
def test_json_gives_the_configuration_back(kind):
    import json

    config = kind()
    assert from_dict(kind, json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize("values", [None, [], "light", 3])
def test_what_is_no_object_is_refused(values):
    with pytest.raises(ValueError, match="a ModelConfig is an object of names and values"):
        from_dict(ModelConfig, values)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="ModelConfig has no field colour, size"):
        from_dict(ModelConfig, {"size": 2, "colour": 1})


def test_lambda_is_geometric():
    config = preset("light")
    assert config.lambda_weight(0) == config.lambda_low
    assert config.lambda_weight(100) == pytest.approx(config.lambda_high)
    assert config.lambda_weight(50) == pytest.approx((config.lambda_low * config.lambda_high) ** 0.5)


def test_precision_is_one_that_is_known():
    assert chosen_precision("no") == "no" and chosen_precision("bf16") == "bf16"
    assert chosen_precision("auto") in ("no", "bf16")
    with pytest.raises(ValueError, match="precision='fp8' must be one of"):
        chosen_precision("fp8")
