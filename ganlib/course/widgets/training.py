"""The training panel: settings, runs with names, their curves in one chart. All that it shows is on disk."""

import re
from pathlib import Path

import ipywidgets as ui

from ganlib.course.background_run import BackgroundRun
from ganlib.course.run_settings import (
    MAIN,
    SETTINGS,
    STAGE_NAMES,
    defaults,
    differences,
    in_words,
    run_config,
    stage_of,
    values_of,
)
from ganlib.course.widgets.base import Latest, Picture, reporting, row
from ganlib.course.widgets.training_chart import captions, training_view

REDRAW_SECONDS = 1.0  # a drawing takes as long as a step of training, so there are fewer drawings here
LABEL = {"description_width": "130px"}
FIT = {"width": "auto"}  # of a button, as wide as its text
NAME = re.compile(r"[\w .=-]{1,60}")  # of a run, which is a folder's name too


def slider(setting, value):
    """The widget of a Setting."""
    look = dict(description=setting.label, continuous_update=False, style=LABEL, layout={"width": "390px"})
    ends = dict(min=setting.low, max=setting.high, step=setting.step)
    if setting.kind == "range":
        whole = isinstance(setting.step, int)
        return (ui.IntRangeSlider if whole else ui.FloatRangeSlider)(value=value, **ends, **look)
    if setting.kind == "log":
        return ui.FloatLogSlider(value=value, **ends, readout_format=".2g", **look)
    if setting.kind == "whole":
        return ui.IntSlider(value=value, **ends, **look)
    return ui.FloatSlider(value=value, **ends, readout_format=".3g", **look)


class TrainingPanel(ui.VBox):
    """Settings of a run, buttons, a list of all runs; the chart shows the chosen ones together.

    Start always begins a new run, under its own name. Continue prolongs an existing run and adds a dotted line to its
    curves. After the page is loaded again, the cell is run again or the kernel is restarted, the panel finds every
    run in its folder.

    Args:
        data: folders or files of training images.
        folder: of all runs, each in a folder of its name.
        starts: {(stage, preset): StartingPoint}, with the stage's class and the name of the preset.
        watched: H,W,3 uint8 crop, sides multiples of 64, that shows the progress.
        values: first values of the sliders, by the keys of SETTINGS.
    """

    def __init__(self, data, folder, starts, watched, **values):
        self.data, self.folder, self.starts, self.watched = data, Path(folder), dict(starts), watched
        stages = list(dict.fromkeys(stage for stage, _ in self.starts))
        self.stage = ui.Dropdown(options=[(STAGE_NAMES[s], s) for s in stages], description="stage", style=LABEL)
        self.preset = ui.Dropdown(description="preset", style=LABEL)
        self.controls = {}
        self.settings, self.more = ui.HBox(layout=ui.Layout(flex_flow="row wrap")), ui.Accordion()
        self.range = ui.HTML()
        self.name = ui.Text(description="name", style=LABEL)
        self.start = ui.Button(description="Start", button_style="success", icon="play", tooltip="a new run")
        self.pause = ui.Button(description="Pause", icon="pause")
        self.stop = ui.Button(description="Stop", icon="stop", tooltip="write a checkpoint and end the run")
        self.chosen = ui.Dropdown(description="run", style=LABEL)
        self.copy = ui.Button(description="Copy settings", icon="copy", tooltip="to the sliders", layout=FIT)
        self.go_on = ui.Button(description="Continue", icon="forward", tooltip="up to `steps`", layout=FIT)
        self.changed = ui.Checkbox(description="with the settings above", indent=False, layout=FIT)
        self.delete = ui.Button(description="Delete", icon="trash", tooltip="delete this run", layout=FIT)
        self.beside = ui.SelectMultiple(description="in the chart", rows=4, style=LABEL)
        self.status, self.facts, self.fault = ui.HTML(), ui.HTML(), ui.HTML()
        self.chart, self.pictures = Picture(), ui.HBox(layout=ui.Layout(flex_flow="row wrap"))
        super().__init__([
            row(self.stage, self.preset), self.settings, self.range, self.more,
            row(self.name, self.start, self.pause, self.stop), self.status,
            row(self.chosen, self.copy, self.delete, self.go_on, self.changed), self.facts, self.fault,
            self.beside, self.chart, self.pictures,
        ], layout=ui.Layout(max_width="100%"))  # fmt: skip
        self.latest = Latest(reporting(self.fault, self._draw), REDRAW_SECONDS)
        self._set_stage()
        for key, value in values.items():
            self.controls[key].value = value
        self._list(active.out.name if (active := self._active()) else None)
        self._bind()
        self.latest.request()

    def _bind(self):
        self.stage.observe(lambda change: self._set_stage(), names="value")
        for button, action in (
            (self.start, self._start), (self.go_on, self._continue), (self.copy, self._copy),
            (self.delete, self._delete), (self.pause, lambda: self._active().pause()),
            (self.stop, lambda: self._active().stop()),
        ):  # fmt: skip
            button.on_click(self._pressed(action))
        for control in (self.chosen, self.beside):
            control.observe(lambda change: self.latest.request(), names="value")
        if (run := self._active()) is not None:
            run.listen(self.latest.request)

    # Settings

    def _set_stage(self):
        """Sliders of the chosen stage, set to its defaults."""
        stage = self.stage.value
        presets = [preset for other, preset in self.starts if other is stage]
        self.preset.options, self.preset.value = presets, presets[0]
        values = defaults(stage)
        self.controls = {s.key: slider(s, values[s.key]) for s in SETTINGS if s.key in values}
        drawer = {s.key for s in SETTINGS[MAIN:]}
        self.settings.children = [w for key, w in self.controls.items() if key not in drawer]
        inside = [w for key, w in self.controls.items() if key in drawer]
        self.more.children = [ui.HBox(inside, layout=ui.Layout(flex_flow="row wrap"))]
        self.more.titles = ("more settings",)
        self.controls["quality_low"].observe(self._say_range, names="value")
        self._say_range()

    def _say_range(self, change=None):
        model = self.starts[self.stage.value, self.preset.value].model_config
        low, high = (model.lambda_weight(quality) for quality in self.controls["quality_low"].value)
        self.range.value = f"Qualities: random for each crop, between the two ends: lambda {low:.2g} to {high:.2g}."

    def config(self):
        """TrainConfig or AdversarialConfig that the sliders are set to."""
        return run_config(self.stage.value, **{key: control.value for key, control in self.controls.items()})

    # Runs

    def run_of(self, name):
        """The BackgroundRun of a name; a run on disk has the stage and preset that it was trained with."""
        run = BackgroundRun(self.data, self.folder / name, None, self.watched)
        configs = run.configs()
        key = (stage_of(configs[-1]), run.preset()) if configs else (self.stage.value, self.preset.value)
        run.beginning = self.starts.get(key)
        return run

    @property
    def run(self):
        """The chosen run, or None."""
        return self.run_of(self.chosen.value) if self.chosen.value else None

    def names(self):
        """Names of all runs on disk and of one that has just been started, the oldest first."""
        folders = [path for path in self.folder.glob("*") if (path / "config.json").is_file()]
        folders.sort(key=lambda path: (path / "config.json").stat().st_mtime)
        started = [out.name for out in BackgroundRun.threads if out.parent == self.folder.resolve()]
        alive = [name for name in started if self.run_of(name).thread or self.run_of(name).error]
        return list(dict.fromkeys([path.name for path in folders] + alive))

    def _active(self):
        """The run that is active in this kernel, or None."""
        return next((run for run in map(self.run_of, self.names()) if run.thread), None)

    def _list(self, choose=None):
        """Update the lists; the chosen run is added to the chart."""
        names, before, beside = self.names(), self.chosen.value, set(self.beside.value)
        self.chosen.options, self.beside.options = names, names
        choice = choose or (before if before in names else (names[-1] if names else None))
        self.chosen.value = choice
        self.beside.value = [name for name in names if name in beside or name == choice]
        taken = {path.name for path in self.folder.glob("*")} | set(names)
        self.name.value = next(f"run {i}" for i in range(1, len(taken) + 2) if f"run {i}" not in taken)

    def _start(self):
        name = self.name.value.strip()
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a run: use letters, digits, spaces, and . - _ =")
        if (self.folder / name).exists():
            raise ValueError(f"there is a run {name!r} already: choose another name, or press Continue below")
        self._refuse_two()
        run = self.run_of(name)
        run.listen(self.latest.request)
        run.start(self.config())
        self._list(name)

    def _continue(self):
        self._refuse_two()
        run, own, steps = self.run, self._own_config(), self.controls["steps"].value
        reached = int(run.log()["step"].max())
        if reached >= steps:
            raise ValueError(f"{self.chosen.value!r} has {reached} steps already: set `steps` higher to continue")
        stage = stage_of(own)
        if run.beginning is None:
            raise ValueError(f"this panel has no starting point for {STAGE_NAMES[stage]}, preset {run.preset()}")
        if self.changed.value and stage is not self.stage.value:
            raise ValueError(f"this run is of stage {STAGE_NAMES[stage]}: choose that stage to change its settings")
        values = values_of(own) | {"steps": steps}
        config = self.config() if self.changed.value else run_config(stage, **values)
        run.listen(self.latest.request)
        run.start(config, change=self.changed.value)

    def _own_config(self):
        """The newest configuration of the chosen run, from disk."""
        configs = self.run.configs()
        if not configs or not len(self.run.log()):
            raise ValueError(f"{self.chosen.value!r} ended before its first log row: delete it, and Start again")
        return configs[-1]

    def _refuse_two(self):
        if (run := self._active()) is not None:
            raise ValueError(f"{run.out.name!r} is training: stop it first, since two runs would share the processor")

    def _copy(self):
        own = self._own_config()
        self.stage.value = stage_of(own)
        self.preset.value = self.run.preset()
        for key, value in values_of(own).items():
            self.controls[key].value = value

    def _delete(self):
        self.run.clear()
        self._list()

    def _pressed(self, action):
        def press(button):
            action()
            self.latest.request()

        return reporting(self.fault, press)

    # What is shown

    def _draw(self):
        if tuple(self.names()) != tuple(self.chosen.options):
            self._list()
        run, active = self.run, self._active()
        self._enable(run, active)
        self._draw_chart()
        self._show_pictures(run)
        self.status.value = self._progress(active) if active else "at rest: Start begins a new run"
        own = run.configs() if run else []
        lines = [(f"from step {c['from_step']}: " if c["from_step"] else "") + in_words(c) for c in own]
        self.facts.value = "<br>".join([f"<b>{run.out.name}</b>, preset {run.preset()}:", *lines]) if own else ""
        if run and (error := run.error):
            raise error

    def _draw_chart(self):
        """Curves of the runs in one chart, each with the settings that differ, and a mark where it was continued."""
        runs = {name: self.run_of(name) for name in self.beside.value}
        logs, configs = ({name: getattr(run, of)() for name, run in runs.items()} for of in ("log", "configs"))
        words = differences({name: found[-1] for name, found in configs.items() if found})
        labels = {name: f"{name}: {text}" if text else name for name, text in words.items()}
        marks = {name: [c["from_step"] for c in found[1:]] for name, found in configs.items()}
        alt = f"Curves over the steps of training, of {', '.join(logs) or 'no run yet'}"
        self.chart.draw(training_view(logs, labels=labels, marks=marks), alt)

    def _enable(self, run, active):
        """Lock the settings while a run is active; enable only the buttons that can be used."""
        for control in (*self.controls.values(), self.stage, self.preset, self.name, self.start):
            control.disabled = active is not None
        for button in (self.copy, self.go_on, self.changed, self.delete):
            button.disabled = active is not None or run is None
        self.pause.disabled = self.stop.disabled = active is None or active.state == "stopping"
        self.pause.description = "Go on" if active and active.state in ("pausing", "paused") else "Pause"

    def _progress(self, run):
        log, configs = run.log(), run.configs()
        step = int(log["step"].max()) if len(log) else 0
        end = configs[-1]["steps"] if configs else self.controls["steps"].value
        words = {"training": f"training: step {step} of {end}", "paused": f"paused at step {step} of {end}"}
        return f"{run.out.name}, {words.get(run.state, run.state + ' ...')}"

    def _show_pictures(self, run):
        pair = (run.picture("before"), run.picture("now")) if run else (None, None)
        boxes = []
        for text, pixels in captions(self.watched, *pair):
            picture = Picture()
            picture.draw(pixels, f"the watched crop, {text}")
            boxes.append(ui.VBox([ui.HTML(text), picture]))
        self.pictures.children = boxes
