"""Networks that look at pictures as people do: LPIPS over AlexNet, DISTS over VGG16, and VGG16's features."""

import functools
import importlib.metadata
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

from ganlib.config import DATA

ALEXNET = DATA / "weights" / "perceptual" / "alexnet.safetensors"
VGG16 = "vgg16-397923af.pth"  # torchvision's name, with the start of its SHA-256
RELU5_3 = 30  # layers of VGG16's features up to its last activation; a max-pooling would follow


VGG16_REMEDY = (
    "fetch VGG16 once, 528 MB, with "
    "python -c \"import torchvision; torchvision.models.vgg16(weights='IMAGENET1K_V1')\""
)


class MissingNetworkError(RuntimeError):
    """A pretrained network is not on this machine."""


@functools.cache
def load_lpips():
    """LPIPS over AlexNet (Zhang et al. 2018; package `lpips`, version 0.1), frozen.

    The package would download AlexNet at first use. Its convolutions are small enough to travel with this
    project, so training and measuring need no network. They are stored in float16: 0.2 % of the distance at most.

    Returns:
        A module: (B,3,H,W in [0, 1], the same, normalize=True) -> B,1,1,1, 0 where the two are alike.
    """
    import lpips  # here, because it imports scipy and matplotlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision renamed the arguments that the package uses
        judge = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = load_file(ALEXNET)
    weights = {}
    for name in judge.net.state_dict():  # "slice1.0.weight": the number is the layer's place in AlexNet
        _, layer, kind = name.split(".")
        weights[name] = features[f"features.{layer}.{kind}"].float()
    judge.net.load_state_dict(weights)
    return judge.requires_grad_(False).to(memory_format=torch.channels_last)


def vgg16_file():
    """Where torchvision keeps VGG16, a Path; the file may be missing."""
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG16


def has_vgg16():
    """Whether DISTS and the Frechet distance can be measured without a download."""
    return vgg16_file().is_file()


def _require_vgg16():
    """MissingNetworkError where a package would begin to download half a gigabyte unasked."""
    if not has_vgg16():
        raise MissingNetworkError(
            f"{vgg16_file()} is missing, which DISTS and the Frechet distance need: {VGG16_REMEDY}"
        )


@functools.cache
def load_dists():
    """DISTS over VGG16 (Ding et al. 2020; package `DISTS_pytorch`), frozen.

    Returns:
        A module: (B,3,H,W in [0, 1], the same) -> B numbers, or one where B is 1.

    Raises:
        MissingNetworkError: says how to get VGG16.
    """
    _require_vgg16()
    from DISTS_pytorch import DISTS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = DISTS(load_weights=False)
    # the package looks in sys.prefix, which is not where every pip puts the file
    files = importlib.metadata.files("DISTS_pytorch") or []
    path = next(file for file in files if file.name == "weights.pt").locate()
    judge.load_state_dict(torch.load(path, weights_only=True), strict=False)
    return judge.requires_grad_(False).eval().to(memory_format=torch.channels_last)


@functools.cache
def load_vgg16():
    """VGG16's convolutions up to relu5_3 (Simonyan and Zisserman 2014), behind ImageNet's normalization.

    Returns:
        A module: B,3,H,W in [0, 1] -> B,512,H/16,W/16.

    Raises:
        MissingNetworkError: says how to get it.
    """
    _require_vgg16()
    import torchvision

    class Normalize(torch.nn.Module):
        def forward(self, x):
            return torchvision.transforms.functional.normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    features = torchvision.models.vgg16(weights="IMAGENET1K_V1").features[:RELU5_3]
    for layer in features:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
    network = torch.nn.Sequential(Normalize(), *features)
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)
