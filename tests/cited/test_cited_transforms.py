"""Song, Xie and Zou: what each idea promises."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import TRANSFORMS, small_codec, small_config, small_model

from ganlib.cited.map_coding import MapCoder, as_map
from ganlib.cited.song import SFT, SongAnalysis
from ganlib.cited.xie import Coupling, Flow, InvertibleConv
from ganlib.cited.zou import WindowAttention
from ganlib.codec import container
from ganlib.codec.range_coder import CorruptSymbols
from ganlib.codec.receptive_field import halos
from ganlib.config import STRIDE, preset
from ganlib.weights import coding_tables, model_class


@pytest.fixture(params=TRANSFORMS)
def name(request):
    return request.param


def analyse(model, x, quality=0.5):
    """g_a, which in Song takes the map as a fourth channel."""
    return model.g_a(
        torch.cat([x, torch.full_like(x[:, :1], quality)], dim=1) if model.config.family == "song" else x
    )


def test_shapes_and_the_names_of_the_field(name):
    model = small_model(name)
    out = model(torch.rand(2, 3, 64, 128), torch.tensor([0.0, 100.0]), torch.zeros(2))
    assert out["x_hat"].shape == (2, 3, 64, 128)
    assert out["y_hat"].shape == (2, 16, 4, 8)
    assert out["likelihoods"]["y"].shape == (2, 16, 4, 8) and out["likelihoods"]["z"].shape == (2, 4, 1, 2)
    for likelihood in out["likelihoods"].values():
        assert ((likelihood > 0) & (likelihood <= 1)).all()
    assert analyse(model, torch.rand(1, 3, 16, 48)).shape == (1, model.channels, 1, 3)


def test_gradient_reaches_every_parameter(name):
    model = small_model(name).train()
    x = torch.rand(4, 3, 64, 64)
    out = model(x, torch.tensor([10.0, 40.0, 60.0, 90.0]), torch.zeros(4))
    loss = (out["x_hat"] - x).square().mean() - sum(part.log().mean() for part in out["likelihoods"].values())
    loss.backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_higher_quality_takes_more_bytes(name, photo):
    codec = small_codec(name)
    sizes = [len(codec.compress(photo[:128, :128], quality)) for quality in (0, 50, 100)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_halos_are_as_wide_as_the_receptive_field(name):
    """Measured with the gradient: which pixels a latent depends on, and which latents a pixel depends on."""
    model, n = small_model(name), 26
    there, back = halos(model)
    for middle in (n // 2, n // 2 + 1, n // 2 + 3):  # windows of attention lie differently around each
        inside = slice(STRIDE * middle, STRIDE * (middle + 1))
        x = torch.rand(1, 3, STRIDE * n, STRIDE * n, requires_grad=True)
        analyse(model, x)[0, :, middle, middle].square().sum().backward()
        seen = x.grad[0].abs().sum(dim=0).nonzero() / STRIDE - middle
        assert -there <= seen.min() and seen.max() < there + 1
        y = torch.rand(1, model.channels, n, n, requires_grad=True)
        model.g_s(y, torch.tensor([50.0]), torch.zeros(1))[0, :, inside, inside].square().sum().backward()
        seen = y.grad[0].abs().sum(dim=0).nonzero() - middle
        assert -back <= seen.min() and seen.max() <= back


def test_shapes_whose_receptive_field_is_not_stated_are_refused():
    for name, fields in (("xie", ["encoder_blocks"]), ("zou-stf", ["encoder_blocks", "generator_blocks"])):
        for field in fields:
            with pytest.raises(ValueError, match="states how far"):
                dataclasses.replace(preset(name), **{field: (3, *getattr(preset(name), field)[1:])})


# Song


def test_the_map_reaches_both_transforms_beside_the_scales():
    """By the features that it conditions, where it no longer scales the latents, and not beyond the reach."""
    model = small_model("song")
    there, back = halos(model)
    for layer in (model.g_a.log_scale, model.g_s.log_scale):
        torch.nn.init.zeros_(layer.weight)
    side, changed = 16, slice(4, 8)  # latents of the picture, and those of one region of the map
    even = torch.full((1, 1, side, side), 0.5)
    map_of = even.clone()
    map_of[..., changed, changed] = 1.0
    x, y_hat = torch.rand(1, 3, STRIDE * side, STRIDE * side), torch.randn(1, 16, side, side).round()
    with torch.no_grad():
        y = [model.g_a(torch.cat([x, m.repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)], 1))[:, :-1]
             for m in (even, map_of)]  # fmt: skip
        x_hat = [model.g_s(torch.cat([y_hat, m], dim=1)) for m in (even, map_of)]
    for (one, other), cell, halo in ((y, 1, there), (x_hat, STRIDE, back)):
        differs = (one != other).any(dim=1)[0]
        assert differs[4 * cell : 8 * cell, 4 * cell : 8 * cell].float().mean() > 0.9
        assert not differs[(8 + halo) * cell :].any() and not differs[:, (8 + halo) * cell :].any()


def test_sft_scales_and_shifts_each_position_by_its_condition():
    layer = SFT(3, 2)
    x, condition = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 4, 4)
    once = layer(x, condition)
    assert torch.allclose(layer(2 * x, condition) - once, once - layer(0 * x, condition), atol=1e-5)  # affine in x
    other = condition.clone()
    other[:, :, 1, 2] += 1
    changed = (layer(x, other) != once).any(dim=1)[0]
    assert changed[1, 2] and changed.sum() == 1


def test_the_maps_scale_begins_where_ours_does():
    model, ours = model_class("song")(preset("song")), model_class("")(preset("mini"))
    for quality in (0.0, 37.0, 100.0):
        scale = model.g_a.log_scale(torch.full((1, 1, 1, 1), quality / 100)).exp()
        assert torch.allclose(scale, ours.gain(torch.tensor([quality])), rtol=1e-4)
        inverse = model.g_s.log_scale(torch.full((1, 1, 1, 1), quality / 100)).exp()
        assert torch.allclose(scale * inverse, torch.ones_like(scale), rtol=1e-4)


def test_lambda_follows_the_map():
    config = small_config("song")
    values = config.lambda_weight(torch.tensor([0.0, 50.0, 100.0]))
    assert torch.allclose(values, torch.tensor([config.lambda_low, 0.004, config.lambda_high]), rtol=1e-4)


def test_the_map_moves_bytes(photo):
    codec, pixels = small_codec("song"), np.tile(photo[:256, :256], (1, 2, 1))
    even = codec.compress(pixels, quality=50)
    assert codec.compress(pixels, quality=50, quality_map=np.zeros((3, 5))) == even
    left = codec.compress(pixels, quality=50, quality_map=[[40.0, -40.0]])
    more = codec.compress(pixels, quality=50, quality_map=np.full((1, 1), 40.0))
    assert len(more) > len(even)
    # latents of the left half have larger numbers where the map asks for more
    area = container.Index(left).header.area
    one, other = (codec.latents(container.Index(data), area)[0][:, :, :-1] for data in (left, even))
    half = one.shape[1] // 2
    assert np.abs(one[:, : half - 5]).mean() > 1.5 * np.abs(other[:, : half - 5]).mean()
    assert np.abs(one[:, half + 5 :]).mean() < 0.7 * np.abs(other[:, half + 5 :]).mean()


def test_the_map_travels_in_the_file(photo):
    codec, pixels = small_codec("song"), photo[:150, :200]
    offsets = np.array([[0.0, 53.0, -50.0, 11.0], [5.0, 5.0, 5.0, 5.0], [-100.0, 100.0, 0.0, 0.0]])
    data = codec.compress(pixels, quality=40, quality_map=offsets)
    y_hat, _ = codec.latents(container.Index(data), container.Index(data).header.area)
    expected = np.round((40 + offsets).clip(0, 100) * 2.55) / 255
    assert np.allclose(y_hat[::4, ::4, -1], expected, atol=1e-6)
    assert np.asarray(codec.decompress(data)).shape == (150, 200, 3)
    again = codec.compress(pixels, quality=40, quality_map=offsets.repeat(2, 0).repeat(2, 1))
    assert again == data  # however finely it is drawn


def test_the_map_may_be_bisected_with_a_target(photo):
    codec, pixels = small_codec("song"), photo[:128, :192]
    data = codec.compress(pixels, quality_map=[[30, 0, -30]], target_bytes=1500)
    assert 1200 < len(data) <= 1500


def test_maps_that_are_none_are_errors(photo):
    codec = small_codec("song")
    for wrong in ([1, 2], [[101]], [[float("nan")]], [[]]):
        with pytest.raises(ValueError, match="quality_map"):
            codec.compress(photo[:64, :64], quality_map=wrong)
    assert codec.offsets is None


def test_an_even_map_is_cheap_and_a_damaged_one_is_found():
    model = small_model("song")
    coder = MapCoder(model.entropy, coding_tables(model))
    y = torch.randn(20, 28, 17)
    y[..., -1] = 0.4
    data, y_hat = coder.encode(y)
    assert torch.equal(coder.decode(data, 20, 28), y_hat)
    assert torch.allclose(y_hat[..., -1], torch.full((20, 28), 0.4))
    for wrong in (b"", b"\xff" + data[1:], data[:3]):
        with pytest.raises(CorruptSymbols):
            coder.decode(wrong, 20, 28)
    with pytest.raises(CorruptSymbols, match="values"):
        coder.decode(data, 28, 28)


def test_a_latent_is_told_of_its_own_region_alone():
    """The map's borders are those of 64x64 pixels; nothing smears it before the convolutions do."""
    quality = torch.tensor([[[[0.0, 100.0]]]])
    plane = small_model("song").entropy.quality_plane(torch.zeros(1, 16, 4, 7), quality)
    assert plane[0, 0, 0].tolist() == [0, 0, 0, 0, 4, 4, 4]
    assert as_map(torch.tensor([7.0]), torch.zeros(1, 3, 64, 128)).tolist() == [[[[7.0, 7.0]]]]
    assert SongAnalysis(small_config("song"))(torch.rand(1, 4, 32, 32)).shape == (1, 17, 2, 2)


# Xie


@pytest.mark.parametrize(
    "channels, make", [(48, InvertibleConv), (768, InvertibleConv), (48, lambda n: Coupling(n, 4))]
)
@torch.no_grad()
def test_layers_invert_exactly(channels, make):
    torch.manual_seed(0)
    layer = make(channels)
    for weight in layer.parameters():
        weight.add_(0.05 * torch.randn_like(weight) / weight.shape[-1])
    v = torch.randn(2, channels, 3, 5)
    assert torch.allclose(layer.inverse(layer(v)), v, atol=1e-4)
    assert not torch.allclose(layer(v), v, atol=1e-2)


def test_without_squeeze_and_rounding_the_picture_comes_back():
    """To float precision, whatever the weights; and with the squeeze it does not."""
    model = small_model("xie")
    flow = model.g_a.flow
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    x = torch.rand(2, 3, 64, 80) - 0.5
    v = flow(x)
    assert v.shape == (2, 768, 4, 5)
    assert (flow.inverse(v) - x).abs().max() < 1e-4
    squeezed = v.unflatten(1, (-1, 16)).mean(dim=1).repeat(1, 48, 1, 1)
    assert (flow.inverse(squeezed) - x).abs().max() > 0.1


def test_the_flow_begins_as_a_rotation():
    flow = Flow(preset("xie"))
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(flow(x).norm(), x.norm(), rtol=1e-4)


def test_encoder_and_decoder_share_the_flow():
    model = small_model("xie")
    assert model.g_s.flow[0] is model.g_a.flow
    assert not [key for key in model.state_dict() if key.startswith("g_s.flow")]
    twin = copy.deepcopy(model)
    assert twin.g_s.flow[0] is twin.g_a.flow and twin.g_a.flow is not model.g_a.flow


def test_a_coupling_never_scales_by_more_than_e():
    layer = Coupling(16, 4)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(std=100)
        for network in (layer.h1, layer.h2):
            network[-1].weight.zero_()
            network[-1].bias.zero_()
    v = torch.rand(1, 16, 4, 4) + 1
    ratio = layer(v) / v
    assert ratio.min() >= 1 / np.e - 1e-5 and ratio.max() <= np.e + 1e-5 and ratio.std() > 0.5


def test_squeezing_what_was_repeated_gives_it_back():
    """y -> six equal channels each -> pixels -> y: without enhancement and attention, by the flow alone."""
    model, y = small_model("xie"), torch.randn(1, 16, 4, 4)
    for part in (model.g_a, model.g_s):
        part.enhance = torch.nn.Identity()
        channels = part.attention.channels
        part.attention = torch.nn.Identity()
        part.attention.channels = channels
    with torch.no_grad():
        assert torch.allclose(model.g_a(model.g_s(y)), y, atol=1e-4)


# Zou


def plain_attention(layer, x):
    """Attention of one window whose positions are all there, by the book: C,n -> C,n."""
    channels, n = x.shape
    qkv = F.conv2d(x[None, :, :, None], layer.qkv.weight, layer.qkv.bias)[0, :, :, 0]
    q, k, v = (part.unflatten(0, (layer.heads, -1)) for part in qkv.chunk(3))
    out, side = [], layer.window
    for head in range(layer.heads):
        scores = torch.empty(n, n)
        for i in range(n):
            for j in range(n):
                down, right = i // side - j // side + side - 1, i % side - j % side + side - 1
                bias = layer.bias[head, down * (2 * side - 1) + right]
                scores[i, j] = q[head, :, i] @ k[head, :, j] / (channels // layer.heads) ** 0.5 + bias
        out.append((scores.softmax(dim=1) @ v[head].T).T)
    return F.conv2d(torch.cat(out)[None, :, :, None], layer.leave.weight, layer.leave.bias)[0, :, :, 0]


@torch.no_grad()
def test_attention_is_that_of_the_book():
    layer = WindowAttention(8, 2, 4)
    x = torch.randn(1, 8, 8, 12)
    out = layer(x)
    for top in (0, 4):
        for left in (0, 4, 8):
            window = x[0, :, top : top + 4, left : left + 4].flatten(1)
            expected = plain_attention(layer, window).unflatten(1, (4, 4))
            assert torch.allclose(out[0, :, top : top + 4, left : left + 4], expected, atol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("at", [(0, 0), (3, 5), (9, 10), (5, 1)])
@torch.no_grad()
def test_attention_stays_inside_its_window(shift, at):
    """A pixel that changes outside of a window changes nothing inside, and one inside changes all of it."""
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, 4, shift)
    x = torch.randn(1, 8, 10, 11)  # the last windows are not full
    other = x.clone()
    other[:, :, at[0], at[1]] += 1
    changed = (layer(other) != layer(x)).any(dim=1)[0]
    window = [(n + shift) // 4 for n in at]
    rows, columns = ((torch.arange(size) + shift) // 4 == number for size, number in zip((10, 11), window))
    assert torch.equal(changed, rows[:, None] & columns[None])


@torch.no_grad()
def test_what_lies_beyond_the_edge_has_no_weight():
    """A picture of one position attends to itself alone: its value comes out, as if there were no window."""
    layer = WindowAttention(4, 1, 8)
    x = torch.randn(1, 4, 1, 1)
    value = F.conv2d(x, layer.qkv.weight[8:], layer.qkv.bias[8:])
    assert torch.allclose(layer(x), F.conv2d(value, layer.leave.weight, layer.leave.bias), atol=1e-6)


def test_the_two_forms_are_built_as_the_paper_says():
    cnn, stf = (model_class("zou")(preset(name)) for name in ("zou", "zou-stf"))
    attentions = {
        name: [(m.window, m.shift) for m in model.g_a.modules() if isinstance(m, WindowAttention)]
        for name, model in (("cnn", cnn), ("stf", stf))
    }
    assert attentions["cnn"] == [(8, 0), (4, 0)]
    assert attentions["stf"] == 4 * [(4, 0), (4, 2)]
