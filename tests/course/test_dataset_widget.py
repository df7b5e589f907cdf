"""The dataset browser shows what training would see, and says so when it cannot."""

import base64
import hashlib
import io
import re
import threading

import numpy as np
import pytest
from PIL import Image

from ganlib import datasets
from ganlib.course.widgets.dataset import (
    SEED_MAX,
    SIDES,
    DatasetBrowser,
    contact_sheet,
    crop_view,
    place,
    read,
    sources,
    summary,
)
from ganlib.evaluation.comparisons import png_bytes
from ganlib.evaluation.metrics import detail

LEAST, GREATEST, _ = SIDES


@pytest.fixture(scope="module")
def cat():
    return datasets.embedded_files()["chelsea"]


@pytest.fixture
def browser(tmp_path):
    """A panel over two sets of one and two pictures; wait() before looking."""
    rng = np.random.default_rng(0)
    places = {}
    for source, names in (("one", ["a"]), ("two", ["a", "b"])):
        for name in names:
            path = tmp_path / f"{source}-{name}.png"
            Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
            places.setdefault(source, {})[name] = path
    panel = DatasetBrowser(places, side=32)
    panel.latest.pause = 0.0
    panel.latest.wait()
    return panel


@pytest.mark.parametrize("side", [LEAST, 128, 320, GREATEST])  # 320 is wider than the cat is high
@pytest.mark.parametrize("seed", [0, 1, SEED_MAX])
def test_the_crop_is_the_one_of_training(cat, side, seed):
    view = crop_view(read(cat), side, seed)
    trained_on = datasets.Crops([cat], side, seed)[0][0].numpy().transpose(1, 2, 0)
    assert np.array_equal(view.crop, trained_on)
    assert view.png_bytes == png_bytes(trained_on) and view.detail == detail(trained_on)
    assert f"{side}x{side}" in summary(view) and f"{view.png_bytes:,} bytes" in summary(view)


def test_box_and_mirror_say_where_the_crop_was():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    seen = set()
    for seed in range(12):
        view = crop_view(pixels, 32, seed)
        x0, y0, x1, y1 = view.box
        cut = pixels[y0:y1, x0:x1]
        assert np.array_equal(view.crop, cut[:, ::-1] if view.mirrored else cut)
        seen.add(view.mirrored)
    assert seen == {True, False}


def test_places_follow_the_index():
    assert len({place(300, 451, 64, 0, index) for index in range(10)}) == 10


def test_a_picture_beyond_the_limit_is_refused():
    with pytest.raises(ValueError, match="scale the picture down"):
        place(2**13, 2**12, 64, 0)


def test_the_figure_shows_photograph_box_and_crop(cat):
    view = crop_view(read(cat), 64, 3)
    whole, enlarged = view.figure.axes
    assert np.array_equal(whole.images[0].get_array(), read(cat))
    assert np.array_equal(enlarged.images[0].get_array(), view.crop)
    box = whole.patches[0].get_bbox()
    assert [*(box.min + 0.5), *(box.max + 0.5)] == pytest.approx(view.box)


def test_contact_sheet_shows_all_and_leaves_the_rest_empty():
    pictures = {str(i): np.full((4 + i, 6, 3), i, np.uint8) for i in range(7)}
    axes = contact_sheet(pictures, columns=5).axes
    assert len(axes) == 10
    assert [ax.get_title() for ax in axes[:7]] == [f"{i}\n6x{4 + i}" for i in range(7)]
    assert [len(ax.images) for ax in axes] == [1] * 7 + [0] * 3
    with pytest.raises(ValueError, match="no picture"):
        contact_sheet({})


def test_sources_are_those_that_lie_here_whole(tmp_path, monkeypatch):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    content = content.getvalue()
    remote = datasets.RemoteFile("https://example.org/x.png", len(content), hashlib.sha256(content).hexdigest())
    source = datasets.Source("measuring", 1, "none", "https://example.org", (remote,))
    monkeypatch.setattr(datasets, "SOURCES", {"whole": source, "damaged": source, "missing": source})
    for name, data in (("whole", content), ("damaged", content[:-1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(data)
    found = sources(tmp_path)
    assert list(found) == ["embedded", "whole"]
    assert found["whole"] == {"x.png": tmp_path / "whole" / "x.png"}
    assert set(found["embedded"]) == set(datasets.embedded())


def shown(panel):
    panel.latest.wait()
    return base64.b64decode(re.search('base64,([^"]*)', panel.image.value)[1])


def test_every_control_changes_the_picture(browser):
    pictures = [shown(browser)]
    for control, value in (
        (browser.seed, SEED_MAX),
        (browser.side, GREATEST),
        (browser.side, LEAST),
        (browser.source, "two"),  # begins with the same name, and is another picture
        (browser.picture, "b"),
    ):
        control.value = value
        pictures.append(shown(browser))
        assert pictures[-1] != pictures[-2] and browser.status.value == ""
    view = crop_view(read(browser.places["two"]["b"]), LEAST, SEED_MAX)
    assert browser.numbers.value == summary(view)
    assert browser.picture.options == ("a", "b")


def test_back_to_a_shorter_list(browser):
    browser.source.value = "two"
    browser.picture.value = "b"
    browser.source.value = "one"
    browser.latest.wait()
    assert browser.picture.value == "a" and browser.status.value == ""
    assert browser.numbers.value == summary(crop_view(read(browser.places["one"]["a"]), 32, 0))


def test_an_error_is_shown_and_goes_away(browser):
    browser.places["two"]["a"].write_bytes(b"no picture")
    browser.source.value = "two"
    browser.latest.wait()
    assert "UnidentifiedImageError" in browser.status.value
    browser.picture.value = "b"
    browser.latest.wait()
    assert browser.status.value == ""


def test_the_kernel_is_not_blocked(browser, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr("ganlib.course.widgets.dataset.read", lambda path: go_on.wait(10) and read(path))
    before = browser.numbers.value
    browser.seed.value = 5  # returns while the picture is still being read
    assert browser.numbers.value == before
    go_on.set()
    browser.latest.wait()
    assert browser.numbers.value == summary(crop_view(read(browser.places["one"]["a"]), 32, 5))
