"""The quality map to be painted: what its function measures, and the panel without a browser; and the drawings."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small_models import small_codec

from ganlib.course.cited_drawings import DIAGRAMS, KINDS, drawing
from ganlib.course.widgets import quality_map
from ganlib.course.widgets.features import as_tensor
from ganlib.evaluation.metrics import psnr


@pytest.fixture(scope="module")
def pixels(photo):
    """150x200 pixels: the last regions are not full."""
    return photo[100:250, 100:300]


@pytest.fixture(scope="module")
def painted(pixels):
    rows, columns = quality_map.regions(pixels)
    assert (rows, columns) == (3, 4)
    painted = np.full((rows, columns), -20.0)
    painted[1, 1] = 60.0
    return painted


def test_bits_are_those_of_the_model_and_move_to_what_is_painted(pixels, painted):
    view = quality_map.map_view(small_codec("song"), pixels, painted)
    assert [part.shape for part in view.bits] == [(10, 13)] * 2
    there = (slice(4, 8), slice(4, 8))
    shares = [part[there].sum() / part.sum() for part in view.bits]
    assert shares[1] > 1.2 * shares[0]
    assert len(view.files[1]) <= len(view.files[0])
    assert isinstance(view.figure, Figure) and len(view.figure.axes) == 4
    with torch.inference_mode():
        out = small_codec("song").model(as_tensor(pixels), torch.tensor([50.0]))
    with_padding = -out["likelihoods"]["y"].log2().sum().item()
    assert 0.5 * with_padding < view.bits[0].sum() <= with_padding  # what lies beyond the picture is left out


def test_quality_of_both_parts_is_that_of_the_files(pixels, painted):
    codec = small_codec("song")
    view = quality_map.map_view(codec, pixels, painted)
    for data, decoded in zip(view.files, view.decoded):
        assert np.array_equal(codec.decompress(data), decoded)
    region = (slice(64, 128), slice(64, 128))
    for i in (0, 1):
        assert view.psnr["painted up"][i] == pytest.approx(psnr(pixels[region], view.decoded[i][region]))
    assert "bytes" in quality_map.summary(view) and "painted up" in quality_map.summary(view)


def test_maps_at_their_limits(pixels):
    codec, shape = small_codec("song"), quality_map.regions(pixels)
    even = quality_map.map_view(codec, pixels, np.zeros(shape))
    assert even.files[0] == even.files[1] and list(even.psnr) == ["the rest"]
    up = quality_map.map_view(codec, pixels, np.full(shape, 100.0), quality=0.0)
    assert list(up.psnr) == ["painted up"]
    with pytest.raises(ValueError, match=r"regions \(3, 4\)"):
        quality_map.map_view(codec, pixels, np.zeros((2, 2)))


def test_the_panel_follows_its_buttons(pixels, painted):
    panel = quality_map.QualityPainter(small_codec("song"), pixels, painted)
    panel.latest.pause = 0
    panel.latest.wait()
    assert panel.cells[1, 1].description == "+60" and panel.cells[0, 0].description == "-20"
    seen = [panel.image.value]
    assert "painted up" in panel.numbers.value

    panel.cells[0, 3].click()  # with the first brush
    panel.latest.wait()
    assert panel.painted[0, 3] == 40 and "+40" in panel.cells[0, 3].tooltip
    assert panel.cells[0, 3].style.button_color == quality_map.COLOURS[40.0]
    seen.append(panel.image.value)
    panel.quality.value = 20
    panel.latest.wait()
    seen.append(panel.image.value)
    panel.clear.click()
    panel.latest.wait()
    seen.append(panel.image.value)
    assert len(set(seen)) == 4 and not panel.painted.any() and panel.status.value == ""
    assert all('alt="' in value for value in seen)


@pytest.mark.parametrize("name", [*DIAGRAMS, "zou"])
def test_every_idea_has_a_drawing(name):
    assert isinstance(drawing(name), Figure)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_boxes_lie_inside_their_drawing_and_apart(name):
    diagram, figure = DIAGRAMS[name], drawing(name)
    frame = figure.bbox
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(texts) == len(diagram["boxes"])
    boxes = [text.get_bbox_patch().get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, texts[i]
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]
    assert {kind for *_, kind in diagram["boxes"].values()} <= set(KINDS)
