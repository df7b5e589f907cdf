"""Networks that judge pictures as people do: LPIPS over AlexNet, DISTS over VGG16, and VGG16's own features.

    x --normalize--> conv, ReLU, pool ... --> features --distance to those of x_hat--> LPIPS, DISTS
                                                       \\--mean over a patch--> Frechet distance

The packages would download AlexNet and VGG16 at first use. Their convolutions are small enough to be
files of this project, so training and measuring need no internet. The fully connected layers are left out, since no
metric needs them. The files are in float16, which changes a distance by 0.2 % at most (data/weights/README.md).
"""

import contextlib
import functools
import types
import warnings
from unittest import mock

import torch
import torchvision
from safetensors.torch import load_file

from ganlib.config import DATA

FOLDER = DATA / "weights" / "perceptual"
ALEXNET = FOLDER / "alexnet.safetensors"
VGG16 = (FOLDER / "vgg16_blocks_1_to_4.safetensors", FOLDER / "vgg16_block_5.safetensors")
DISTS = FOLDER / "dists.safetensors"  # what each feature counts: alpha and beta, 1,475,1,1 float32
FILES = (ALEXNET, *VGG16, DISTS)

RELU5_3 = 30  # layers of VGG16's features up to its last activation; a max-pooling would follow
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G, B in [0, 1]


def _stored(*files):
    """Tensors of weights files, {name: float32}."""
    return {name: tensor.float() for file in files for name, tensor in load_file(file).items()}


@contextlib.contextmanager
def _building():
    """Inside, packages may draw random numbers and warn of renamed arguments without an effect on the caller."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def load_lpips():
    """LPIPS over AlexNet (Zhang et al. 2018; package `lpips`, version 0.1), frozen.

    Returns:
        A module: (B,3,H,W in [0, 1], the same, normalize=True) -> B,1,1,1, 0 where the two are alike.
    """
    import lpips  # here, because it imports scipy and matplotlib

    with _building():
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = _stored(ALEXNET)
    weights = {}
    for name in network.net.state_dict():  # "slice1.0.weight": the number is the layer's place in AlexNet
        _, layer, kind = name.split(".")
        weights[name] = features[f"features.{layer}.{kind}"]
    network.net.load_state_dict(weights)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


@functools.cache
def _vgg16_features():
    """VGG16's layers up to relu5_3 (Simonyan and Zisserman 2014), frozen, with torchvision's ImageNet weights."""
    with torch.device("meta"):  # half a gigabyte of fully connected layers is never allocated
        features = torchvision.models.vgg16(weights=None, init_weights=False).features[:RELU5_3]
    weights = {name.removeprefix("features."): tensor for name, tensor in _stored(*VGG16).items()}
    features.load_state_dict(weights, assign=True)
    return features.requires_grad_(False).eval().to(memory_format=torch.channels_last)


@functools.cache
def load_dists():
    """DISTS over VGG16 (Ding et al. 2020; package `DISTS_pytorch`), frozen.

    Returns:
        A module: (B,3,H,W in [0, 1], the same) -> B numbers, or one where B is 1.
    """
    from DISTS_pytorch import DISTS_pt

    # The package asks torchvision for a pretrained VGG16, which begins a download: it receives ours instead.
    ours = types.SimpleNamespace(vgg16=lambda pretrained: types.SimpleNamespace(features=_vgg16_features()))
    with _building(), mock.patch.object(DISTS_pt, "models", ours):
        network = DISTS_pt.DISTS(load_weights=False)
    network.load_state_dict(network.state_dict() | _stored(DISTS))
    return network.requires_grad_(False).eval()


@functools.cache
def load_vgg16():
    """VGG16's features relu5_3, behind ImageNet's normalization, frozen.

    Returns:
        A module: B,3,H,W in [0, 1] -> B,512,H/16,W/16.
    """
    normalize = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    return torch.nn.Sequential(normalize, *_vgg16_features()).eval()
