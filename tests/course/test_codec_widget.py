"""What all panels share, and the codec explorer."""

import base64
import io
import re
import threading
import time
from datetime import datetime

import ipywidgets as ui
import numpy as np
import pytest
from conftest import FIXTURES
from matplotlib.figure import Figure
from PIL import Image

from ganlib.evaluation.comparisons import png_bytes
from ganlib.course.widgets import base
from ganlib.course.widgets.codec import UPLOAD_PIXELS, CodecExplorer, codec_view, download_link


@pytest.fixture
def crop(photo):
    return photo[:96, :128]


@pytest.fixture
def explorer(codec, crop):
    panel = CodecExplorer(codec, {"face": crop, "edge": crop[:, ::-1].copy()})
    panel.latest.wait()
    return panel


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_latest_skips_what_was_overtaken():
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def slow(n):
        seen.append(n)
        begun.set()
        go_on.wait(5)

    latest = base.Latest(slow, pause=0.0)
    latest.request(n=0)
    begun.wait(5)
    for n in range(1, 5):
        latest.request(n=n)
    go_on.set()
    latest.wait(5)
    assert seen == [0, 4]


def test_latest_keeps_its_pause_and_lives_through_errors():
    times = []

    def fail(n):
        times.append(time.monotonic())
        raise ValueError

    latest = base.Latest(fail, pause=0.2)
    latest.request(n=0)
    while not times:
        time.sleep(0.01)
    latest.request(n=1)
    latest.wait(5)
    assert len(times) == 2 and times[1] - times[0] >= 0.19


def test_requests_return_at_once():
    latest = base.Latest(lambda: time.sleep(0.5))
    began = time.monotonic()
    latest.request()
    assert time.monotonic() - began < 0.2
    with pytest.raises(TimeoutError):
        latest.wait(0.05)
    latest.wait(5)


def test_an_error_is_shown_escaped_and_taken_away_again():
    status = ui.HTML()

    def root(x):
        if x < 0:
            raise ValueError("<negative>")
        return x**0.5

    call = base.reporting(status, root)
    assert call(-1) is None
    assert "ValueError" in status.value and "&lt;negative&gt;" in status.value
    assert call(4) == 2 and status.value == ""


def test_png_takes_figures_and_arrays(crop):
    assert (pixels_of(base.png(crop)) == crop).all()
    figure = Figure(figsize=(2, 1), dpi=50)
    assert pixels_of(base.png(figure)).shape[:2] == (50, 100)


def test_show_has_a_static_picture_beside_the_live_one(monkeypatch, crop):
    shown = []
    monkeypatch.setattr(base, "display", lambda bundle, raw: shown.append((bundle, raw)))
    base.show(ui.HTML("alive"), crop)
    ((bundle, raw),) = shown
    assert raw and "application/vnd.jupyter.widget-view+json" in bundle
    assert (pixels_of(base64.b64decode(bundle["image/png"])) == crop).all()


@pytest.mark.parametrize("quality", [0.0, 50.0, 100.0])
@pytest.mark.parametrize("realism", [0.0, 1.0])
def test_a_view_measures_the_file_that_it_shows(codec, crop, quality, realism):
    view = codec_view(codec, crop, quality, realism)
    assert view.data == codec.compress(crop, quality=quality)
    assert view.ratio == png_bytes(crop) / len(view.data)
    decoded = np.asarray(codec.decompress(view.data, realism=realism)).astype(float)
    assert view.psnr == pytest.approx(10 * np.log10(255**2 / np.mean((decoded - crop) ** 2)))
    assert view.lpips > 0 and view.jpeg_lpips > 0
    assert any(f"quality {quality:g}, realism {realism:g}" in text.get_text() for text in view.figure.texts)


def test_a_view_of_a_picture_too_small_for_lpips(codec, photo):
    view = codec_view(codec, photo[:20, :30])
    assert np.isnan(view.lpips) and view.psnr > 0


def test_sliders_change_picture_and_numbers(explorer):
    seen = [(explorer.image.value, explorer.numbers.value)]
    for control, value in ((explorer.quality, 0.0), (explorer.realism, 0.0), (explorer.picture, "edge")):
        control.value = value
        explorer.latest.wait()
        seen.append((explorer.image.value, explorer.numbers.value))
    assert len({picture for picture, _ in seen}) == 4
    assert len({numbers for _, numbers in seen}) >= 3 and explorer.status.value == ""


def test_the_link_holds_the_file(explorer, codec, crop):
    inside = re.search(r"base64,([^']*)'", explorer.link.value)[1]
    assert base64.b64decode(inside) == codec.compress(crop, quality=50)
    assert "download='face.gic'" in explorer.link.value
    assert "<script>" not in download_link(b"", "<script>'")


def upload(panel, name, content):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content),
            "last_modified": datetime.now()}  # fmt: skip
    panel.upload.value = (file,)
    panel.latest.wait()


def test_an_upload_is_shown(explorer, photo):
    file = io.BytesIO()
    Image.fromarray(photo[100:180, 100:200, 0]).save(file, format="png")  # grayscale
    upload(explorer, "mine.png", file.getvalue())
    assert explorer.picture.value == "mine" and explorer.pictures["mine"].shape == (80, 100, 3)
    assert "bytes" in explorer.numbers.value and explorer.status.value == ""


def test_an_upload_that_is_refused_says_why_and_changes_nothing(explorer, photo):
    before = explorer.image.value
    with_alpha = io.BytesIO()
    Image.fromarray(photo[:64, :64]).convert("RGBA").save(with_alpha, format="png")
    large = io.BytesIO()
    Image.new("L", (UPLOAD_PIXELS // 1000, 1001)).save(large, format="png")
    for content, word in (
        (with_alpha.getvalue(), "transparency"),
        (large.getvalue(), "megapixels"),
        ((FIXTURES / "golden.gic").read_bytes(), "cannot be read"),
        (b"", "cannot be read"),
    ):
        upload(explorer, "bad.png", content)
        assert word in explorer.status.value, word
        assert explorer.image.value == before and "bad" not in explorer.pictures
