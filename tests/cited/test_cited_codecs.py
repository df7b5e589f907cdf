"""What all five codecs share: files of every size that decode, errors, regions, metadata, salvage."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from small_models import NAMES, RECURRENTS, TRANSFORMS, small_codec, small_config

import ganlib
from ganlib import BitstreamError, ImageError, TargetSizeError, cited
from ganlib.cited.complexity import kmacs_per_pixel
from ganlib.cited.recurrent_codec import RecurrentCodec
from ganlib.codec import container
from ganlib.codec.geometry import Area
from ganlib.codec.receptive_field import halos
from ganlib.config import ModelConfig, from_dict, preset
from ganlib.weights import WeightsError, model_class, save_weights

SIZES = [(1, 1), (1, 70), (16, 16), (17, 65), (100, 64), (131, 200)]


@pytest.fixture(params=NAMES)
def codec(request):
    return small_codec(request.param)


@pytest.mark.parametrize("name", ["toderici", "song", "xie"])
def test_another_precision_is_refused_and_files_decode_whoever_reads_them(name, photo):
    for precision in ("bf16", "fp8"):
        with pytest.raises(ValueError, match=f"precision='{precision}': models of ganlib.cited run in float32"):
            ganlib.load_codec(name, precision=precision)
    codec = ganlib.load_codec(name, precision="no")
    assert codec.precision == ganlib.load_codec(name, precision="auto").precision == "no"
    data = codec.compress(photo[:64, :64], quality=20)
    half = ganlib.load_codec("tiny", precision="bf16")
    assert np.array_equal(half.decompress(data), codec.decompress(data))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_size_comes_back(codec, photo, size):
    pixels = photo[: size[0], : size[1]]
    data = codec.compress(pixels, quality=70)
    header = container.Index(data).header
    assert (header.height, header.width, header.channels) == (*size, 3)
    assert header.fingerprint == codec.fingerprint
    image = codec.decompress(data)
    assert image.mode == "RGB" and image.size == size[::-1]
    assert np.array_equal(codec.decompress(data, realism=1.0), image)


def test_gray_comes_back_gray(codec, photo):
    image = codec.decompress(codec.compress(photo[:40, :50, 0]))
    assert image.mode == "L" and image.size == (50, 40)


def test_equal_pictures_give_equal_files_and_other_threads_too(codec, photo, one_thread_then_two):
    one, two = one_thread_then_two(lambda: codec.compress(photo[:70, :90], quality=20))
    assert one == two


def test_metadata_survives_and_may_be_left_out(codec, photo):
    image = Image.fromarray(photo[:32, :32])
    image.info["icc_profile"] = b"a profile"
    kept = codec.decompress(codec.compress(image))
    assert kept.info["icc_profile"] == b"a profile"
    assert "icc_profile" not in codec.decompress(codec.compress(image, metadata=False)).info


def test_a_region_is_the_same_pixels(codec, photo):
    data = codec.compress(photo[:200, :230])
    whole = np.asarray(codec.decompress(data)).astype(int)
    part = np.asarray(codec.decompress(data, region=(101, 37, 190, 155)))
    assert part.shape == (118, 89, 3)
    assert np.abs(part - whole[37:155, 101:190]).max() <= 1
    with pytest.raises(ValueError, match="within"):
        codec.decompress(data, region=(0, 0, 231, 10))


def test_out_is_written_to_and_strips_are_the_same(codec, photo):
    data = codec.compress(photo[:90, :70])
    image = np.asarray(codec.decompress(data))
    out = np.zeros((90, 70, 3), np.uint8)
    assert codec.decompress(data, out=out) is out
    assert np.array_equal(out, image)
    assert np.array_equal(codec.strips(data).into(), image)


def test_any_flipped_byte_is_found(codec, photo):
    data = codec.compress(photo[:48, :80])
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(damaged))


def test_nothing_and_noise_are_no_files(codec):
    for data in (b"", b"\x89GIC", bytes(1000), np.random.default_rng(0).bytes(1000)):
        with pytest.raises(BitstreamError):
            codec.decompress(data)


def test_other_weights_are_refused(photo):
    for name, other in (("toderici", "islam"), ("xie", "zou"), ("toderici", "xie"), ("song", "islam")):
        with pytest.raises(BitstreamError):
            small_codec(other).decompress(small_codec(name).compress(photo[:32, :32]))


def test_target_bytes_is_met_from_below(codec, photo):
    pixels = photo[:128, :128]
    sizes = [len(codec.compress(pixels, quality)) for quality in (0, 100)]
    target = sum(sizes) // 2
    assert sizes[0] <= len(codec.compress(pixels, target_bytes=target)) <= target
    assert codec.compress(pixels, target_bpp=8 * target / 128**2) == codec.compress(pixels, target_bytes=target)
    with pytest.raises(TargetSizeError):
        codec.compress(pixels, target_bytes=40)
    with pytest.raises(ValueError, match="not both"):
        codec.compress(pixels, target_bytes=1000, target_bpp=1)


def test_wrong_arguments_are_errors(codec, photo):
    with pytest.raises(ValueError, match="0 to 100"):
        codec.compress(photo[:16, :16], quality=101)
    with pytest.raises(ImageError):
        codec.compress(np.zeros((4, 4, 4), np.uint8))
    small = codec.compress(photo[:20, :20])
    assert codec.window >= 16  # of all of them, though the recurrent ones do not use it
    before, codec.max_pixels = codec.max_pixels, 100
    try:
        with pytest.raises(BitstreamError, match="max_pixels"):
            codec.decompress(small)
    finally:
        codec.max_pixels = before


@pytest.mark.parametrize("name", TRANSFORMS)
def test_windows_change_nothing(name, photo):
    codec = small_codec(name)
    pixels = np.tile(photo[:72, :440], (1, 6, 1))  # so long that it is no longer worked on in one piece
    data = codec.compress(pixels)
    whole = np.asarray(codec.decompress(data)).astype(int)
    before, codec.window = codec.window, 64
    try:
        area = Area.of_picture(*pixels.shape[:2])
        assert len(codec._windows_of(codec.model)._cut(area, area, max(halos(codec.model)))[0]) > 1
        in_parts, file_in_parts = np.asarray(codec.decompress(data)), codec.compress(pixels)
    finally:
        codec.window = before
    assert np.abs(in_parts - whole).max() <= 1
    assert abs(len(file_in_parts) - len(data)) <= 0.001 * len(data)  # a latent may be rounded otherwise


def test_load_codec_and_preset_know_the_names():
    for name in cited.NAMES:
        assert preset(name).name == name
    assert isinstance(small_codec("islam"), RecurrentCodec)
    assert preset("zou-stf").transformer
    with pytest.raises(ValueError, match="choose one of light, tiny, before, mini, toderici"):
        preset("balle")
    with pytest.raises(ValueError, match="no family"):
        model_class("balle")


@pytest.mark.parametrize("name", NAMES)
def test_configurations_survive_their_own_words(name):
    config = small_config(name)
    assert from_dict(type(config), json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_a_file_of_weights_of_an_unknown_family_is_refused(tmp_path):
    model = model_class("")(preset("tiny"))
    save_weights(model, tmp_path / "good.safetensors")
    with safe_open(tmp_path / "good.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        metadata = file.metadata()
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata | {"family": "balle"})
    with pytest.raises(WeightsError, match="no family"):
        ganlib.load_codec(tmp_path / "bad.safetensors")
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata | {"family": "xie"})
    with pytest.raises(WeightsError):
        ganlib.load_codec(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", RECURRENTS + TRANSFORMS)
def test_salvage_keeps_what_is_whole(name, photo):
    codec = small_codec(name)
    data = codec.compress(photo[:64, :64], quality=100)
    whole = np.asarray(codec.decompress(data))
    picture, there = codec.decompress(data, salvage=True)
    assert there.all() and np.array_equal(picture, whole)
    assert there.shape == (64, 64)


def test_sizes_of_the_shipped_miniatures():
    """At most 4 MB each in float16, and comparable work: what the presets promise."""
    mini = kmacs_per_pixel(model_class("")(ModelConfig(**vars(preset("mini")))))
    for name in cited.NAMES + ("zou-stf",):
        config = preset(name)
        model = model_class(config.family)(config)
        assert 2 * sum(weight.numel() for weight in model.parameters()) < 3.8e6
        if name not in RECURRENTS:
            assert 0.8 < kmacs_per_pixel(model) / mini < 1.2
