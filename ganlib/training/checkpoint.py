"""checkpoint.pt: the state of a run on disk. A run that resumes from it continues as if it had not stopped.

    averaged weights --> weights.safetensors, then Run.state() --> checkpoint.pt

The checkpoint comes last: if the process is killed in between, the weights are newer than it, and the resumed run
overwrites them.
"""

import dataclasses
import io
import zipfile
from textwrap import shorten

import torch

from ganlib.atomic_write import atomic_write

NAME = "checkpoint.pt"
# Settings that may differ when a run resumes: apart from the photographs, they do not change a step's gradient.
FREE = {"steps", "hours", "precision", "accumulate", "recompute", "compile", "checkpoint_minutes"}
FREE |= {"log_every", "images", "folders"}


def save_checkpoint(run, folder, recent_log=()):
    """Write the checkpoint of a run, with its averaged weights beside it.

    Args:
        run: Run.
        folder: Path of the run.
        recent_log: values of the steps since the last row of the log.

    Raises:
        OSError: the disk is full, or the folder cannot be written to. The last checkpoint is still there.
    """
    export(run, folder)
    data = io.BytesIO()  # torch's own write errors name neither file nor cause
    torch.save(run.state() | {"recent_log": list(recent_log)}, data)
    with atomic_write(folder / NAME) as part:
        part.write_bytes(data.getbuffer())


def export(run, folder):
    """Write the averaged weights of a run into its folder, with descriptions of all their training stages."""
    run.export(folder, [*run.earlier_stages, run.description()])


def load_checkpoint(run, folder, change=False):
    """Resume from the checkpoint in a folder, if there is one.

    Args:
        run: Run, of the same stage and model.
        folder: Path of the run.
        change: accept settings other than the run's first ones; its description lists them and their first step.

    Returns:
        The values of the steps since the last row of the log.

    Raises:
        ValueError: it cannot be read, or its model, stage or settings are others. Nothing has changed on disk; do not
            use the Run.
    """
    path, config = folder / NAME, run.bare_model.config
    if not path.exists():
        return []
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load verifies no checksum
            if damaged := archive.testzip():
                raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        # fields of the model's configuration that are newer than the checkpoint have their defaults
        model_config = {field.name: field.default for field in dataclasses.fields(config)} | state["model_config"]
        stage = state["stage"]
    except Exception as error:  # foreign bytes can raise any exception in a decoder
        raise ValueError(_unreadable(path, error)) from error
    if stage != run.STAGE:
        raise ValueError(f"{path} is of stage {stage!r}: choose another --out, or that --stage")
    if model_config != dataclasses.asdict(config):
        raise ValueError(f"{path} holds another model: choose another --out, or the preset that it began with")
    try:
        run.restore(state)
    except Exception as error:  # raised by any part's own load_state_dict()
        raise ValueError(_unreadable(path, error)) from error
    run.configs = _continued(path, state.get("configs", []), run.settings, run.step, change)
    return state.get("recent_log", [])


def _unreadable(path, error):
    """Error message for a checkpoint that is damaged, or for another kind of file."""
    reason = shorten(f"{type(error).__name__}: {error}", 300)
    return (
        f"{path} is not a checkpoint that training can resume from ({reason}): restore a copy of it, or start again "
        "in another folder (--out); --init can begin with the averaged weights beside it"
    )


def _continued(path, configs, settings, step, change):
    """The settings of a resumed run, {"from_step", ...} each: those so far, and the present ones if new."""
    last = configs[-1] if configs else {}
    differing = sorted(name for name in settings if name in last and last[name] != settings[name])
    if (refused := [name for name in differing if name not in FREE]) and not change:
        differences = ", ".join(f"{name}={last[name]!r}, not {settings[name]!r}" for name in refused)
        raise ValueError(
            f"{path} was trained with {differences}: choose another folder (--out), the same values, or --change to "
            "go on with the new ones"
        )
    if configs and not differing:
        return configs
    # no step was trained with an entry that begins at this step or later
    return [config for config in configs if config["from_step"] < step] + [{"from_step": step, **settings}]
