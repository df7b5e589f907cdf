"""The course in a real browser: JupyterLab and Chromium at 1280x800, each panel used as a person would."""

import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from lab_in_browser import (
    GONE,
    PATIENCE,
    address_of,
    button,
    choose,
    drag,
    end_kernel,
    nothing_is_cut_off,
    open_and_run,
    open_notebook,
    panel_of,
    run_all,
    screenshot,
    slider,
    text,
)
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

pytest_plugins = ["lab_in_browser"]  # its fixtures: browser, lab, page


def test_a_slider_changes_picture_and_bytes(page, lab, kernel):
    open_and_run(page, lab, "00_start_here", kernel)
    numbers = text(page, "bytes instead of")
    expect(numbers).to_be_visible()
    picture = panel_of(page).locator(".stage img")
    first, first_picture = numbers.inner_text(), address_of(picture)
    before, after = drag(page, "quality", 0.9)
    assert float(before) == 30 and float(after) > 80
    expect(numbers).not_to_have_text(first)
    expect(picture.first).not_to_have_attribute("src", first_picture)
    texts = first, numbers.inner_text()
    small, large = (int(re.search(r"([\d,]+) bytes", said)[1].replace(",", "")) for said in texts)
    assert large > 1.5 * small
    expect(panel_of(page).get_by_text("computing ...")).to_have_count(0)
    nothing_is_cut_off(page)
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("download")).click()
    data = Path(download.value.path()).read_bytes()
    assert len(data) == large and data[1:4] == b"GIC"


def test_a_large_upload_arrives_and_the_panel_says_what_it_did(page, lab, kernel, tmp_path):
    smooth = np.linspace(0, 255, 2100 * 2000 * 3).astype(np.uint8).reshape(2100, 2000, 3)
    Image.fromarray(smooth).save(tmp_path / "large.png", compress_level=0)
    assert (tmp_path / "large.png").stat().st_size > 11e6, "more than a notebook server takes in one message"
    open_and_run(page, lab, "00_start_here", kernel)
    expect(text(page, "bytes instead of")).to_be_visible()
    panel_of(page).locator("input[type=file]").set_input_files(tmp_path / "large.png")
    expect(text(page, "large.png: scaled down from 2000x2100")).to_be_visible()
    expect(panel_of(page).locator(".widget-dropdown select")).to_have_value("large")
    expect(page.get_by_role("link", name="download large.gic")).to_be_visible(timeout=2 * PATIENCE)


def test_the_viewer_swipes_flickers_zooms_in_step_and_tests_blindly(page, lab, kernel):
    open_and_run(page, lab, "comparison", kernel)
    viewer = panel_of(page)
    images = viewer.locator(".stage img")
    expect(images.nth(1)).to_be_visible()
    assert images.first.evaluate("image => [image.naturalWidth, image.clientWidth]") == [400, 400]
    cut = images.nth(1).evaluate("image => image.style.clipPath")
    viewer.locator("input[type=range]").fill("80")
    assert images.nth(1).evaluate("image => image.style.clipPath") != cut
    button(page, "4x").click()
    button(page, "Side by side").click()
    expect(viewer.locator(".stage:visible")).to_have_count(2)
    stage = viewer.locator(".stage").nth(1).bounding_box()
    page.mouse.move(stage["x"] + 200, stage["y"] + 200)
    page.mouse.down()
    page.mouse.move(stage["x"] + 80, stage["y"] + 100, steps=4)
    page.mouse.up()
    moved = [images.nth(i).evaluate("image => image.style.transform") for i in (0, 3)]
    assert moved[0] == moved[1] == "translate(-120px, -100px)", "both pictures move in step"
    nothing_is_cut_off(page)
    button(page, "Flicker").click()
    seen = viewer.locator(".caption.seen")
    first = seen.inner_text()
    expect(seen).not_to_have_text(first)
    button(page, "Blind test").click()
    expect(viewer.get_by_text("left: A")).to_be_visible()
    expect(viewer.get_by_text("original")).to_have_count(0)
    button(page, "A looks better").click()
    expect(viewer.locator(".tally")).to_have_text(re.compile("Blind tests so far: (cat|night) 1"))
    expect(viewer.get_by_text("original")).to_be_visible()
    size = viewer.locator(".caption").first.evaluate("caption => parseFloat(getComputedStyle(caption).fontSize)")
    assert size >= 13


def test_the_dataset_browser_shows_another_crop(page, lab, kernel):
    open_and_run(page, lab, "dataset", kernel)
    picture = panel_of(page).locator("img")
    first = address_of(picture)
    drag(page, "seed", 0.5)
    expect(picture).not_to_have_attribute("src", first)
    choose(page, "photograph", "coffee")
    expect(picture).to_have_attribute("alt", re.compile("coffee"))
    nothing_is_cut_off(page)


def test_the_feature_browser_shows_another_channel(page, lab, kernel):
    open_and_run(page, lab, "features", kernel)
    picture = panel_of(page).locator("img")
    expect(picture).to_have_attribute("alt", re.compile("channel 0"))
    drag(page, "channel", 0.5)
    expect(picture).not_to_have_attribute("alt", re.compile("channel 0"))
    choose(page, "stage", "1/4")
    expect(picture).to_have_attribute("alt", re.compile("of 1/4"))
    nothing_is_cut_off(page)


def test_the_results_explorer_decodes_the_point_that_is_chosen(page, lab, kernel):
    open_and_run(page, lab, "results", kernel)
    chart = panel_of(page).locator(".widget-html-content img")
    expect(chart).to_have_attribute("alt", re.compile("^psnr"))
    panel_of(page).locator(".widget-select select").last.select_option(index=3)
    expect(chart).to_have_attribute("alt", re.compile("JPEG at quality 60 marked|realism 1 at quality 60 marked"))
    choose(page, "metric", "lpips")
    expect(chart).to_have_attribute("alt", re.compile("^lpips"))
    nothing_is_cut_off(page)


def test_the_model_builder_tells_the_price_at_once_and_trains(page, lab, kernel):
    open_and_run(page, lab, "builder", kernel)
    drawing = panel_of(page).locator("svg[role=img]")
    expect(text(page, "kMAC/pixel.*76,536")).to_be_visible()
    expect(drawing).to_contain_text("entropy.h_a")
    drag(page, "width", 0.0)
    expect(text(page, "kMAC/pixel.*76,536")).to_have_count(0)
    panel_of(page).get_by_label("hyperprior").uncheck()
    expect(drawing).not_to_contain_text("entropy.h_a")
    button(page, "Train 4 steps").click()
    expect(text(page, "width 8.*no hyperprior: done")).to_be_visible()
    expect(panel_of(page).locator("img[alt*='width 8']")).to_be_visible()
    nothing_is_cut_off(page)


def test_the_memory_panel_follows_budget_and_halo(page, lab, kernel):
    open_and_run(page, lab, "memory", kernel)
    chart = panel_of(page).locator("img[alt^='largest picture']")
    expect(chart).to_have_attribute("alt", re.compile("fewer layers 2864x2864"))
    drag(page, "budget, MB", 0.9)
    expect(chart).to_have_attribute("alt", re.compile(r"fewer layers [1-9]\d{4}x"))
    seam = text(page, "largest error [1-9]")
    expect(seam).to_be_visible()
    drag(page, "halo, pixels", 1.0)
    expect(text(page, "largest error 0.0 levels")).to_be_visible()
    nothing_is_cut_off(page)


def test_training_survives_a_reload_and_stops_and_a_second_run_lies_beside_it(page, lab):
    # a kernel of its own: one that has the panels of all tests needs too long to name them while it trains
    path = open_and_run(page, lab, "training")
    start = button(page, "Start")
    expect(start).to_be_enabled()
    drag(page, "steps", 1.0)
    start.click()
    expect(text(page, r"run 1, training: step [1-9]")).to_be_visible()
    expect(start).to_be_disabled()
    expect(slider(page, "steps").locator(".noUi-target[disabled]")).to_have_count(1)
    chart = panel_of(page).locator("img[alt^='Curves']")
    drawn = address_of(chart)
    expect(chart).not_to_have_attribute("src", drawn)
    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)

    # JupyterLab gives a kernel four seconds to name its panels; one that trains on busy cores may need longer, and
    # then the static picture stays. It is also what a page shows until the panel is there: each reload gets its time.
    page.harmless.append(GONE)
    for _ in range(6):
        page.reload()
        with suppress(PlaywrightTimeout):
            panel_of(page).wait_for(timeout=PATIENCE / 6)
            break
    expect(text(page, r"run 1, training: step [1-9]")).to_be_visible()
    button(page, "Stop").click()
    expect(text(page, "^at rest")).to_be_visible()
    expect(panel_of(page).locator("img[alt^='the watched crop']")).to_have_count(3)
    drag(page, "weight of -log D", 0.0)
    drag(page, "steps", 0.0)
    button(page, "Start").click()
    expect(text(page, "run 2, training")).to_be_visible()
    expect(text(page, "^at rest")).to_be_visible()
    expect(chart).to_have_attribute("alt", re.compile("run 1, run 2"))
    expect(text(page, "run 2, preset tiny.*weight of -log D 0,")).to_be_visible()
    nothing_is_cut_off(page)
    end_kernel(lab, path)


@pytest.mark.parametrize("name", ["00_start_here", "training"])
def test_a_notebook_that_is_opened_anew_shows_static_pictures(page, lab, kernel, name):
    page.harmless.append(GONE)
    path = open_and_run(page, lab, name)  # with a kernel of its own, which ends here
    static = page.locator(".ganlib-static")
    expect(static).to_have_count(1)
    expect(static).to_be_hidden()
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
    page.keyboard.press("Control+s")
    page.wait_for_timeout(3000)
    end_kernel(lab, path)

    open_notebook(page, lab, path, kernel)
    expect(static).to_be_visible()
    expect(static.get_by_text("Run this cell to have the panel")).to_be_visible()
    expect(static.locator("img")).to_be_visible()
    expect(page.get_by_text("Error displaying widget")).to_be_hidden()
    screenshot(page, f"reopened_{name}")
    run_all(page)
    expect(panel_of(page)).to_be_visible()
    expect(static).to_be_hidden()
