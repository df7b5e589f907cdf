"""Runs on disk: other settings, damaged and foreign files. Each says which file and what to do; nothing is lost."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import SMALL, TINY, rows

from ganlib.config import TrainConfig, preset
from ganlib.training.checkpoint import FREE
from ganlib.training.log import Record
from ganlib.training.loop import train
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights, save_weights

CONFIG = TrainConfig(**SMALL, steps=2)
TINY_PRESET = preset("tiny")
pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory, accelerator):
    """Files of a finished run of two steps: {name: bytes}."""
    out = tmp_path_factory.mktemp("trained")
    train(RateDistortionRun, [folder], out, TINY_PRESET, CONFIG)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def out(trained, tmp_path):
    """A copy of it."""
    for name, data in trained.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def go_on(folder, out, model=TINY_PRESET, change=False, **changed):
    return train(RateDistortionRun, [folder], out, model, replace(CONFIG, **changed), change=change)


def configs_of(out):
    """Settings from each step on, as config.json, checkpoint and weights tell them; they must agree."""
    told = json.loads((out / "config.json").read_text())["train"]
    assert torch.load(out / "checkpoint.pt", weights_only=True)["configs"] == told
    assert load_weights(out / "weights.safetensors").stages[-1]["configs"] == told
    return told


# Settings


def test_a_run_from_before_a_model_could_do_without_its_parts_goes_on(folder, out):
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    del state["model_config"]["hyperprior"], state["model_config"]["checkerboard"]
    torch.save(state, out / "checkpoint.pt")
    with pytest.raises(ValueError, match="holds another model"):
        go_on(folder, out, replace(TINY_PRESET, checkerboard=False), steps=3)
    go_on(folder, out, steps=3)
    assert rows(out)[-1]["step"] == "2" and load_weights(out / "weights.safetensors").stages[-1]["steps"] == 3


def test_weights_tell_how_they_were_trained(folder, out):
    (stage,) = load_weights(out / "weights.safetensors").stages
    assert (stage["stage"], stage["steps"], stage["skipped"], stage["seed"]) == ("rate-distortion", 2, 0, CONFIG.seed)
    assert stage["seconds"] >= 0 and stage["version"]
    (settings,) = stage["configs"]
    about = {"from_step": 0, "hours": None, "init": None, "init_weights": None, "processes": 1}
    about |= {"images": 4, "folders": [folder.name]}
    assert settings == about | dataclasses.asdict(CONFIG)


def test_a_finished_run_says_so_and_changes_nothing(folder, out, trained, caplog):
    model = go_on(folder, out)
    assert "finished already, at step 2: more --steps or --hours" in caplog.text
    assert files(out) == trained
    average = torch.load(out / "checkpoint.pt", weights_only=True)["average"]
    assert all(torch.equal(tensor, average[f"module.{name}"]) for name, tensor in model.state_dict().items())
    go_on(folder, out, log_every=7)  # free to differ, and was never trained with
    go_on(folder, out, lr=1e-4, change=True)
    assert files(out) == trained


@pytest.mark.parametrize("field, value", [("lr", 1e-4), ("perceptual_weight", 0.0), ("seed", 1), ("batch", 4)])
@pytest.mark.parametrize("steps", [2, 4])  # finished, and to be prolonged
def test_other_settings_are_refused(folder, out, trained, field, value, steps):
    was = getattr(CONFIG, field)
    with pytest.raises(ValueError, match=f"checkpoint.pt was trained with {field}={was}, not {value}: .*--change"):
        go_on(folder, out, steps=steps, **{field: value})
    assert files(out) == trained


def test_a_change_that_is_asked_for_is_told_with_its_step(folder, out):
    go_on(folder, out, steps=4, lr=1e-4, change=True)
    began, changed = configs_of(out)
    assert (began["from_step"], began["lr"], began["steps"]) == (0, CONFIG.lr, 2)
    assert (changed["from_step"], changed["lr"], changed["steps"]) == (2, 1e-4, 4)
    assert [row["step"] for row in rows(out)] == ["2", "4"]
    go_on(folder, out, steps=6, lr=1e-4)  # the new ones are now those of the run
    assert [entry["from_step"] for entry in configs_of(out)] == [0, 2, 4]
    with pytest.raises(ValueError, match="lr=0.0001, not 0.01"):
        go_on(folder, out, steps=6)


def test_what_leaves_the_gradient_as_it_is_may_differ_and_is_told_too(folder, out):
    free = dict(steps=4, precision="bf16", accumulate=2, recompute=True, checkpoint_minutes=1.0, log_every=1)
    assert free.keys() | {"compile", "hours", "images", "folders"} == FREE
    go_on(folder, out, **free)
    assert [{name: entry[name] for name in free} for entry in configs_of(out)][1] == free


def test_other_photographs_are_told_too(folder, out, tmp_path_factory):
    more = tmp_path_factory.mktemp("more")
    for path in folder.iterdir():
        (more / path.name).write_bytes(path.read_bytes())
        (more / f"again-{path.name}").write_bytes(path.read_bytes())
    go_on(more, out, steps=4)
    assert [(entry["images"], entry["folders"]) for entry in configs_of(out)] == [
        (4, [folder.name]),
        (8, [more.name]),
    ]


def test_settings_that_were_never_trained_with_are_forgotten(folder, out):
    def stop_at_once(row, run):
        raise KeyboardInterrupt

    config = replace(CONFIG, steps=6, log_every=1)
    train(RateDistortionRun, [folder], out, TINY_PRESET, config, on_log=stop_at_once)
    (out / "config.json").unlink()  # as if killed in between
    go_on(folder, out, steps=5, log_every=1)
    assert [(entry["from_step"], entry["steps"]) for entry in configs_of(out)] == [(0, 2), (2, 6), (3, 5)]


def test_other_weights_to_begin_with_are_refused(folder, tmp_path):
    weights = load_weights(TINY)
    config = weights.model.config
    train(RateDistortionRun, [folder], tmp_path / "run", config, CONFIG, init=TINY)
    with torch.no_grad():
        weights.model.log_inverse_gain += 0.1
    save_weights(weights.model, tmp_path / "other.safetensors")
    for init in (None, tmp_path / "other.safetensors"):
        with pytest.raises(ValueError, match="init='.{16}', not"):
            train(RateDistortionRun, [folder], tmp_path / "run", config, CONFIG, init=init)
    generator = load_weights(TINY)  # another generator alone, which the fingerprint leaves out
    with torch.no_grad():
        generator.model.g_s.enter.bias += 0.1
    save_weights(generator.model, tmp_path / "other.safetensors", tables=generator.tables)
    with pytest.raises(ValueError, match="with init_weights='.{16}', not"):
        train(RateDistortionRun, [folder], tmp_path / "run", config, CONFIG, init=tmp_path / "other.safetensors")


def test_a_run_from_before_all_weights_were_compared_goes_on(folder, out):
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    for settings in state["configs"]:
        del settings["init_weights"]
    torch.save(state, out / "checkpoint.pt")
    go_on(folder, out, steps=3)
    assert load_weights(out / "weights.safetensors").stages[-1]["steps"] == 3


def test_another_models_checkpoint_is_refused(folder, out, trained):
    with pytest.raises(ValueError, match="another model"):
        go_on(folder, out, model=replace(TINY_PRESET, hyper_width=24))
    assert files(out) == trained


def test_a_checkpoint_of_before_these_settings_were_kept_goes_on(folder, out):
    """With the keys that a checkpoint had once: model, average, optimizer, progress, model_config and stage."""
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    old = {name: state[name] for name in ("model", "average", "optimizer", "progress", "model_config", "stage")}
    torch.save(old, out / "checkpoint.pt")
    go_on(folder, out, steps=4)
    assert [row["step"] for row in rows(out)] == ["2", "4"]
    (known,) = configs_of(out)
    assert (known["from_step"], known["steps"]) == (2, 4)  # of the steps before, nothing is known


# Damage


def checkpoints(whole):
    """Damaged and foreign bytes of a checkpoint."""
    yield "empty", b""
    yield "text", b"hello"
    for part in (0.01, 0.5, 0.999):
        yield f"cut at {part}", whole[: int(part * len(whole))]
    for part in (0.2, 0.5, 0.8):  # torch.load alone takes them
        i = int(part * len(whole))
        yield f"a byte at {part}", whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :]
    yield "zeros", bytes(len(whole))
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)


def foreign(whole, tmp_path):
    """Objects that torch.load reads, and that are no checkpoint of ours, or not all of one."""
    path = tmp_path / "whole.pt"
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    yield "a list", [1, 2]
    yield "a tensor", torch.zeros(3)
    yield "another program's", {"state_dict": {}, "epoch": 3}
    for key in ("stage", "model", "average", "optimizer", "progress", "model_config"):
        yield f"without {key}", {name: value for name, value in state.items() if name != key}
    yield "without a weight", state | {"model": dict(list(state["model"].items())[1:])}
    yield "weight of another shape", state | {"model": state["model"] | {"log_gain": torch.zeros(2, 2)}}
    yield "other optimizer", state | {"optimizer": {"state": {}, "param_groups": []}}
    yield "progress of another kind", state | {"progress": [1, 2, 3]}


def test_a_damaged_checkpoint_says_so_and_stays(folder, out, trained, tmp_path):
    path = out / "checkpoint.pt"
    for what, data in checkpoints(trained["checkpoint.pt"]):
        path.write_bytes(data)
        before = files(out)
        with pytest.raises(ValueError, match=r"checkpoint.pt is not a checkpoint .*--out.*--init"):
            go_on(folder, out, steps=4)
            pytest.fail(what)
        assert files(out) == before, what


def test_a_checkpoint_of_another_program_says_so_and_stays(folder, out, trained, tmp_path_factory):
    path = out / "checkpoint.pt"
    for what, value in foreign(trained["checkpoint.pt"], tmp_path_factory.mktemp("whole")):
        torch.save(value, path)
        before = files(out)
        with pytest.raises(ValueError, match=r"checkpoint.pt is not a checkpoint .*--out.*--init"):
            go_on(folder, out, steps=4)
            pytest.fail(what)
        assert files(out) == before, what


@pytest.mark.parametrize(
    "damage, line",
    [
        (lambda text: text.replace("loss", "cost"), 1),
        (lambda text: "\x00" + text, 1),
        (lambda text: text + "3,one\r\n", 3),
        (lambda text: text + "3,1,1,1,1,1,0,\r\n", 3),
        (lambda text: text + "3,1,1,1,1,1,0,9,9\r\n", 3),
        (lambda text: text.replace("2,", "2,x", 1), 2),
    ],
)
def test_a_damaged_log_says_where_and_stays(folder, out, damage, line):
    text = (out / "log.csv").read_bytes().decode()
    (out / "log.csv").write_bytes(damage(text).encode())
    before = files(out)
    with pytest.raises(ValueError, match=rf"log.csv cannot be gone on with \(line {line}: .*repair it, move it away"):
        go_on(folder, out, steps=4)
    assert files(out) == before


@pytest.mark.parametrize("left", [b"", b"step,lo"])
def test_a_log_without_a_whole_line_is_begun_anew(folder, out, left):
    (out / "log.csv").write_bytes(left)
    go_on(folder, out, steps=4)
    assert [row["step"] for row in rows(out)] == ["4"]


def test_a_last_line_that_is_not_whole_is_a_step_that_a_kill_undid(folder, out):
    with open(out / "log.csv", "a") as file:
        file.write("3,1.25,0.")
    go_on(folder, out, steps=4)
    assert [row["step"] for row in rows(out)] == ["2", "4"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"compilerOptions": {}}', "\x00"])
def test_a_config_json_that_is_not_ours_is_not_overwritten(folder, tmp_path, out, text):
    for run in (out, tmp_path / "new"):
        run.mkdir(exist_ok=True)
        (run / "config.json").write_text(text)
        with pytest.raises(ValueError, match="config.json is not of a training run .*move it away"):
            go_on(folder, run, steps=4)
        assert (run / "config.json").read_text() == text
        assert (run / "checkpoint.pt").exists() == (run == out)


def test_a_config_json_that_is_gone_is_written_again(folder, out):
    (out / "config.json").unlink()
    go_on(folder, out, steps=4)
    assert [entry["from_step"] for entry in configs_of(out)] == [0, 2]


def test_a_record_keeps_what_it_was_given(tmp_path):
    columns = ("step", "value")
    record = Record(tmp_path / "a.csv", columns, 0)
    record.write({"step": 1, "value": float("nan")}, {"step": 2, "value": 0.1})
    assert (tmp_path / "a.csv").read_text() == "step,value\n1,nan\n2,0.1\n"  # before it is closed
    record.close()
    Record(tmp_path / "a.csv", columns, 1).close()
    assert (tmp_path / "a.csv").read_text() == "step,value\n1,nan\n"


# One process a folder


HOLD = """
import sys, time
from pathlib import Path
from ganlib.training.loop import only_process_in
with only_process_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_has_one_process_until_it_dies(folder, out, trained):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process is training in"):
            go_on(folder, out, steps=4)
        assert files(out) == trained
    finally:
        holder.kill()  # SIGKILL: it cannot tidy up
        holder.wait()
    go_on(folder, out, steps=4)
    assert [row["step"] for row in rows(out)] == ["2", "4"]
