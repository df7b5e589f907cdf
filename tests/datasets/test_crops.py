"""Training crops: which, in which order, and from which files."""

import io
import logging

import numpy as np
import pytest
from download_server import PHOTOGRAPH, noise, png
from PIL import Image

from ganlib.datasets import (
    Crops,
    NoImagesError,
)


@pytest.fixture
def folder(tmp_path):
    """Seven noisy images, each recognizable by the red of all its pixels."""
    for i in range(7):
        pixels = noise(40 + i, 60 - i, i)
        pixels[..., 0] = 10 * i
        (tmp_path / f"{i}.png").write_bytes(png(pixels))
    return tmp_path


def source_of(item):
    return int(item[0][0, 0, 0])


def same(a, b):
    return np.array_equal(a[0], b[0]) and a[1] == b[1]


def test_an_item_is_a_crop_and_a_quality(folder):
    crops = Crops([folder], side=32, seed=0)
    mirrored = set()
    for i in range(30):
        x, quality = crops[i]
        assert tuple(x.shape) == (3, 32, 32) and str(x.dtype) == "torch.uint8"
        assert quality.dtype == np.float32 and 0 <= quality <= 100
        original = np.asarray(Image.open(folder / f"{source_of((x, quality)) // 10}.png"))
        crop = x.numpy().transpose(1, 2, 0)
        windows = np.lib.stride_tricks.sliding_window_view(original, (32, 32, 3))[:, :, 0]
        plain, flipped = ((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))
        assert plain or flipped
        mirrored.add(bool(flipped))
    assert mirrored == {False, True}


@pytest.mark.parametrize("i", [0, 1, 6, 7, 20, 1_000_003])
def test_item_i_of_a_fresh_object_is_that_of_one_in_use(folder, i):
    used = Crops([folder], side=16, seed=3)
    for j in (5, 0, 33, 12):
        used[j]
    assert same(Crops([folder], side=16, seed=3)[i], used[i])


def test_another_seed_and_another_item_are_another_crop(folder):
    crops, other = Crops([folder], side=16, seed=0), Crops([folder], side=16, seed=1)
    assert not any(same(crops[i], other[i]) for i in range(10))
    assert not any(same(crops[i], crops[j]) for i in range(10) for j in range(i))
    assert not any(same(crops[i], crops[i + 7 * 5]) for i in range(10))


def test_each_epoch_visits_every_file_once_in_an_order_of_its_own(folder):
    crops = Crops([folder], side=16, seed=0)
    epochs = [[source_of(crops[7 * epoch + i]) for i in range(7)] for epoch in range(5)]
    for epoch in epochs:
        assert sorted(epoch) == [0, 10, 20, 30, 40, 50, 60]
    assert len(set(map(tuple, epochs))) > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_is_what_checkpoints_of_old_were_trained_in(folder, seed):
    crops = Crops([folder], side=16, seed=seed)
    for epoch in range(3):
        order = np.random.default_rng([seed, epoch]).permutation(7)
        assert [source_of(crops[7 * epoch + i]) for i in range(7)] == [10 * n for n in order]


@pytest.mark.parametrize("height, width", [(5, 7), (1, 1), (40, 3), (3, 40)])
def test_a_small_image_is_mirrored_up_to_size(tmp_path, height, width):
    pixels = noise(height, width)
    (tmp_path / "small.png").write_bytes(png(pixels))
    padded = np.pad(pixels, [(0, max(0, 16 - height)), (0, max(0, 16 - width)), (0, 0)], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (16, 16, 3))[:, :, 0]
    for i in range(4):
        crop = Crops([tmp_path], side=16, seed=0)[i][0].numpy().transpose(1, 2, 0)
        assert any((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))


def test_gray_and_transparent_images_are_read_as_rgb(tmp_path):
    Image.fromarray(noise(20, 20)[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(np.dstack([noise(20, 20), noise(20, 20)[..., :1]])).save(tmp_path / "alpha.png")
    crops = Crops([tmp_path], side=16, seed=0)
    assert {tuple(crops[i][0].shape) for i in range(2)} == {(3, 16, 16)}


def flat(path, side=16):
    """The one colour of a picture of one colour, as training sees it."""
    crop = Crops([path], side=side, seed=0)[0][0]
    (colour,) = {tuple(pixel) for pixel in crop.flatten(1).T.tolist()}
    return colour


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("transparency", [None, 65535])
def test_16_bits_of_gray_are_rounded_to_8(tmp_path, suffix, transparency):
    more = {"transparency": transparency} if suffix == "png" and transparency else {}
    Image.fromarray(np.full((20, 20), 20000, np.uint16)).save(tmp_path / f"gray.{suffix}", **more)
    assert flat(tmp_path) == (78, 78, 78)  # 20000 * 255 / 65535


def test_what_is_transparent_is_white_as_in_the_codec(tmp_path):
    Image.new("RGBA", (20, 20), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert flat(tmp_path) == (255, 255, 255)


def test_a_picture_on_its_side_is_turned_as_in_the_codec(tmp_path):
    pixels = noise(16, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "side.png", exif=exif)
    crop = Crops([tmp_path], side=32, seed=0)[0][0].numpy().transpose(1, 2, 0)
    upright = np.pad(np.rot90(pixels, -1), [(0, 0), (0, 16), (0, 0)], mode="symmetric")
    assert np.array_equal(crop, upright) or np.array_equal(crop, upright[:, ::-1])


def test_a_picture_beyond_the_size_that_is_read_at_once(tmp_path, monkeypatch):
    from ganlib.codec import image_io

    monkeypatch.setattr(image_io, "LARGE", 1)
    pixels = noise(40, 50)
    (tmp_path / "large.png").write_bytes(png(pixels))
    crop = Crops([tmp_path], side=16, seed=0)[0][0].numpy().transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (16, 16, 3))[:, :, 0]
    assert any((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))


def test_an_unreadable_file_is_left_out_and_logged(folder, caplog):
    (folder / "broken.png").write_bytes(PHOTOGRAPH[:100])
    with caplog.at_level(logging.WARNING, "ganlib"):
        crops = Crops([folder], side=16, seed=0)
    assert len(crops.files) == 7
    assert [record for record in caplog.records if "left out" in record.message and "broken.png" in record.message]


def test_a_jpeg_that_is_cut_off_does_not_stop_training(folder, caplog):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:-500])  # its header is sound, so it opens
    with caplog.at_level(logging.WARNING, "ganlib"):
        crops = Crops([folder], side=16, seed=0)
        items = [crops[i] for i in range(16)]
    assert {source_of(item) for item in items[:8]} == {0, 10, 20, 30, 40, 50, 60}
    assert len([record for record in caplog.records if "cut.jpg" in record.message]) == 1
    assert all(same(Crops([folder], side=16, seed=0)[i], item) for i, item in enumerate(items))


def test_a_folder_without_a_readable_image_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(NoImagesError, match=f"none of the 2 images in {tmp_path} can be read"):
        Crops([tmp_path], side=16, seed=0)


def test_images_that_vanish_during_training_are_an_error_not_a_loop(folder):
    crops = Crops([folder], side=16, seed=0)
    for path in crops.files:
        path.unlink()
    with pytest.raises(NoImagesError, match="can be decoded"):
        crops[0]
