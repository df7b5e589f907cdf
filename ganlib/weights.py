"""Trained weights: one safetensors file a model, with its configuration, its tables and how it was trained."""

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.overrides import TorchFunctionMode

from ganlib.atomic_write import atomic_write
from ganlib.config import DATA, MODELS, from_dict
from ganlib.model.compression_model import CompressionModel
from ganlib.model.discriminator import Discriminator
from ganlib.model.entropy_model import SCALES, Y_LIMIT, Z_LIMIT, gaussian_likelihood, index_to_scale
from ganlib.model.integer_layers import TABLE_TOTAL, ExactConv2d, integer_table

SHIPPED = DATA / "weights"
EARLIER = SHIPPED / "earlier"  # NAME-VERSION.safetensors: replaced, but still needed to decode their files
DISCRIMINATORS = SHIPPED / "discriminators"  # to start stage two with: NAME.safetensors for each model


class WeightsError(ValueError):
    """A weights file is missing, damaged or of another kind; the message says which."""


@dataclass(frozen=True)
class Weights:
    """A trained model, and everything else that coding with it needs.

    Attributes:
        name: "light", or the stem of its file.
        model: CompressionModel in evaluation mode.
        tables: {"y": SCALES,2*Y_LIMIT+1, "z": channels,2*Z_LIMIT+1} int32 frequencies for the range coder; "z" with a
            hyperprior only.
        fingerprint: 8 bytes that identify these weights in each .gic file.
        stages: how it was trained, one dict a stage: "stage", "steps", "seconds", "seed", "config", ...
    """

    name: str
    model: CompressionModel = field(repr=False)
    tables: dict = field(repr=False)
    fingerprint: bytes
    stages: tuple = ()


def model_class(family):
    """Class of the models of a family; ValueError where there is none of that name."""
    if family not in MODELS:
        raise ValueError(f"no family {family!r} of models: there are {', '.join(map(repr, MODELS))}")
    return resolve_name(MODELS[family])


def coding_tables(model):
    """The integer tables of a trained model: 64 Gaussians for y, one distribution a channel for z.

    A recurrent model has no entropy model, and no tables.
    """
    if not hasattr(model, "entropy"):
        return {}
    with torch.no_grad():
        symbols = torch.arange(-Y_LIMIT, Y_LIMIT + 1, dtype=torch.float64)
        scales = index_to_scale(torch.arange(SCALES, dtype=torch.float64))
        tables = {"y": integer_table(gaussian_likelihood(symbols, scales[:, None]))}
        if not model.entropy.hyperprior:
            return tables
        channels = model.config.hyper_channels
        z_symbols = torch.arange(-Z_LIMIT, Z_LIMIT + 1, dtype=torch.float64)
        z = model.entropy.prior.double()(z_symbols.expand(1, channels, 1, -1))[0, :, 0]
        model.entropy.prior.float()
    return tables | {"z": integer_table(z)}


def fingerprint(tensors):
    """First 8 bytes of SHA-256 over the tensors that control symbol decoding: h_s, contexts, gains and tables.

    For a recurrent model these are the tensors of its decoder.

    g_a and g_s are left out: training them further does not change the latents that a file gives.
    """
    digest = hashlib.sha256()
    for name in sorted(filter(_steers_decoding, tensors)):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()[:8]


def _steers_decoding(name):
    return name.startswith(("entropy.h_s.", "entropy.contexts.", "tables.", "log_inverse_gain", "decoder."))


def save_weights(model, path, stages=(), tables=None):
    """Write a model in float16 with its integer tables.

    Args:
        model: CompressionModel.
        path: of the .safetensors file.
        stages: how it was trained, a list of dicts (see Weights).
        tables: those that the model was loaded with, if its entropy model has not been trained further: computed
            again on another machine, they might differ in the last bit, and old files would not decode. With None
            they are computed from the rounded weights.
    """
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in model.state_dict().items()}
    rounded = type(model)(model.config)
    rounded.load_state_dict({name: t.float() for name, t in tensors.items()})
    for name, layer in rounded.named_modules():
        if isinstance(layer, ExactConv2d):  # store rounded numbers: decoders use them unchanged
            weight, bias = layer.rounded()
            tensors |= {f"{name}.weight": weight.half().contiguous(), f"{name}.bias": bias.half()}
    if tables is None:
        tables = coding_tables(rounded)
    tensors |= {f"tables.{name}": table for name, table in tables.items()}
    metadata = {
        "format": "ganlib weights 2",
        "family": model.config.family,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "stages": json.dumps(list(stages)),
    }
    with atomic_write(path) as part:
        part.write_bytes(save(tensors, metadata))


def shipped_models():
    """Names of the models that come with ganlib, sorted; those of earlier versions are left out."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def _shipped_files():
    """{name: path} of all shipped models, earlier versions included."""
    return {path.stem: path for folder in (EARLIER, SHIPPED) for path in folder.glob("*.safetensors")}


def find_weights(name):
    """Name of a shipped model, or path of a weights file -> Path; WeightsError lists the shipped models."""
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise WeightsError(f"{path} does not exist")
        return path
    path = _shipped_files().get(str(name))
    if path is None:
        names = ", ".join(shipped_models()) or "none"
        raise WeightsError(f"no model {name!r} in {SHIPPED} (found: {names}); train one, or give a .safetensors file")
    return path


@functools.cache
def _shipped_fingerprints():
    """{fingerprint: name} of the shipped models; reads no more of each file than the fingerprint needs."""
    found = {}
    for name, path in _shipped_files().items():
        with safe_open(path, framework="pt") as file:
            found[fingerprint({key: file.get_tensor(key) for key in filter(_steers_decoding, file.keys())})] = name
    return found


def shipped_with(mark):
    """Name of the shipped model that has a fingerprint (8 bytes), or None."""
    return _shipped_fingerprints().get(mark)


@functools.cache
def shipped_family(name):
    """Family of a shipped model, "" where it is a CompressionModel; reads no weights."""
    with safe_open(find_weights(name), framework="pt") as file:
        return (file.metadata() or {}).get("family", "")


def load_weights(name):
    """Name of a shipped model, or path of a weights file -> Weights.

    Shapes are compared before the model is allocated, so loading takes no more memory than the file's size, whatever
    its configuration says.

    Raises:
        WeightsError: not found, damaged, or not what save_weights() writes.
    """
    path = find_weights(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            config = _read_config(metadata)
            with torch.device("meta"), _Uninitialized():
                model = model_class(config.family)(config)
            _compare(model, config, {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()})
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} holds no ganlib weights: {error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path} holds no ganlib weights: {error}") from None
    try:
        tables = {
            key: _checked_table(key, tensors.pop(f"tables.{key}")) for key in ("y", "z") if f"tables.{key}" in tensors
        }
        for key, tensor in tensors.items():
            if tensor.dtype != torch.float16:
                raise WeightsError(f"{key} is {tensor.dtype}, not float16")
            if not tensor.isfinite().all():
                raise WeightsError(f"{key} holds a number that is not finite")
        model.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, assign=True)
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged: {error}") from None
    mark = fingerprint(tensors | {f"tables.{key}": table for key, table in tables.items()})
    return Weights(path.stem, model.eval().requires_grad_(True), tables, mark, _read_stages(metadata))


class _Uninitialized(TorchFunctionMode):
    """Inside, torch.nn.init does nothing: tensors on the device "meta" have shapes but no numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.uniform_, torch.Tensor.normal_):
            return args[0]
        return function(*args, **(kwargs or {}))


def _read_config(metadata):
    """Configuration of a weights file, its numbers within bounds; WeightsError where it has none."""
    try:
        family, values = metadata.get("family", ""), json.loads(metadata["config"])
        if not family:  # files of format 1 have no knee: latents were clipped at 64
            values = {"context_knee": 64.0} | values
        return from_dict(model_class(family).Config, values)
    except KeyError:
        raise WeightsError("no configuration in its metadata") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"its configuration cannot be used: {error}") from None


def _read_stages(metadata):
    try:
        stages = json.loads(metadata.get("stages", "[]"))
    except (ValueError, RecursionError):
        return ()
    return tuple(stage for stage in stages if isinstance(stage, dict)) if isinstance(stages, list) else ()


def _compare(model, config, found):
    """WeightsError where names or shapes in a file ({name: shape}) are not those of the model."""
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    if hasattr(model, "entropy"):
        wanted["tables.y"] = SCALES, 2 * Y_LIMIT + 1
        if config.hyperprior:
            wanted["tables.z"] = config.hyper_channels, 2 * Z_LIMIT + 1
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise WeightsError(f"{name} should have shape {wanted.get(name)}, and has {found.get(name)}")


def _checked_table(name, table):
    """A table of frequencies, checked as FORMAT.md demands. Its shape is checked before."""
    if table.dtype != torch.int32:
        raise WeightsError(f"table {name} is {table.dtype}, not int32")
    if table.min() < 1 or (table.long().sum(dim=1) != TABLE_TOTAL).any():
        raise WeightsError(f"table {name}: frequencies must be positive, and each row must sum to {TABLE_TOTAL}")
    return table


def save_discriminator(discriminator, path, stages=()):
    """Write a Discriminator in float16.

    Args:
        discriminator: Discriminator.
        path: of the .safetensors file.
        stages: how it was trained, a list of dicts (see Weights).
    """
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in discriminator.state_dict().items()}
    metadata = {"format": "ganlib discriminator 1", "stages": json.dumps(list(stages))}
    with atomic_write(path) as part:
        part.write_bytes(save(tensors, metadata))


def load_discriminator(name):
    """Name of a shipped model, or path of a file -> Discriminator in training mode.

    By name it is the one to start stage two with, trained against the model's generator without realism.

    Raises:
        WeightsError: not found, damaged, or not what save_discriminator() writes.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        path = DISCRIMINATORS / f"{name}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise WeightsError("it holds a number that is not finite")
        discriminator = Discriminator(tensors["condition.0.parametrizations.weight.original"].shape[1])
        discriminator.load_state_dict(tensors)
    except (SafetensorError, OSError, KeyError, IndexError, RuntimeError, WeightsError) as error:
        raise WeightsError(f"{path} holds no discriminator of ganlib: {error}") from error
    return discriminator
