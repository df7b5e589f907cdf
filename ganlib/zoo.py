"""Trained weights: one safetensors file a model, with its config, its tables and the name it goes by."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ganlib.codec.codec import Codec
from ganlib.config import ModelConfig, from_dict
from ganlib.model.entropy_model import SCALES, Y_LIMIT, Z_LIMIT, gaussian_likelihood, index_to_scale
from ganlib.model.integer_layers import ExactConv2d, integer_table
from ganlib.model.compression_model import CompressionModel

WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "weights"


class WeightsError(ValueError):
    """A weights file is missing, damaged or of another kind."""


def coding_tables(model):
    """The integer tables of a trained model: 64 Gaussians for y, one distribution a channel for z."""
    with torch.no_grad():
        symbols = torch.arange(-Y_LIMIT, Y_LIMIT + 1, dtype=torch.float64)
        scales = index_to_scale(torch.arange(SCALES, dtype=torch.float64))
        y = gaussian_likelihood(symbols, scales[:, None])
        channels = model.config.hyper_channels
        z_symbols = torch.arange(-Z_LIMIT, Z_LIMIT + 1, dtype=torch.float64)
        z = model.entropy.prior.double()(z_symbols.expand(1, channels, 1, -1))[0, :, 0]
        model.entropy.prior.float()
    return {"y": integer_table(y), "z": integer_table(z)}


def fingerprint(tensors):
    """First 8 bytes of SHA-256 over what steers the decoding of symbols: h_s, contexts, gains and tables.

    g_a and g_s are left out: a generator that is trained further rebuilds the same latents from the same file.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(("entropy.h_s.", "entropy.contexts.", "tables.", "log_inverse_gain")):
            tensor = tensors[name].contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.digest()[:8]


def save_weights(model, path, note="", tables=None):
    """Write a model in float16 with its integer tables.

    Args:
        model: CompressionModel.
        path: of the .safetensors file.
        note: how it was trained.
        tables: those that the model was loaded with, where its entropy model has not been trained further: made
            anew on another machine they might differ in the last bit, and old files would not decode. None makes
            them, from the rounded weights.
    """
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in model.state_dict().items()}
    rounded = CompressionModel(model.config)
    rounded.load_state_dict({name: t.float() for name, t in tensors.items()})
    for name, layer in rounded.named_modules():
        if isinstance(layer, ExactConv2d):  # what a decoder computes with, for any decoder to take as it is
            weight, bias = layer.rounded()
            tensors |= {f"{name}.weight": weight.half().contiguous(), f"{name}.bias": bias.half()}
    if tables is None:
        tables = coding_tables(rounded)
    tensors |= {f"tables.{name}": table for name, table in tables.items()}
    metadata = {"format": "ganlib weights 1", "config": json.dumps(dataclasses.asdict(model.config)), "note": note}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata=metadata)
    os.replace(part, path)


def find_weights(name):
    """Name of a shipped model, or path of a weights file -> Path; WeightsError lists what there is."""
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise WeightsError(f"{path} does not exist")
        return path
    shipped = WEIGHTS / f"{name}.safetensors"
    if not shipped.is_file():
        names = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors"))) or "none"
        raise WeightsError(f"no model {name!r} in {WEIGHTS} (there: {names}); train one, or give a .safetensors file")
    return shipped


def load_weights(name):
    """Name or path -> (CompressionModel in eval mode, tables, fingerprint, note).

    Raises:
        WeightsError: not found, or not a file that save_weights() wrote.
    """
    path = find_weights(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        config = from_dict(ModelConfig, {"context_knee": 64.0} | json.loads(metadata["config"]))
        model = CompressionModel(config)
        tables = {key: tensors[f"tables.{key}"] for key in ("y", "z")}
        weights = {key: t.float() for key, t in tensors.items() if not key.startswith("tables.")}
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{path} holds no ganlib weights: {error}") from error
    return model.eval(), tables, fingerprint(tensors), metadata.get("note", "")


def load_codec(name="light", device="cpu", precision="auto"):
    """A codec with shipped weights, or with those of a .safetensors file. Needs no network. (See Codec.)"""
    model, tables, mark, _ = load_weights(name)
    return Codec(model, tables, mark, device, precision)
