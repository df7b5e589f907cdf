"""The course in a real browser: JupyterLab, Chromium without a window, sliders dragged, a run started and stopped."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from conftest import COURSE, module_of
from playwright.sync_api import expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "GANLIB_REQUIRE_BROWSER"  # set where a missing browser must fail and not be skipped
TOKEN = "course"
PATIENCE = 120_000  # ms: two slow cores import torch, and train, while a browser draws
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
# Said by every JupyterLab whose server has no such extension or file, and of no concern to a student.
HARMLESS = re.compile(r"favicon|Failed to load resource|ResizeObserver|preload")

execute = module_of(COURSE / "execute.py")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and there is none of {', '.join(BROWSERS)}")
        pytest.skip("no Chromium on this machine: install Debian's package chromium, or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a free port, over a copy of the course at the tiny preset: its address."""
    root = tmp_path_factory.mktemp("lab")
    folder = root / "notebooks"
    folder.mkdir()
    for path in COURSE.glob("*.ipynb"):
        notebook = execute.with_preset(nbformat.read(path, as_version=4), "tiny")
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / path.name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    private = {f"JUPYTER_{kind}_DIR": str(root / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    private |= {f"JUPYTERLAB_{kind}_DIR": str(root / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    settings = root / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # else what lies off the screen is not in the page
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with open(root / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | private)
    address = f"http://127.0.0.1:{port}/lab"
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}")
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (root / "server.log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page(browser, request):
    """A page whose errors count."""
    context = browser.new_context(viewport={"width": 1500, "height": 1200})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    if folder := os.environ.get("GANLIB_SCREENSHOTS"):  # to be looked at
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    context.close()
    assert [error for error in errors if not HARMLESS.search(error)] == []


def open_and_run(page, lab, name):
    # a workspace of its own: the tabs of another test would come back, and take the menu's commands
    page.goto(f"{lab}/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}")
    expect(page.locator(".jp-Notebook")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    begun = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[(\*|1)\]"))
    expect(begun.first).to_be_visible(timeout=PATIENCE)


def slider(page, label):
    row = page.locator(".widget-inline-hbox", has=page.locator(".widget-label", has_text=re.compile(f"^{label}$")))
    return row.first


def drag(page, label, part):
    """Take a slider's handle and let it go at this part of its way, 0 to 1; its reading before and after."""
    row = slider(page, label)
    row.scroll_into_view_if_needed()
    before = row.locator(".widget-readout").inner_text()
    handle, rail = row.locator(".noUi-handle").bounding_box(), row.locator(".noUi-base").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(rail["x"] + part * rail["width"], handle["y"] + handle["height"] / 2, steps=8)
    page.mouse.up()
    return before, row.locator(".widget-readout").inner_text()


def button(page, name):
    return page.locator("button.jupyter-button", has_text=re.compile(f"{name}$"))  # its icon is a letter before


def test_a_slider_changes_picture_and_bytes(page, lab):
    open_and_run(page, lab, "00_start_here")
    numbers = page.locator(".widget-html-content", has_text="bytes instead of")
    expect(numbers).to_be_visible(timeout=PATIENCE)
    picture = page.locator("img.widget-image")
    first, first_picture = numbers.inner_text(), picture.get_attribute("src")
    before, after = drag(page, "quality", 0.9)
    assert float(before) == 30 and float(after) > 80
    expect(numbers).not_to_have_text(first, timeout=PATIENCE)
    expect(picture).not_to_have_attribute("src", first_picture, timeout=PATIENCE)
    assert picture.evaluate("image => image.naturalWidth") > 1000
    texts = first, numbers.inner_text()
    small, large = (int(re.search(r"([\d,]+) bytes", text)[1].replace(",", "")) for text in texts)
    assert large > 1.5 * small
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("download")).click()
    data = Path(download.value.path()).read_bytes()
    assert len(data) == large and data[1:4] == b"GIC"


def test_training_survives_a_reload_and_stops(page, lab):
    open_and_run(page, lab, "03_adversarial_training")
    start = button(page, "Start")
    expect(start).to_be_enabled(timeout=2 * PATIENCE)
    drag(page, "steps", 1.0)
    start.click()
    status = page.locator(".widget-html-content", has_text=re.compile(r"training: step [1-9]"))
    expect(status).to_be_visible(timeout=PATIENCE)
    picture = page.locator("img.widget-image")
    drawn = picture.get_attribute("src")
    expect(picture).not_to_have_attribute("src", drawn, timeout=PATIENCE)
    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)

    page.reload()
    expect(status).to_be_visible(timeout=PATIENCE)
    reached = int(re.search(r"step (\d+)", status.inner_text())[1])
    button(page, "Stop").click()
    rest = page.locator(".widget-html-content", has_text="at rest after")
    expect(rest).to_be_visible(timeout=PATIENCE)
    stopped = int(re.search(r"after (\d+) steps", rest.inner_text())[1])
    assert reached <= stopped < 2000
    expect(button(page, "Start")).to_be_enabled()
