"""The training panel: stage two at the press of a button, in the background, on disk."""

import ipywidgets as ui
import numpy as np
from matplotlib.figure import Figure

from ganlib.config import AdversarialConfig
from ganlib.course.widgets.base import Latest, png, reporting
from ganlib.evaluation.metrics import psnr
from ganlib.evaluation.plots import MEASURED_COLOURS

REDRAW_SECONDS = 1.0  # a drawing costs as much time as a step of training, so there are fewer of them than allowed
BATCH = 4  # crops a step: of 128 pixels, a third of a second on two CPU cores
DPI = 80

# Where the controls stand at first.
DEFAULTS = dict(learning_rate=5e-4, lam=0.003, adversarial_weight=0.4, realism=1.0, crop=128, steps=200)


def panel_config(model_config, learning_rate, lam, adversarial_weight, realism, crop, steps):
    """What the sliders mean.

    Args:
        model_config: ModelConfig; its range of lambda is the slider's.
        learning_rate: of the generator.
        lam: lambda, what a squared error costs in bits; every crop is coded at the quality that belongs to it.
        adversarial_weight: of -log D(x_hat).
        realism: 0 to 1, at which every crop is rebuilt.
        crop: side in pixels, a multiple of 64.
        steps: where the run ends.

    Returns:
        AdversarialConfig.
    """
    quality = min(100.0, max(0.0, model_config.quality(lam)))
    return AdversarialConfig(
        lr=learning_rate, quality_low=quality, quality_high=quality, adversarial_weight=adversarial_weight,
        realism_low=realism, realism_high=realism, crop=crop, steps=steps, batch=BATCH,
        warmup=20, decay=0.2, ema=0.95, log_every=5, checkpoint_minutes=0.5,
    )  # fmt: skip


def training_view(log, original, before=None, now=None):
    """The state of a run in one figure.

        losses | PSNR, LPIPS of the crops | original | before training | now

    Args:
        log: DataFrame of log.csv; may be empty.
        original, before, now: H,W,3 uint8; None where there is none yet.

    Returns:
        Figure, 14 x 3.1 inches.
    """
    figure = Figure(figsize=(14, 3.1), dpi=DPI, layout="constrained")
    losses, quality, *pictures = figure.subplots(1, 5, width_ratios=[1.2, 1.2, 1, 1, 1])
    lines = (("d_loss", "discriminator", 0), ("adversarial", "generator: -log D", 1))
    for column, name, colour in lines if len(log) else ():
        losses.plot(log["step"], log[column], color=MEASURED_COLOURS[colour], label=name)
    losses.set_title("losses of the adversaries", fontsize=10, loc="left")
    beside = quality.twinx()
    for ax, column, colour in ((quality, "psnr", 2), (beside, "lpips", 4)):
        colour = MEASURED_COLOURS[colour]
        if len(log):
            ax.plot(log["step"], log[column].rolling(5, min_periods=1).mean(), color=colour)
        ax.set_ylabel({"psnr": "PSNR (dB)", "lpips": "LPIPS"}[column], color=colour, fontsize=9)
    quality.set_title("of the training crops", fontsize=10, loc="left")
    for ax in (losses, quality):
        ax.set_xlabel("step", fontsize=9)
    if len(log):
        losses.legend(fontsize=8, frameon=False)
    for ax, picture, name in zip(pictures, (original, before, now), ("original", "before training", "now")):
        ax.set_axis_off()
        if picture is not None:
            ax.imshow(picture, interpolation="nearest")
            name += f", {psnr(original, picture):.1f} dB" if picture is not original else ""
        ax.set_title(name, fontsize=10, loc="left")
    return figure


class TrainingPanel(ui.VBox):
    """Sliders for the hyperparameters, buttons for the run, and its curves and pictures as they come.

    All that it shows lies in the folder of the run: a page that is loaded anew, a cell that is run again and a kernel
    that was restarted find it there.

    Args:
        run: BackgroundRun.
        model_config: ModelConfig of its weights.
        defaults: of the controls, by the names of DEFAULTS.
    """

    def __init__(self, run, model_config, **defaults):
        self.run, self.model_config = run, model_config
        start = DEFAULTS | defaults
        look = dict(continuous_update=False, style={"description_width": "130px"}, layout={"width": "380px"})
        low, high = (np.log10(v) for v in (self.model_config.lambda_low, self.model_config.lambda_high))
        log_slider, slider = ui.FloatLogSlider, ui.FloatSlider
        self.learning_rate = log_slider(start["learning_rate"], min=-5, max=-2.5, description="learning rate", **look)
        self.lam = log_slider(start["lam"], min=low, max=high, readout_format=".4f", description="lambda", **look)
        self.adversarial_weight = slider(
            start["adversarial_weight"], min=0, max=2, step=0.1, description="adversarial weight", **look
        )
        self.realism = slider(start["realism"], min=0, max=1, step=0.05, description="realism", **look)
        self.crop = ui.IntSlider(start["crop"], min=64, max=256, step=64, description="crop", **look)
        self.steps = ui.IntSlider(start["steps"], min=20, max=2000, step=20, description="steps", **look)
        self.start = ui.Button(description="Start", button_style="success", icon="play")
        self.pause = ui.Button(description="Pause", icon="pause")
        self.stop = ui.Button(description="Stop", icon="stop")
        self.clear = ui.Button(description="Start over", icon="trash", tooltip="delete this run")
        self.status, self.fault = ui.HTML(), ui.HTML()
        self.image = ui.Image(format="png")
        controls = (self.learning_rate, self.lam, self.adversarial_weight, self.realism, self.crop, self.steps)
        super().__init__([
            ui.HBox([ui.VBox(controls[:3]), ui.VBox(controls[3:])]),
            ui.HBox([self.start, self.pause, self.stop, self.clear]),
            self.status, self.fault, self.image,
        ])  # fmt: skip
        self.latest = Latest(reporting(self.fault, self._draw), REDRAW_SECONDS)
        self.start.on_click(self._pressed(lambda: run.start(self.config())))
        self.pause.on_click(self._pressed(run.pause))
        self.stop.on_click(self._pressed(run.stop))
        self.clear.on_click(self._pressed(run.clear))
        run.listen(self.latest.request)
        self.latest.request()

    def config(self):
        """AdversarialConfig of where the controls stand."""
        return panel_config(self.model_config, **{name: getattr(self, name).value for name in DEFAULTS})

    def _pressed(self, action):
        def press(button):
            action()
            self.latest.request()

        return reporting(self.fault, press)

    def _draw(self):
        state, log = self.run.state, self.run.log()
        steps = int(log["step"].max()) if len(log) else 0
        self.start.disabled = self.clear.disabled = state != "idle"
        self.pause.disabled = self.stop.disabled = state not in ("training", "pausing", "paused")
        self.pause.description = "Go on" if state in ("pausing", "paused") else "Pause"
        end = self.steps.value
        says = {
            "idle": f"at rest after {steps} steps: Start goes on to {end}" if steps else "press Start",
            "training": f"training: step {steps} of {end}",
            "pausing": "pausing ...",
            "paused": f"paused at step {steps}",
            "stopping": "stopping ...",
        }
        self.status.value = says[state]
        before, now = self.run.picture("before"), self.run.picture("now")
        self.image.value = png(training_view(log, self.run.watched, before, now))
        if error := self.run.error:
            raise error
