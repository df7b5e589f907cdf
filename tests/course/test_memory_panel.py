"""The low-VRAM panel: its pure functions against the meter and the codec's own windows, and the panel itself."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ganlib.codec.receptive_field import halos
from ganlib.course.footprint import picture_peak, through
from ganlib.course.memory_meter import MB, MemoryBudget, largest_image, rehearsal
from ganlib.course.tiling import Peak, as_technique, peak_of, report_table, seam_figure, sides_chart, tiled_view
from ganlib.course.widgets.memory import MemoryPanel, sides_of, tile_sentence


@pytest.fixture(scope="module")
def pixels(photo):
    return photo[:128, 160:288]


def test_the_peak_of_a_picture_is_what_the_meter_sees(codec):
    x = torch.rand(1, 3, 112, 112)
    with torch.inference_mode(), MemoryBudget() as budget:
        through(codec.model, x)
    assert picture_peak(codec.model, 100) == pytest.approx(budget.peak / MB, rel=0.05), "rounded up to 112"


def test_two_rehearsals_tell_what_a_search_would_find(codec):
    def in_one_piece(x):
        with torch.inference_mode():
            return through(codec.model, x)

    run = as_technique(in_one_piece)
    peak = peak_of(run, (256, 512))
    for budget in (20e6, 60e6):
        with rehearsal():
            found = largest_image(run, budget)
        assert abs(peak.largest_side(budget) - found) <= 16
    assert peak.largest_side(peak.fixed - 1) == 0 and peak.largest_side(2 * budget) % 16 == 0


def test_threads_may_rehearse_at_the_same_time():
    """As panels do. A crash would take the process with it, hence one of its own."""
    program = """
import threading, torch
from ganlib.course.memory_meter import rehearsal
def work():
    with rehearsal():
        torch.rand(3, 3) @ torch.rand(3, 3)
for _ in range(100):
    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize(("tile", "halo"), [(64, 0), (32, 16), (64, None)])
def test_a_whole_halo_leaves_no_seam(codec, pixels, tile, halo):
    whole = 16 * halos(codec.model)[1]
    view = tiled_view(codec.model, pixels, tile, whole if halo is None else halo)
    assert view.error.shape == (128, 128) and view.window_mb <= view.whole_mb and view.work >= 1
    assert (view.error.max() < 0.01) == (halo is None) and (
        halo is not None or np.array_equal(view.tiled, view.whole)
    )
    if halo == 0:
        assert view.work == 1 and view.window_mb < 0.6 * view.whole_mb
        assert view.error[:, 60:68].mean() > 3 * view.error[:, 28:36].mean(), "the error lies along the seam"
    assert len(seam_figure(view).axes) == 3 and "MB" in tile_sentence(view)


def test_the_reports_table_stands_beside_ours():
    table = report_table(400, 2224)
    assert list(table["report, side"]) == [400, 1000, 2.5] and list(table["report, kB"][:2]) == [500, 1500]
    assert table.loc["before", "raw, kB"] == 480 and table.loc["ratio of the sides", "measured, side"] == 5.56
    said = " ".join(text.get_text() for text in sides_chart({"ours": 2224}).axes[0].texts)
    assert said == "400x400 1,000x1,000 2,224x2,224"


def test_the_panel_follows_its_sliders(codec, pixels):
    peaks = {"all layers": Peak(2e7, 500.0), "fewer": Peak(1e6, 50.0)}
    panel = MemoryPanel(peaks, codec.model, pixels, budget=400)
    panel.fitting.wait(), panel.cutting.wait()
    assert sides_of(peaks, 400) == {"all layers": 864, "fewer": 2816} and "fewer 2816x2816" in panel.chart.value
    first = panel.chart.value, panel.seam.value, panel.sentence.value
    panel.budget.value = 800
    panel.halo.value, panel.tile.value = 32, 32
    panel.fitting.wait(), panel.cutting.wait()
    now = panel.chart.value, panel.seam.value, panel.sentence.value
    assert all(a != b for a, b in zip(first, now)) and panel.fault.value == ""
    panel.pixels = pixels[:, :, 0]
    panel.halo.value = 0
    panel.cutting.wait()
    assert "Error" in panel.fault.value
