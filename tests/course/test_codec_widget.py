"""What all panels share, and the codec explorer."""

import base64
import io
import re
import threading
import time

import ipywidgets as ui
import numpy as np
import pytest
from conftest import FIXTURES
from matplotlib.figure import Figure
from PIL import Image

from ganlib.course.widgets import base
from ganlib.course.widgets.codec import CodecExplorer, codec_view, download_link
from ganlib.course.widgets.upload import UPLOAD_BYTES, PictureUpload, free_name, picture_of
from ganlib.evaluation.comparisons import png_bytes


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
    begun.wait(60)
    for n in range(1, 5):
        latest.request(n=n)
    go_on.set()
    latest.wait()
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
    latest.wait()
    assert len(times) == 2 and times[1] - times[0] >= 0.19


def test_requests_return_at_once():
    go_on = threading.Event()
    latest = base.Latest(lambda: go_on.wait(60))
    latest.request()  # and not when it is done, which it is not before go_on
    with pytest.raises(TimeoutError):
        latest.wait(0.05)
    go_on.set()
    latest.wait()


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


def test_show_has_a_static_picture_above_the_live_one(monkeypatch, crop):
    shown = []
    monkeypatch.setattr(base, "display", lambda bundle, raw, metadata=None: shown.append(bundle))
    base.show(panel := ui.HTML("alive"), crop, "a <face>")
    static, live = shown
    assert "application/vnd.jupyter.widget-view+json" in live and live["text/plain"] == base.STATIC_LINE
    assert base.LIVE_CLASS in panel._dom_classes and "application/vnd.jupyter.widget-view+json" not in static
    assert (pixels_of(base64.b64decode(static["image/png"])) == crop).all()
    assert static["image/png"] in static["text/html"] and 'alt="a &lt;face&gt;"' in static["text/html"]
    assert base.STATIC_LINE in static["text/html"]


def test_a_picture_has_its_text():
    picture = base.Picture()
    picture.draw(np.zeros((4, 4), np.uint8), 'a "dark" square')
    assert 'alt="a &quot;dark&quot; square"' in picture.value and "data:image/png;base64," in picture.value


def test_the_sign_is_on_while_work_goes_on():
    seen, busy = [], base.Busy()
    latest = base.Latest(lambda: seen.append(busy.value), pause=0.0, busy=busy)
    latest.request()
    latest.wait()
    assert "computing" in seen[0] and busy.value == ""


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
    seen = [(explorer.viewer.pngs, explorer.numbers.value)]
    for control, value in ((explorer.quality, 0.0), (explorer.realism, 0.0), (explorer.picture, "edge")):
        control.value = value
        explorer.latest.wait()
        seen.append((explorer.viewer.pngs, explorer.numbers.value))
    assert all(a[0][1] != b[0][1] for a, b in zip(seen, seen[1:]))
    assert len({numbers for _, numbers in seen}) >= 3 and explorer.status.value == explorer.busy.value == ""
    assert explorer.viewer.names == ["original", "ganlib", "JPEG"]


def test_the_link_holds_the_file(explorer, codec, crop):
    inside = re.search(r"base64,([^']*)'", explorer.link.value)[1]
    assert base64.b64decode(inside) == codec.compress(crop, quality=50)
    assert "download='face.gic'" in explorer.link.value
    assert "<script>" not in download_link(b"", "<script>'")


def file_of(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def upload(panel, name, content, part=5000):
    """As the button sends it: a beginning, parts, an end."""
    button = panel.upload
    button._hear(button, {"kind": "begin", "name": name, "size": len(content)}, [])
    for at in range(0, len(content), part):
        button._hear(button, {"kind": "part"}, [memoryview(content[at : at + part])])
    button._hear(button, {"kind": "end"}, [])
    panel.latest.wait()


def test_an_upload_is_shown(explorer, photo):
    upload(explorer, "mine.png", file_of(Image.fromarray(photo[100:180, 100:200, 0])))  # grayscale
    assert explorer.picture.value == "mine" and explorer.pictures["mine"].shape == (80, 100, 3)
    assert "bytes" in explorer.numbers.value and explorer.status.value == explorer.said.value == ""


def test_a_second_upload_of_the_same_name_is_another_picture(explorer, photo):
    pictures = [photo[i : i + 80, :96] for i in (0, 100, 200)]
    for pixels in pictures:
        upload(explorer, "photo.png", file_of(Image.fromarray(pixels)))
        assert (explorer.pictures[explorer.picture.value] == pixels).all()
    assert list(explorer.pictures) == ["face", "edge", "photo", "photo (2)", "photo (3)"]
    assert (explorer.pictures["photo"] == pictures[0]).all()
    assert free_name("a", {"a", "a (2)"}) == "a (3)" and free_name("b", {"a"}) == "b"


def test_an_upload_with_more_than_the_codec_takes_is_converted_and_that_is_said(explorer, photo):
    image = Image.fromarray(photo[:64, :64])
    half = image.copy()
    half.putalpha(128)
    for name, content in (
        ("clear", file_of(half)),
        ("print", file_of(image.convert("CMYK"), "tiff")),
        ("deep", file_of(Image.fromarray(np.full((64, 64), 40_000, np.uint16)))),
        ("moving", file_of(image, "gif", save_all=True, append_images=[image.rotate(90)])),
    ):
        upload(explorer, f"{name}.png", content)
        assert explorer.picture.value == name and "converted to 8 bits" in explorer.said.value, explorer.said.value
        assert "convert=True" not in explorer.said.value and explorer.status.value == ""


def test_a_large_upload_is_scaled_down_and_that_is_said(photo):
    large = Image.fromarray(photo).resize((3000, 2000))
    pixels, done = picture_of("large.jpg", file_of(large, "jpeg"))
    assert pixels.shape == (1632, 2449, 3)
    assert done == "large.jpg: scaled down from 3000x2000 to 2449x1632, 4 megapixels."
    small, nothing = picture_of("small.png", file_of(Image.fromarray(photo)))
    assert (small == photo).all() and nothing == ""


def test_an_upload_that_is_no_picture_says_so_and_changes_nothing(explorer):
    before = explorer.viewer.pngs, explorer.picture.value
    for content in ((FIXTURES / "golden.gic").read_bytes(), b"no picture", b""):
        upload(explorer, "bad.png", content)
        assert "ImageError" in explorer.said.value and "bad.png" in explorer.said.value
        assert explorer.busy.value == "" and "convert=True" not in explorer.said.value
        assert (explorer.viewer.pngs, explorer.picture.value) == before and "bad" not in explorer.pictures


def test_a_file_of_any_size_arrives_in_parts_and_an_enormous_one_is_refused(monkeypatch):
    taken, refused, sent = [], [], []
    button = PictureUpload(lambda *file: taken.append(file), refused.append)
    monkeypatch.setattr(button, "send", lambda message, buffers=None: sent.append(message["received"]))
    content = bytes(range(256)) * 100_000  # 25.6 MB
    button._hear(button, {"kind": "begin", "name": "a.png", "size": len(content)}, [])
    for at in range(0, len(content), 2**21):
        button._hear(button, {"kind": "part"}, [content[at : at + 2**21]])
    button._hear(button, {"kind": "end"}, [])
    assert taken == [("a.png", content)] and sent[-1] == len(content)
    button._hear(button, {"kind": "begin", "name": "b.png", "size": UPLOAD_BYTES + 1}, [])
    button._hear(button, {"kind": "part"}, [b"x"])
    button._hear(button, {"kind": "end"}, [])
    assert sent[-1] == -1 and len(taken) == 1 and "300" in str(refused[0])
