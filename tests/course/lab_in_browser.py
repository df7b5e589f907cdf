"""JupyterLab with the course on a free port, and Chromium at 1280x800 to use it: what test_browser.py works with."""

import json
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

# Of a notebook that is opened anew: its kernel, and so its panels, are gone.
GONE = re.compile(r"widget model not found|model_id|Could not (create|instantiate) widget", re.IGNORECASE)
expect.set_options(timeout=PATIENCE)
WINDOW = {"width": 1280, "height": 800}

execute = module_of(COURSE / "execute.py")

# A notebook for each panel: the cell that makes it, quick.
PREAMBLE = """import ganlib
from ganlib import datasets
from ganlib.course.widgets.base import show
codec = ganlib.load_codec("tiny")
photographs = {name: picture[:300, :400] for name, picture in datasets.embedded().items()}"""
PANELS = {
    "dataset": """from ganlib.course.widgets.dataset import DatasetBrowser, crop_view, sources
show(DatasetBrowser(sources()), crop_view(photographs["chelsea"]).figure, "a crop")""",
    "features": """from ganlib.course.widgets.features import FeatureBrowser, feature_view
show(FeatureBrowser(codec, photographs), feature_view(codec, photographs["chelsea"]).figure, "features")""",
    "comparison": """from ganlib.course.widgets.comparison import ComparisonViewer, Version, comparison_view
cat = photographs["chelsea"]
versions = [Version("cat", cat, "original"), Version("night", cat // 4, "dark"), Version("inverse", 255 - cat, "odd")]
viewer = ComparisonViewer(versions)
show(viewer, comparison_view(versions), "two cats")""",
    "results": """from ganlib.course.widgets.results import ResultsExplorer, measure_files, results_chart
pictures = {"chelsea": photographs["chelsea"][:192, :192]}
measured = measure_files(codec, pictures, (20, 60), {"JPEG": (20, 60)}, progress=False)
chart = results_chart(measured.points, ["JPEG"], ["chelsea"])
show(ResultsExplorer(codec, measured, pictures), chart, "curves")""",
    "builder": """from pathlib import Path
from ganlib.course.architecture import trials, trials_chart
from ganlib.course.widgets.model_builder import ModelBuilder
files, folder, cat = list(datasets.embedded_files().values())[1:], Path("models"), photographs["chelsea"][:128, :128]
show(ModelBuilder(files, folder, {"cat": cat}, 4), trials_chart(trials(folder)), "tried")""",
    "memory": """from ganlib.course.tiling import Peak, sides_chart
from ganlib.course.widgets.memory import MemoryPanel, sides_of
peaks = {"all layers": Peak(2e7, 535.0), "fewer layers": Peak(1e6, 53.0)}
chart = sides_chart(sides_of(peaks, 437))
show(MemoryPanel(peaks, codec.model, photographs["astronaut"][:128, 160:288]), chart, "the largest pictures")""",
    "training": """import time
import pandas as pd
from ganlib.course.starting_points import starting_points
from ganlib.course.widgets.training import TrainingPanel
from ganlib.course.widgets.training_chart import training_view
from ganlib.training.adversarial import AdversarialRun
def unhurried(self, *args, update=AdversarialRun.update):
    time.sleep(0.2)  # so that a step leaves the browser its core
    return update(self, *args)
AdversarialRun.update = unhurried
files, cat = list(datasets.embedded_files().values()), photographs["chelsea"][:256, :256]
panel = TrainingPanel(files, "runs", starting_points("runs", ["tiny"]), cat, crop=64, batch=2)
show(panel, training_view(pd.DataFrame(columns=["step"]), cat), "no run yet")""",
}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, and there is none of {', '.join(BROWSERS)}")
        pytest.skip("no Chromium on this machine: install Debian's package chromium, or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield browser.new_context(viewport=WINDOW)  # one for all tests: JupyterLab's code is fetched once
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a free port, over the course at the tiny preset and a notebook for each panel: its address."""
    root = tmp_path_factory.mktemp("lab")
    folder = root / "notebooks"
    folder.mkdir()
    notebook = execute.with_preset(nbformat.read(COURSE / "00_start_here.ipynb", as_version=4), "tiny")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / "00_start_here.ipynb")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    for name, source in PANELS.items():
        cells = [nbformat.v4.new_code_cell(part) for part in (PREAMBLE, source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
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
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}")
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (root / "server.log").read_text()
                time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def kernel(lab):
    """One kernel for all notebooks but those that are to lose theirs: each would take seconds to import torch."""
    return ask(lab, "kernels", {"name": "python3", "path": ""})["id"]  # in the server's folder, not in ours


@pytest.fixture
def page(browser, lab, request):
    """A page whose errors count."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.harmless, errors = [HARMLESS], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    screenshot(page, request.node.name)
    page.close()
    assert [error for error in errors if not any(pattern.search(error) for pattern in page.harmless)] == []


def screenshot(page, name):
    if folder := os.environ.get("GANLIB_SCREENSHOTS"):  # to be looked at
        page.screenshot(path=Path(folder) / f"{name}.png")
        if panel_of(page).is_visible():
            panel_of(page).screenshot(path=Path(folder) / f"{name}_panel.png")


def ask(lab, path, content=None, method=None):
    """Jupyter's own interface: GET, or POST where there is a content, or another method."""
    data = json.dumps(content).encode() if content else None
    request = urllib.request.Request(f"{lab}/api/{path}?token={TOKEN}", data, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


def end_kernel(lab, path):
    """Of this notebook, as by Jupyter's menu."""
    for session in ask(lab, "sessions"):
        if session["path"] == path:
            ask(lab, f"sessions/{session['id']}", method="DELETE")


def open_notebook(page, lab, path, kernel=None):
    """Open it, with a kernel that runs already or with one of its own."""
    if kernel:
        ask(lab, "sessions", {"path": path, "name": path, "type": "notebook", "kernel": {"id": kernel}})
    # a workspace of its own: the tabs of another test would come back, and take the menu's commands
    page.goto(f"{lab}/lab/workspaces/{Path(path).stem}-{time.monotonic_ns()}/tree/{path}?token={TOKEN}")
    expect(page.locator(".jp-Notebook")).to_be_visible()
    expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def open_and_run(page, lab, name, kernel=None):
    """A copy of a notebook, so that no test finds what another has saved: its path."""
    path = ask(lab, "contents", {"copy_from": f"{name}.ipynb"})["path"]
    open_notebook(page, lab, path, kernel)
    run_all(page)
    expect(panel_of(page)).to_be_visible()
    return path


def panel_of(page):
    return page.locator(".ganlib-panel")


def nothing_is_cut_off(page):
    """No part of the panel reaches beyond the notebook's own room, and none has to be scrolled sideways."""
    beyond = panel_of(page).evaluate(
        """panel => {
            const room = panel.closest(".jp-OutputArea-output").getBoundingClientRect();
            const parts = [panel, ...panel.querySelectorAll("button, img, .slider-container, select, input, label")];
            return parts.filter(part => {
                const box = part.getBoundingClientRect();
                const inside = part.closest(".stage") || part.closest(".jupyter-widget-Collapse-contents");
                return box.width && !inside && (box.right > room.right + 1 || box.left < room.left - 1);
            }).map(part => part.outerHTML.slice(0, 100));
        }"""
    )
    assert beyond == []
    without = panel_of(page).locator("img:not([alt]), img[alt='']")
    assert without.count() == 0, "a picture without a text"


def slider(page, label):
    row = page.locator(".widget-inline-hbox", has=page.locator(".widget-label", has_text=re.compile(f"^{label}$")))
    return row.first


def drag(page, label, part):
    """Take a slider's handle and let it go at this part of its way, 0 to 1; its reading before and after."""
    row = slider(page, label)
    row.scroll_into_view_if_needed()
    before = row.locator(".widget-readout").inner_text()
    handle, rail = row.locator(".noUi-handle").first.bounding_box(), row.locator(".noUi-base").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(rail["x"] + part * rail["width"], handle["y"] + handle["height"] / 2, steps=8)
    page.mouse.up()
    return before, row.locator(".widget-readout").inner_text()


def button(page, name):
    return panel_of(page).locator("button", has_text=re.compile(f"{name}$"))  # its icon is a letter before


def text(page, pattern):
    return panel_of(page).locator(".widget-html-content", has_text=re.compile(pattern))


def address_of(locator):
    """Of a picture, for expect(...).not_to_have_attribute("src", ...)."""
    return locator.first.get_attribute("src")


def choose(page, label, option):
    row = panel_of(page).locator(".widget-dropdown", has=page.locator(".widget-label", has_text=label))
    row.locator("select").select_option(label=option)
