"""The parts of the model and their connections, found by running its code: names, shapes, sizes and arrows.

    CompressionModel, Discriminator --one pass--> boxes: one per child, with its inputs and outputs
                                                  arrows: the autograd graph, walked backwards from box to box

No name of a part of the model is written here, so the drawing from it (flowchart.py) always fits the code.
"""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from ganlib.model.compression_model import count_macs

SIDE = 256  # pixels of the square that is passed through


@dataclass(frozen=True)
class Box:
    """One child of a part of the model, or, without a part, a tensor that goes in or comes out."""

    name: str  # as in the code: "g_a.cnn"
    part: str = ""  # "g_a"; empty for tensors
    layers: str = ""  # what it is made of: "4 Conv2d, 3 MaxPool2d"
    shapes: str = ""  # "3x256x256 -> 192x16x16"
    parameters: int = 0
    macs: float = 0.0  # multiply-accumulates for each pixel of the image
    sources: tuple[str, ...] = field(default=(), compare=False)  # names of the boxes that it depends on directly


def _children(part, module):
    """(name, child) of one part of a model; a part without children is a box itself."""
    named = [(f"{part}.{name}", child) for name, child in module.named_children()]
    return named or [(part, module)]


def _layers(module):
    """The classes of a box's layers and how many of each, in order; a block with its own class counts as one."""
    inner = module if isinstance(module, (nn.Sequential, nn.ModuleList)) else [module]
    flat = [layer for child in inner for layer in (child if isinstance(child, nn.Sequential) else [child])]
    counts = Counter(type(layer).__name__.removeprefix("Parametrized") for layer in flat)
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items())


def _shape(tensor):
    return "x".join(map(str, tensor.shape[1:]))


@contextmanager
def _undisturbed(*networks):
    """Evaluation mode with gradients; afterwards the networks have their former modes again."""
    training = [network.training for network in networks]
    try:
        for network in networks:
            network.eval()
        with torch.enable_grad():
            yield
    finally:
        for network, mode in zip(networks, training):
            network.train(mode)


class _Recorder:
    """Hooks on every box that note what goes in and what comes out."""

    def __init__(self, boxes):
        self.into = {name: [] for name in boxes}  # tensors
        self.out = {name: [] for name in boxes}
        self.handles = []
        for name, module in boxes.items():
            # a ModuleList is never called, its elements are
            for called in module if isinstance(module, nn.ModuleList) else [module]:
                self.handles.append(called.register_forward_hook(self._note(name)))

    def _note(self, name):
        def hook(_, inputs, output):
            self.into[name] += [tensor for tensor in inputs if torch.is_tensor(tensor)]
            self.out[name].append(output)

        return hook

    def remove(self):
        for handle in self.handles:
            handle.remove()


def _sources(tensors, owner, own):
    """Names of the nearest owners of nodes that the tensors were computed from, without `own`."""
    found, seen = [], set()
    todo = [tensor.grad_fn if tensor.grad_fn is not None else tensor for tensor in tensors]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = owner.get(node) or owner.get(getattr(node, "variable", None))  # leaf tensors are inside AccumulateGrad
        if name and name != own:
            found.append(name)
        elif hasattr(node, "next_functions"):
            todo += [step for step, _ in node.next_functions]
    return found


def _direct(sources):
    """Without the arrows that follow from others: a -> c goes where a -> b -> c is."""

    def above(name, seen):
        for source in sources.get(name, ()):
            if source not in seen:
                seen.add(source)
                above(source, seen)
        return seen

    reach = {name: above(name, set()) for name in sources}
    return {
        name: tuple(dict.fromkeys(s for s in before if not any(s in reach.get(other, ()) for other in before)))
        for name, before in sources.items()
    }


def boxes(model, discriminator, side=SIDE):
    """Pass one picture through both networks and describe the boxes on its way.

    Args:
        model: CompressionModel, or a module that is called as one and gives a dict with "x_hat" and "y_hat".
        discriminator: Discriminator for its latents; named by its class.
        side: pixels of the square picture, a multiple of 64.

    Returns:
        List of Box, in the order in which they were reached; children that no pass reaches come last, "not reached"
        in place of their shapes. Parameters of the model that belong to no child are boxes too.
    """
    parts = {name: child for name, child in model.named_children()}
    parts[type(discriminator).__name__] = discriminator
    modules = {name: (part, child) for part, module in parts.items() for name, child in _children(part, module)}
    own = dict(model.named_parameters(recurse=False))
    device = next(model.parameters()).device

    inputs = {"x": torch.rand(1, 3, side, side, device=device), "quality": torch.full((1,), 50.0, device=device)}
    inputs["realism"] = torch.ones(1, device=device)
    for tensor in inputs.values():
        tensor.requires_grad_()
    with _undisturbed(model, discriminator):
        recorder = _Recorder({name: module for name, (_, module) in modules.items()})
        try:
            out = model(**inputs)
            judged = out["x_hat"], out["y_hat"] * model.inverse_gain(inputs["quality"])
            discriminator(*judged)
        finally:
            recorder.remove()
        macs = count_macs(model, *inputs.values())
        for path, count in count_macs(discriminator, *judged).items():
            macs[".".join(filter(None, (type(discriminator).__name__, path)))] = count
    results = {}
    for key, value in out.items():
        results |= {f"{key}[{k}]": v for k, v in value.items()} if isinstance(value, dict) else {key: value}

    # owner of each node of the autograd graph: inputs and parameters, boxes, and results that no box made
    owner = {tensor: name for name, tensor in (inputs | own).items()}
    for name, tensors in recorder.out.items():
        owner |= {tensor.grad_fn: name for tensor in tensors if tensor.grad_fn is not None}
    owner |= {tensor.grad_fn: name for name, tensor in results.items() if tensor.grad_fn not in owner}

    sources = {name: _sources(recorder.into[name], owner, name) for name in modules}
    for name, tensor in results.items():
        made = owner.get(tensor.grad_fn)
        sources[name] = [made] if made != name else _sources([tensor], {**owner, tensor.grad_fn: None}, name)
    direct = _direct(sources)

    found = [Box(name, shapes=_shape(tensor) or "1") for name, tensor in inputs.items()]
    found += [
        Box(name, type(model).__name__, shapes="x".join(map(str, p.shape)), parameters=p.numel())
        for name, p in own.items()
    ]
    reached = [name for name in recorder.out if recorder.out[name]]
    for name in [*reached, *(name for name in modules if name not in reached)]:
        part, module = modules[name]
        ends = (recorder.into[name], recorder.out[name])
        shapes = f"{_shape(ends[0][0])} -> {_shape(ends[1][-1])}" if all(ends) else "not reached"
        parameters = sum(p.numel() for p in module.parameters())
        found.append(Box(name, part, _layers(module), shapes, parameters, macs[name] / side**2, direct[name]))
    return found + [Box(name, shapes=_shape(tensor), sources=direct[name]) for name, tensor in results.items()]
