"""The model builder: set an architecture by sliders, see its cost at once, and train it for 60 steps."""

from pathlib import Path

import ipywidgets as ui
import torch

from ganlib.course.architecture import (
    SIDE,
    STEPS,
    Architecture,
    costs,
    measure_trial,
    trial,
    trial_training,
    trials,
    trials_chart,
)
from ganlib.course.background_run import BackgroundRun
from ganlib.course.flowchart import flowchart
from ganlib.course.widgets.base import Busy, Latest, Picture, complaint, reporting, row
from ganlib.model.compression_model import CompressionModel
from ganlib.model.discriminator import Discriminator

LABEL = {"description_width": "110px"}
CELL = "padding: 2px 14px 2px 0; text-align: right"


def costs_html(found):
    """Costs as a table, one row per part, and a sentence."""
    rows = [
        f"<tr><td style='{CELL}; text-align: left'>{part}</td><td style='{CELL}'>{parameters:,.0f}</td>"
        f"<td style='{CELL}'>{kmacs:.2f}</td></tr>"
        for part, parameters, kmacs in found.table().itertuples()
    ]
    head = f"<tr><th></th><th style='{CELL}'>parameters</th><th style='{CELL}'>kMAC/pixel</th></tr>"
    sees = f"A latent sees {found.latent_sees}x{found.latent_sees} pixels; a block of 16x16 pixels is made of the "
    sees += f"latents of {found.pixel_sees}x{found.pixel_sees}."
    peak = f"A picture of {SIDE}x{SIDE} takes <b>{found.peak_mb:,.0f} MB</b> in one piece, float32."
    return f"<table>{head}{''.join(rows)}</table>{peak} {sees}"


class ModelBuilder(ui.VBox):
    """Sliders for an architecture; its cost, its flowchart, and a chart of all that were trained.

    Each trial has a folder of its name, so that a stopped trial can continue, and a new panel shows the trials of
    earlier ones.

    Args:
        data: files or folders of training images.
        folder: of all trials.
        pictures: {name: H,W,3 uint8} that the trials are measured on, none of them trained on.
        steps: of a trial.
    """

    def __init__(self, data, folder, pictures, steps=STEPS):
        self.data, self.folder, self.pictures, self.steps = data, Path(folder), pictures, steps
        first, look = Architecture(), dict(continuous_update=False, style=LABEL)
        self.controls = {
            "depth": ui.IntSlider(first.depth, 0, 4, description="depth", **look),
            "width": ui.IntSlider(first.width, 8, 64, 8, description="width", **look),
            "latent_channels": ui.IntSlider(
                first.latent_channels, 16, 256, 16, description="latent channels", **look
            ),
            "slices": ui.IntSlider(first.slices, 1, 4, description="slices", **look),
            "hyperprior": ui.Checkbox(first.hyperprior, description="hyperprior", indent=False),
            "checkerboard": ui.Checkbox(first.checkerboard, description="checkerboard", indent=False),
        }
        self.train = ui.Button(description=f"Train {steps} steps", button_style="success", icon="play")
        self.stop = ui.Button(description="Stop", icon="stop", disabled=True)
        self.progress, self.state = ui.IntProgress(0, 0, steps), ui.HTML()
        self.price, self.chart, self.drawing = ui.HTML(), Picture(), ui.HTML()
        self.fault, self.trouble, self.busy = ui.HTML(), ui.HTML(), Busy()
        super().__init__([
            row(*self.controls.values(), self.busy), self.fault, self.price,
            row(self.train, self.stop, self.progress, self.state), self.trouble, self.chart, self.drawing,
        ], layout=ui.Layout(max_width="100%"))  # fmt: skip
        self.run = None  # the BackgroundRun that was started last
        self.designing = Latest(reporting(self.fault, self._design), busy=self.busy)
        self.trying = Latest(self._report, pause=0.5)
        for control in self.controls.values():
            control.observe(self._ask, names="value")
        self.train.on_click(reporting(self.trouble, self._train))
        self.stop.on_click(lambda button: self.run.stop())
        for out, thread in BackgroundRun.threads.items():  # a run that an earlier panel has started
            if out.parent == self.folder.resolve() and not thread.over:
                self._follow(BackgroundRun(self.data, out, None, None))
        self._ask()
        self.trying.request()

    @property
    def architecture(self):
        """Architecture that the sliders are set to."""
        return Architecture(**{name: control.value for name, control in self.controls.items()})

    def _ask(self, change=None):
        self.designing.request(architecture=self.architecture)

    def _design(self, architecture):
        with torch.random.fork_rng(devices=[]):
            model = CompressionModel(architecture.config())
        self.price.value = costs_html(costs(model))
        self.drawing.value = flowchart(model, Discriminator(architecture.latent_channels)).svg

    def _train(self, button):
        run = trial(self.architecture, self.data, self.folder)
        run.start(trial_training(self.steps))
        self._follow(run)

    def _follow(self, run):
        self.run = run
        self.train.disabled, self.stop.disabled = True, False
        run.listen(self.trying.request)
        self.trying.request()

    def _report(self):
        """Show the run's state; when it is finished, measure it. An error stays visible until the next run begins."""
        active = self.run is not None and self.run.thread is not None
        try:
            if self.run is not None:
                self._show_run(active)
        except Exception as error:
            self.trouble.value = complaint(error)
        self.train.disabled, self.stop.disabled = active, not active
        points = trials(self.folder)
        tried = ", ".join(points["name"].unique()) or "nothing yet"
        self.chart.draw(trials_chart(points), f"PSNR over the rate of files, of models tried: {tried}")

    def _show_run(self, active):
        if error := self.run.error:
            raise error
        name, log = self.run.out.name, self.run.log()
        step = int(log["step"].max()) if len(log) else 0
        self.progress.value = step
        if active:
            self.state.value = f"{name}: step {step} of {self.steps}"
        elif step < self.steps:
            self.state.value = f"{name}: stopped at step {step}; press Train to continue"
        else:
            self.state.value = f"{name}: measuring ..."
            if not (self.run.out / "trial.csv").exists():
                measure_trial(self.run, self.pictures)
            self.state.value = f"{name}: done"
