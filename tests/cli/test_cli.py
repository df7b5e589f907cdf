"""The command line: what it writes, what it never overwrites, and what it says when it cannot."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import FIXTURES, TINY
from PIL import Image

from ganlib.__main__ import main
from ganlib.cli.arguments import COMMANDS
from ganlib.codec import image_io, large_images
from ganlib.codec.codec import load_codec
from ganlib.weights import load_weights, save_weights

MODEL = ["--model", str(TINY)]


@pytest.fixture
def picture(tmp_path, photo):
    path = tmp_path / "photo.png"
    Image.fromarray(photo[:100, :120]).save(path)
    return path


def run(*argv):
    return main([str(a) for a in argv])


def test_there_and_back(picture, tmp_path, capsys):
    before = picture.read_bytes()
    assert run("compress", picture, *MODEL) == 0
    assert "smaller" in capsys.readouterr().out
    assert run("decompress", tmp_path / "photo.gic", "-o", tmp_path / "back.png", *MODEL) == 0
    assert Image.open(tmp_path / "back.png").size == (120, 100)
    assert picture.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.png", "photo.gic", "photo.png"]  # nothing left over


def test_outputs_are_not_overwritten_unless_forced(picture, tmp_path, capsys):
    (tmp_path / "photo.gic").write_text("precious")
    assert run("compress", picture, *MODEL) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "photo.gic").read_text() == "precious"
    assert run("compress", picture, "--force", *MODEL) == 0
    assert (tmp_path / "photo.gic").read_bytes()[:4] == b"\x89GIC"


def test_an_input_is_never_overwritten(picture, tmp_path, capsys):
    before = picture.read_bytes()
    os.symlink(picture, tmp_path / "link.gic")
    for output in (picture, tmp_path / "link.gic"):
        assert run("compress", picture, "-o", output, "--force", *MODEL) == 1
        assert "overwrite an input" in capsys.readouterr().err
    assert picture.read_bytes() == before


def test_target_bytes(picture, tmp_path):
    assert run("compress", picture, "--target-bytes", "600", *MODEL) == 0
    assert 582 <= (tmp_path / "photo.gic").stat().st_size <= 600


def test_a_failure_leaves_no_file(picture, tmp_path, capsys):
    assert run("compress", picture, "--target-bytes", "5", *MODEL) == 1
    assert "too few" in capsys.readouterr().err
    (tmp_path / "bad.gic").write_bytes(b"\x89GIC\r\n\x1a\nwhat")
    assert run("decompress", tmp_path / "bad.gic", *MODEL) == 1
    assert "bad.gic: " in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.gic", "photo.png"]


def test_a_folder_keeps_its_tree_and_tells_what_failed(picture, tmp_path, photo, capsys):
    album = tmp_path / "album"
    (album / "deep").mkdir(parents=True)
    Image.fromarray(photo[:64, :64]).save(album / "a.jpg")
    Image.fromarray(photo[:64, :64]).save(album / "deep" / "b.webp")
    clear = Image.fromarray(photo[:64, :64])
    clear.putalpha(128)
    clear.save(album / "c.png")
    assert run("compress", album, "-o", tmp_path / "out", *MODEL) == 1
    said = capsys.readouterr()
    assert "2 of 3 files" in said.out and "c.png" in said.err and "transparency" in said.err
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.gic")) == ["a.gic", "b.gic"]
    assert (tmp_path / "out" / "deep" / "b.gic").exists()
    assert run("compress", album, "-o", tmp_path / "out", "--force", "--convert", *MODEL) == 0
    assert run("decompress", tmp_path / "out", "-o", tmp_path / "back", "--format", "jpg", *MODEL) == 0
    assert len(list((tmp_path / "back").rglob("*.jpg"))) == 3


def test_the_report_draws_the_flowchart(tmp_path, capsys):
    assert run("report", "--parts", "flowchart", "--out", tmp_path, *MODEL) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "flowchart.svg")
    svg = (tmp_path / "flowchart.svg").read_text()
    assert svg.startswith("<svg") and "g_s.stages" in svg and "Discriminator.judge" in svg


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "nowhere.png"], "does not exist"),
        (["decompress", FIXTURES / "golden.gic", "-o", "x.png"], None),
        (["decompress", FIXTURES / "golden.gic", "-o", "picture.doc", *MODEL], "no image format"),
        (["compress", FIXTURES / "golden.png", "-o", "x.gic", "--model", "heavy"], "no model 'heavy'"),
        (["info", FIXTURES / "golden.png"], "not a .gic"),
        (["datasets", "fetch"], "kodak"),
        (["datasets", "fetch", "mnist"], "mnist"),
        (["datasets", "list", "mnist"], "no data set 'mnist': choose from"),
        (["train", "--data", "nowhere", "--out", "x"], "nowhere"),
        (["train", "--data", ".", "--out", "x", "--crop", "100"], "multiple of 64"),
        (["train", "--data", ".", "--out", "x", "--adversarial-weight", "1"], "--adversarial-weight: of --stage"),
        (
            ["report", "--parts", "poem", *MODEL],
            "no part poem: choose from sizes, curves, four-sizes, cited, flowchart",
        ),
    ],
)
def test_mistakes_are_told_on_one_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if message is None:  # the golden file is not of the default model
        message = "weights"
    assert run(*argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("ganlib: ") and message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_region_and_a_salvage(photo, tmp_path, capsys):
    Image.fromarray(np.tile(photo, (1, 3, 1))[:64, :1300]).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    part = tmp_path / "part.png"
    assert run("decompress", tmp_path / "a.gic", "-o", part, "--region", 1100, 10, 1200, 60, *MODEL) == 0
    assert Image.open(part).size == (100, 50)
    assert run("decompress", tmp_path / "a.gic", "-o", part, "--region", 0, 0, 9999, 60, "--force", *MODEL) == 1
    assert "1300x64" in capsys.readouterr().err
    data = (tmp_path / "a.gic").read_bytes()
    (tmp_path / "a.gic").write_bytes(data[:-200] + bytes(200))
    back = tmp_path / "back.png"
    assert run("decompress", tmp_path / "a.gic", "-o", back, *MODEL) == 1 and not back.exists()
    capsys.readouterr()
    assert run("decompress", tmp_path / "a.gic", "-o", back, "--salvage", *MODEL) == 0
    assert "missing: 1" in capsys.readouterr().err
    valid = np.asarray(Image.open(tmp_path / "back.valid.png"))
    assert valid[:, :500].all() and not valid[:, 1100:].any()


def test_a_salvage_names_damaged_metadata_and_writes_no_mask_for_them(photo, tmp_path, capsys):
    Image.fromarray(photo[:64, :64]).save(tmp_path / "a.png", icc_profile=bytes(200))
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    data = bytearray((tmp_path / "a.gic").read_bytes())
    data[data.index(b"icCP") + 50] ^= 1
    (tmp_path / "a.gic").write_bytes(data)
    assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / "back.png", "--salvage", *MODEL) == 0
    assert "damaged and left out: its colour profile" in capsys.readouterr().err
    assert not (tmp_path / "back.valid.png").exists()


def test_the_mask_of_a_salvage_overwrites_nothing(photo, tmp_path, capsys):
    Image.fromarray(photo[:64, :64]).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    files = tmp_path / "files"
    files.mkdir()
    damaged = (tmp_path / "a.gic").read_bytes()[:-40] + bytes(40)
    for name in ("a.gic", "a.valid.gic"):
        (files / name).write_bytes(damaged)
    (tmp_path / "back.valid.png").write_text("precious")
    assert run("decompress", files / "a.gic", "-o", tmp_path / "back.png", "--salvage", *MODEL) == 1
    assert "back.valid.png exists: give --force" in capsys.readouterr().err
    assert (tmp_path / "back.valid.png").read_text() == "precious" and not (tmp_path / "back.png").exists()
    assert run("decompress", files, "-o", tmp_path / "out", "--salvage", *MODEL) == 1
    assert "a.valid.png would be written twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_large_pictures_go_through_strips(photo, tmp_path, monkeypatch, suffix):
    Image.fromarray(photo[:200, :300]).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    written, write = [], large_images.write
    monkeypatch.setattr(large_images, "write", lambda *args: written.append(args) or write(*args))
    for large in (1, 10**9):
        monkeypatch.setattr(image_io, "LARGE", large)
        assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / f"{large}.{suffix}", *MODEL) == 0
    assert len(written) == 1
    ours, theirs = (np.asarray(Image.open(tmp_path / f"{large}.{suffix}")).astype(int) for large in (1, 10**9))
    assert np.abs(ours - theirs).max() <= (0 if suffix != "jpg" else 8)


def test_info_tells_every_field_without_running_a_network(monkeypatch, capsys):
    from torch import nn

    monkeypatch.setattr(nn.Module, "__call__", lambda *_: pytest.fail("a network ran"))
    assert run("info", FIXTURES / "golden.gic") == 0
    said = capsys.readouterr().out
    for field in ("81", "95", "quality  60.0", "1024", "TILE", "channels 3", "content", "bpp"):
        assert field in said


def test_info_takes_standard_input(capsys, monkeypatch):
    with open(FIXTURES / "golden.gic") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("info", "-") == 0
    from_stream = capsys.readouterr().out
    assert run("info", FIXTURES / "golden.gic") == 0
    assert from_stream.startswith("standard input: ")
    assert from_stream.splitlines()[1:] == capsys.readouterr().out.splitlines()[1:]


def test_info_of_a_file_whose_model_lets_it_be_cut_off(tmp_path, capsys):
    data = load_codec("toderici").compress(np.zeros((16, 16, 3), np.uint8), quality=100)
    cut = tmp_path / "cut.gic"
    cut.write_bytes(data[:-5])
    assert run("info", cut) == 0
    assert f"cut.gic: {len(data) - 5:,} bytes" in capsys.readouterr().out


def test_info_of_a_model(capsys):
    assert run("info", *MODEL) == 0
    said = capsys.readouterr().out
    assert "kMAC/pixel" in said and "g_a" in said and "parameters 214,632" in said


def test_info_tells_what_is_known_of_a_models_training(tmp_path, capsys):
    stages = [
        {"stage": "rate-distortion", "steps": 2000, "seconds": 5400.0},
        {"stage": "realism forgotten", "steps": 0},
        {"stage": 7, "steps": "many", "seconds": None},
        {},
    ]
    weights = load_weights(TINY)
    save_weights(weights.model, tmp_path / "trained.safetensors", stages, weights.tables)
    assert run("info", "--model", tmp_path / "trained.safetensors") == 0
    told = [line.split("trained  ")[1] for line in capsys.readouterr().out.splitlines() if "trained  " in line]
    assert told == [
        "rate-distortion: 2,000 steps in 1.5 hours", "realism forgotten: 0 steps", "7", "stage without a name",
    ]  # fmt: skip


def test_evaluate_writes_a_row_an_image_and_quality(picture, tmp_path, capsys):
    out = tmp_path / "table.csv"
    assert run("evaluate", "--images", picture, "--quality", "20", "80", "--out", out, *MODEL) == 0
    table = pd.read_csv(out)
    assert (
        list(table["quality"]) == [20, 80]
        and (np.diff(table["bytes"]) > 0).all()
        and (np.diff(table["psnr"]) > 0).all()
    )
    assert "PSNR at 0.28 bpp" in capsys.readouterr().out


def test_evaluate_writes_a_row_a_realism(picture, tmp_path, capsys):
    out = tmp_path / "table.csv"
    asked = ["--images", picture, "--quality", "20", "--realism", "0", "0.5", "1"]
    assert run("evaluate", *asked, "--out", out, *MODEL) == 0
    table = pd.read_csv(out)
    assert list(table["realism"]) == [0, 0.5, 1] and table["bytes"].nunique() == 1
    assert "nan" not in capsys.readouterr().out  # one quality has no PSNR at other rates
    assert (table[["lpips", "dists"]] > 0).all(axis=None)
    assert run("evaluate", *asked, "--no-perceptual", "--out", out, *MODEL) == 0
    assert "lpips" not in pd.read_csv(out)


def test_train_stage_two_by_the_command_line(picture, tmp_path, capsys):
    asked = ["train", "--stage", "adversarial", "--data", picture, "--out", tmp_path / "run"]
    asked += ["--steps", "1", "--batch", "2", "--crop", "64", "--precision", "no", "--adversarial-weight", "0.3"]
    assert run(*asked) == 1
    assert "--init" in capsys.readouterr().err
    assert run(*asked, "--init", MODEL[1]) == 0
    trained = str(tmp_path / "run" / "weights.safetensors")
    assert run("info", "--model", trained) == 0
    assert "trained  adversarial: 1 steps" in capsys.readouterr().out
    assert (
        run("decompress", FIXTURES / "golden.gic", "-o", tmp_path / "a.png", "--realism", "1", "--model", trained)
        == 0
    )


def test_tune_sweeps_and_prints_the_table(picture, tmp_path, monkeypatch, capsys):
    from ganlib.evaluation import sweep

    def two(steps):
        rows = real(steps)[:2]
        return [dataclasses.replace(r, train=dataclasses.replace(r.train, batch=1, crop=64)) for r in rows]

    real = sweep.grid
    monkeypatch.setattr(sweep, "grid", two)
    monkeypatch.setattr("ganlib.datasets.embedded", lambda: {"one": np.asarray(Image.open(picture))})
    out = tmp_path / "sweep"
    assert run("tune", "--data", picture, "--out", out, "--steps", "1") == 0
    said = capsys.readouterr().out
    assert "default, other seed" in said and "BD-rate" in said
    assert list(pd.read_csv(out / "sweep.csv")["steps"]) == [1, 1] and (out / "sweep.png").exists()
    assert run("tune", "--data", picture, "--out", out, "--steps", "2") == 1
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_reads_like_a_manual(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(*command.split(), "--help")
    assert stopped.value.code == 0 and len(capsys.readouterr().out) > 300


def test_as_a_program():
    done = subprocess.run([sys.executable, "-m", "ganlib", "what"], capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: 'what'" in done.stderr
