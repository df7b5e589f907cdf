"""CompressAI's steps, in the environment .bench: published architectures at quality 3, random weights.

    uint8 -> float, padded to 64 --model.compress--> strings --pack--> bytes of a stream
    uint8 <-- clamp, crop <--model.decompress-- strings <--unpack--

Random weights take the same time as trained ones in every layer, but not in the entropy coder. As PyTorch starts
them, every latent rounds to zero and y costs 0.001 bpp; with g_a's output a hundred times larger, four symbols of
five lie outside their tables, are escaped one by one and cost 12 to 16 bpp. So the last layer of each network is
normalized on the picture (see `calibrate`) to what is plausible at this rate: latents of which a few channels carry
nearly all bits, scales that fit them, and about 0.3 bpp. The shares of escaped and of zero symbols are reported.
"""

import math
import struct
import warnings

import meter
import numpy as np
import torch
import torch.nn.functional as F
from compressai.entropy_models import EntropyBottleneck
from compressai.ops import compute_padding
from compressai.zoo import image_models
from safetensors.torch import load_file, save_file
from torch import nn

QUALITY = 3  # of 8: about 0.3 bpp on photographs when trained
MULTIPLE = 64  # pixels; a side must be one, as in CompressAI's own evaluation
HEADER = struct.Struct(">IIHHII")  # height, width, rows and columns of z, bytes of y and of z
SEED = 1

# Standard deviation of channel c of y, in quantization steps: LARGEST * exp(-c / DECAY). A Gaussian of deviation s
# costs log2(4.13 s) bits, and next to nothing below 0.2: six channels for each factor of e come to some 60 bits for
# the 256 pixels of a position, 0.24 bpp.
LARGEST, DECAY = 8.0, 6.0
LEAST = 0.01  # of a channel that carries no information
SPREAD = 0.25  # of a scale around that of its channel, and of a mean around zero, in deviations of the channel
Z_DEVIATION = 0.5  # steps; with Z_SCALE it makes z cost 0.08 bpp, as they start 0.17, more than half of what y costs
Z_SCALE = 1.0  # steps, of the distributions of z; CompressAI starts at 10


def pin(layer, output, mean, deviation):
    """Make a layer's output have this mean and deviation in each channel, on the input that it has just seen.

    Args:
        layer: Conv2d or ConvTranspose2d.
        output: B,C,h,w, what it gave.
        mean, deviation: numbers, or C of them.

    Returns:
        What it would give now.
    """
    channels = output.shape[1]
    mean, deviation = (torch.as_tensor(t, dtype=torch.float32).expand(channels) for t in (mean, deviation))
    was = output.mean(dim=(0, 2, 3))
    factor = deviation / output.std(dim=(0, 2, 3)).clamp(min=1e-12)
    shape = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    layer.weight.data *= factor.view(shape)
    layer.bias.data = (layer.bias.data - was) * factor + mean
    return (output - was.view(1, -1, 1, 1)) * factor.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)


def last_convolution(network):
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]


def calibrate(model, x):
    """Normalize the last layers of g_a, h_a, of the network that predicts y, and of g_s, in one pass.

    Args:
        model: of compressai.zoo, as constructed. Changed in place; update() is still to be called.
        x: 1,3,H,W in [0, 1].

    Returns:
        y, scales, means: 1,M,h,w each, as its entropy model saw them; means are None where it has none.
    """
    deviation = (LARGEST * torch.exp(-torch.arange(model.M) / DECAY)).clamp(min=LEAST)
    predicted = deviation  # scales, then means where there are any
    spread = SPREAD * deviation
    parameters = getattr(model, "entropy_parameters", model.h_s)
    if last_convolution(parameters).out_channels == 2 * model.M:
        predicted, spread = torch.cat([deviation, torch.zeros(model.M)]), spread.repeat(2)
    targets = (
        (model.g_a, 0.0, deviation),
        (model.h_a, 0.0, Z_DEVIATION),
        (parameters, predicted, spread),
        (model.g_s, 0.5, 0.2),
    )  # g_s: a picture of middling contrast, so that no float on the way is infinite or denormal
    handles = [
        layer.register_forward_hook(lambda layer, _, output, m=mean, d=deviation: pin(layer, output, m, d))
        for layer, mean, deviation in ((last_convolution(network), m, d) for network, m, d in targets)
    ]
    seen = []
    handles.append(
        model.gaussian_conditional.register_forward_pre_hook(
            lambda _, args, kwargs: seen.extend((*args, kwargs.get("means"))), with_kwargs=True
        )
    )
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def symbol_shares(model, y, scales, means):
    """Shares of the symbols of y that lie outside their table, and that are zero."""
    coder = model.gaussian_conditional
    symbols = coder.quantize(y, "symbols", means).abs()
    limit = -coder.offset[coder.build_indexes(scales).long()]
    return {"escaped": (symbols > limit).float().mean().item(), "zero": (symbols == 0).float().mean().item()}


def as_input(picture):
    """H,W,3 uint8 -> 1,3,H',W' in [0, 1], sides padded with zeros to a multiple of 64."""
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return F.pad(x, compute_padding(*picture.shape[:2], min_div=MULTIPLE)[0])


def compress(model, picture):
    """H,W,3 uint8 -> bytes of a stream."""
    with torch.no_grad():
        coded = model.compress(as_input(picture))
    (y,), (z,) = coded["strings"]
    return HEADER.pack(*picture.shape[:2], *coded["shape"], len(y), len(z)) + y + z


def decompress(model, data):
    """Bytes of a stream -> H,W,3 uint8."""
    height, width, rows, columns, y_bytes, z_bytes = HEADER.unpack_from(data)
    z_at = HEADER.size + y_bytes
    strings = [[data[HEADER.size : z_at]], [data[z_at : z_at + z_bytes]]]
    with torch.no_grad():
        x_hat = model.decompress(strings, (rows, columns))["x_hat"][0]
    cropped = F.pad(x_hat, compute_padding(height, width, min_div=MULTIPLE)[1])
    return (cropped.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def prepare(job):
    """Make the weights, once for both directions, and count arithmetic on a part of the picture."""
    torch.manual_seed(SEED)
    model = image_models[job.codec](quality=QUALITY, pretrained=False)
    model.entropy_bottleneck = EntropyBottleneck(model.N, init_scale=Z_SCALE)
    picture = job.picture
    seen = calibrate(model.eval(), as_input(picture))
    model.update(force=True, update_quantiles=True)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, job.file("safetensors"))
    part = np.ascontiguousarray(picture[:256, :256])  # every pixel costs the same: no tiles, no margins
    pixels = math.prod(as_input(part).shape[2:])
    data = compress(model, part)
    return {
        "torch": torch.__version__,
        "quality": QUALITY,
        **symbol_shares(model, *seen),
        "encode_kmac": meter.kmacs_per_pixel(lambda: compress(model, part), pixels),
        "decode_kmac": meter.kmacs_per_pixel(lambda: decompress(model, data), pixels),
    }


def load(job):
    torch.set_num_threads(job.threads)
    model = image_models[job.codec](quality=QUALITY, pretrained=False)
    model.load_state_dict(load_file(job.file("safetensors")))
    return model.eval()


def encode(job):
    model, picture = load(job), job.picture
    return lambda: compress(model, picture)


def decode(job):
    model, data = load(job), job.file("stream").read_bytes()
    return lambda: decompress(model, data)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning)
    meter.main(prepare, encode, decode)
