"""Which data sets there are, and which pictures are in a folder or in scikit-image."""

import importlib.metadata
import re

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers JPEG XL
import pytest
import torchvision
from PIL import Image

from ganlib import datasets
from ganlib.datasets import (
    Crops,
    NoImagesError,
    UnknownSourceError,
    describe,
    embedded,
    fetch,
    image_files,
    sources,
)


def test_every_source_says_what_it_is():
    assert {"kodak", "clic2020", "div2k", "imagenet-subset"} <= set(datasets.SOURCES)
    for name in datasets.SOURCES:
        source = describe(name)
        assert source.purpose in ("training", "measuring") and source.images > 0 and source.licence
        assert source.url.startswith("https://")
        for file in source.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0 and file.url.startswith("https://")


def test_no_file_and_no_checksum_is_listed_twice():
    files = [file for source in datasets.SOURCES.values() for file in source.files]
    assert len({file.sha256 for file in files}) == len({file.url for file in files}) == len(files)


def test_kodak_is_24_files_of_15_megabytes():
    source = describe("kodak")
    assert [file.name for file in source.files] == [f"kodim{i:02}.png" for i in range(1, 25)]
    assert 15 < source.megabytes < 16
    assert source.files[0].size == 736501


def test_the_imagenet_subset_is_the_one_that_torchvision_names():
    url, _ = torchvision.datasets.Imagenette._ARCHIVES["320px"]
    assert [file.url for file in describe("imagenet-subset").files] == [url]


@pytest.mark.parametrize("ask", [describe, fetch])
def test_an_unknown_name_lists_the_known_ones(ask):
    with pytest.raises(UnknownSourceError, match="'kodac'.*kodak, clic2020"):
        ask("kodac")


# ---------------------------------------------------------------- downloads

# ---------------------------------------------------------------- embedded images


def test_the_embedded_images_are_rgb_photographs():
    photographs = embedded()
    assert {"astronaut", "chelsea", "coffee", "rocket", "motorcycle_left"} <= set(photographs)
    for pixels in photographs.values():
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) >= 256
        assert pixels.flags.writeable  # or torch.from_numpy would warn
        assert any((pixels[..., 0] != pixels[..., c]).mean() > 0.1 for c in (1, 2))  # not gray


def test_the_embedded_images_are_those_of_scikit_image():
    from skimage import data

    photographs = embedded()
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        assert np.array_equal(photographs[name], getattr(data, name)())


def test_the_embedded_images_lie_in_the_package_itself():
    shipped = {str(path) for path in importlib.metadata.files("scikit-image")}
    assert {f"skimage/data/{file}" for file in sources.EMBEDDED.values()} <= shipped


def test_an_embedded_image_that_is_gone_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sources.EMBEDDED, "eagle", "eagle_that_is_not_there.png")
    with pytest.raises(NoImagesError, match="lacks eagle_that_is_not_there.png.*requirements.txt"):
        embedded()


# ---------------------------------------------------------------- files and crops


def test_image_files_finds_images_in_sub_folders_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "sub/a.jpeg", "notes.txt", "one.png.part", "._b.png", "paper.pdf", "small.gic"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == [tmp_path / "b.PNG", tmp_path / "sub" / "a.jpeg"]
    assert image_files(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]


def test_every_format_that_the_codec_reads_is_trained_on(tmp_path):
    names = ("a.jp2", "b.gif", "c.tga", "d.jfif", "e.heic", "f.jxl")
    pillow_heif.register_heif_opener()
    for i, name in enumerate(names):
        pixels = np.full((20, 20, 3), 40 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **({"format": "JPEG"} if name == "d.jfif" else {}))
    crops = Crops([tmp_path], side=16, seed=0)
    assert [path.name for path in crops.files] == list(names)
    seen = sorted(int(crops[i][0].float().mean().round()) for i in range(len(names)))
    assert seen == pytest.approx([40 * i for i in range(len(names))], abs=3)


def test_image_files_says_which_folder_is_missing_or_empty(tmp_path):
    with pytest.raises(NoImagesError, match="nowhere does not exist"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(NoImagesError, match=f"no image in {tmp_path}.*.png"):
        image_files(tmp_path)
