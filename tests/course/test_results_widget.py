"""The results explorer: its functions over the range of every control, and the panel without a browser."""

import numpy as np
import pytest

from ganlib.course.widgets import results
from ganlib.evaluation import metrics

LADDERS = {"JPEG": (10, 60), "WebP": (20, 60)}
OURS, NATURAL = "ganlib tiny, realism 0", "ganlib tiny, realism 1"


@pytest.fixture(scope="module")
def pictures(photo):
    return {"one": photo[:192, :192], "two": photo[200:392, 150:350]}


@pytest.fixture(scope="module")
def measured(codec, pictures):
    return results.measure_files(codec, pictures, (0, 80), LADDERS, progress=False)


@pytest.fixture
def panel(codec, measured, pictures):
    panel = results.ResultsExplorer(codec, measured, pictures)
    panel.latest.pause = 0
    panel.latest.wait()
    return panel


def texts(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_every_row_is_a_file_that_decodes(codec, measured, pictures):
    points = measured.points
    assert len(points) == len(measured.files) == 2 * (2 * 2 + 2 * 2)
    assert list(points["codec"].unique()) == [OURS, NATURAL, "JPEG", "WebP"]
    for row in points.to_dict("records"):
        data, realism = measured.files[row["codec"], row["image"], row["quality"]]
        decoded = results.decode(codec, data, realism)
        assert row["bytes"] == len(data)
        assert row["psnr"] == pytest.approx(metrics.psnr(pictures[row["image"]], decoded))
        assert row["lpips"] == pytest.approx(metrics.lpips(pictures[row["image"]], decoded), rel=1e-4)
        assert 0 < row["ms_ssim"] < 1


@pytest.mark.parametrize("metric", results.METRICS)
@pytest.mark.parametrize("images", [["two"], ["one", "two"]])
@pytest.mark.parametrize("codecs", [["JPEG"], [OURS, "JPEG", "WebP"]])
def test_chart_shows_means_of_what_was_chosen(measured, codecs, images, metric):
    figure = results.results_chart(measured.points, codecs, images, metric, (codecs[0], measured_quality(codecs[0])))
    lines = figure.axes[0].get_lines()
    assert {line.get_label() for line in lines} == set(codecs)
    drawn = next(line for line in lines if line.get_label() == "JPEG")
    rows = measured.points[(measured.points["codec"] == "JPEG") & measured.points["image"].isin(images)]
    expected = rows.groupby("quality")[["bpp", metric]].mean()
    assert np.allclose(drawn.get_ydata(), expected[metric]) and np.allclose(drawn.get_xdata(), expected["bpp"])
    (ring,) = figure.axes[0].collections
    assert len(ring.get_offsets()) == 1
    first = next(line for line in lines if line.get_label() == codecs[0])
    assert ring.get_offsets()[0][1] in first.get_ydata()


def measured_quality(name):
    return LADDERS.get(name, (0, 80))[-1]


def test_nothing_chosen_is_said(measured):
    with pytest.raises(ValueError, match="at least one codec"):
        results.means(measured.points, [], ["one"])
    with pytest.raises(ValueError, match="at least one image"):
        results.means(measured.points, ["JPEG"], [])


@pytest.mark.parametrize(("name", "quality"), [(OURS, 0), (OURS, 80), ("JPEG", 10), ("WebP", 60)])
def test_the_picture_of_a_point_is_its_file_decoded(codec, measured, pictures, name, quality):
    original, version = results.point_versions(codec, measured, pictures, name, quality, "two")
    data, realism = measured.files[name, "two", quality]
    decoded = results.decode(codec, data, realism)
    assert (version.pixels == decoded).all() and (original.pixels == pictures["two"]).all()
    assert f"{metrics.psnr(pictures['two'], decoded):.2f} dB" in version.facts
    assert f"{len(data):,} bytes" in version.facts
    figure = results.point_picture(codec, measured, pictures, name, quality, "two")
    assert version.facts in texts(figure)


def test_an_unmeasured_point_is_refused(codec, measured, pictures):
    with pytest.raises(ValueError, match="choose a point"):
        results.point_picture(codec, measured, pictures, "JPEG", 11, "one")


def test_the_panel_follows_its_controls(panel):
    assert 'alt="psnr over the rate of' in panel.chart.value
    seen = [(panel.chart.value, panel.viewer.pngs)]
    for control, value in (
        (panel.metric, "lpips"),
        (panel.codecs, ("JPEG", OURS)),
        (panel.images, ("two",)),
        (panel.point, ("JPEG", 60)),
        (panel.picture, "two"),
    ):
        control.value = value
        panel.latest.wait()
        now = panel.chart.value, panel.viewer.pngs
        assert now != seen[-1], control.description
        seen.append(now)
    assert panel.status.value == ""
    assert len(panel.point.options) == 4 and panel.point.value == ("JPEG", 60)
    panel.codecs.value = (OURS,)  # the point chosen is gone: another takes its place
    panel.latest.wait()
    assert panel.point.value[0] == OURS and panel.status.value == ""


def test_an_error_is_shown_and_goes_away(panel):
    panel.codecs.value = ()
    panel.latest.wait()
    assert "at least one codec" in panel.status.value
    panel.codecs.value = ("JPEG",)
    panel.latest.wait()
    assert panel.status.value == ""
