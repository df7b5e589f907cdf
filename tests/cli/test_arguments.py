"""Every number of every command has limits, which its error and its help tell; no path is empty."""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import FIXTURES, TINY
from PIL import Image

import ganlib
from ganlib.__main__ import main
from ganlib.cli.arguments import COMMANDS, parser
from ganlib.cli.file_jobs import CommandError
from ganlib.codec import container
from ganlib.codec.header import tile_limits
from ganlib.config import AdversarialConfig, limits

MODEL = ["--model", str(TINY)]
TRAIN = ["train", "--data", ".", "--out", "x"]
GOLDEN = FIXTURES / "golden.gic"
PNG = FIXTURES / "golden.png"


def run(*argv):
    return main([str(a) for a in argv])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "a.png", "--quality", "nan"], "--quality nan must be from 0 to 100"),
        (["compress", "a.png", "--quality", "-1"], "--quality -1 must be from 0 to 100"),
        (["compress", "a.png", "--target-bytes", "0"], "--target-bytes 0 must be from 1 to 1,000,000,000,000"),
        (["compress", "a.png", "--target-bpp", "inf"], "--target-bpp inf must be from 0.0001 to 10,000"),
        (["compress", "a.png", "--target-bpp", "nan"], "--target-bpp nan must be from"),
        (["compress", "a.png", "--target-bpp", "0"], "--target-bpp 0 must be from"),
        (["compress", "a.png", "--jobs", "0"], "--jobs 0 must be from 1 to 1,024"),
        (["compress", "a.png", "--max-pixels", "0"], "--max-pixels 0 must be from 1 to 1,073,741,824"),
        (["decompress", "a.gic", "--realism", "1.5"], "--realism 1.5 must be from 0 to 1"),
        (["decompress", "a.gic", "--realism", "nan"], "--realism nan must be from 0 to 1"),
        (["decompress", "a.gic", "--region", "-1", "0", "5", "5"], "--region -1 must be from 0 to 1,048,576"),
        (["decompress", "a.gic", "--max-pixels", "-5"], "--max-pixels -5 must be from 1"),
        (["evaluate", "--quality", "50", "101"], "--quality 101 must be from 0 to 100"),
        (["evaluate", "--realism", "0", "nan"], "--realism nan must be from 0 to 1"),
        (["tune", "--data", ".", "--out", "x", "--steps", "-3"], "--steps -3 must be from 1 to 1,000,000,000"),
        ([*TRAIN, "--hours", "-1"], "--hours -1 must be from 0.0001 to 100,000"),
        ([*TRAIN, "--hours", "0"], "--hours 0 must be from"),
        ([*TRAIN, "--hours", "nan"], "--hours nan must be from"),
        ([*TRAIN, "--hours", "inf"], "--hours inf must be from"),
        ([*TRAIN, "--steps", "0"], "--steps 0 must be from 1 to 1,000,000,000"),
        ([*TRAIN, "--batch", "0"], "--batch 0 must be from 1 to 4,096"),
        ([*TRAIN, "--crop", "0"], "--crop 0 must be from 64 to 4,096"),
        ([*TRAIN, "--crop", "100"], "multiple of 64"),
        ([*TRAIN, "--log-every", "0"], "--log-every 0 must be from"),
        ([*TRAIN, "--warmup", "-1"], "--warmup -1 must be from"),
        ([*TRAIN, "--decay", "2"], "--decay 2 must be from 0 to 1"),
        ([*TRAIN, "--precision", "fp8"], "must be one of"),
        (["compress", ""], "input is empty: name a file or a folder; . is the current one"),
        (["compress", "a.png", "-o", ""], "--output is empty"),
        (["decompress", ""], "input is empty"),
        (["info", ""], "file is empty"),
        (["evaluate", "--images", ""], "--images is empty"),
        (["evaluate", "--out", ""], "--out is empty"),
        (["train", "--data", "", "--out", "x"], "--data is empty"),
        (["train", "--data", ".", "--out", ""], "--out is empty"),
        (["tune", "--data", "", "--out", "x"], "--data is empty"),
        (["report", "--images", ""], "--images is empty"),
        (["datasets", "fetch", "kodak", "--root", ""], "--root is empty"),
        (["info", "nowhere.gic"], "nowhere.gic does not exist"),
        (["info", "."], ". is a folder"),
        (["info", str(FIXTURES / "make_golden.py")], "not a .gic file"),
        (["info", "--model", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["info", "--model", str(GOLDEN)], "no model"),
        (["evaluate", "--images", "nowhere", *MODEL], "nowhere does not exist"),
        (["decompress", str(GOLDEN), "-o", "a.psd", *MODEL], "no image format is called '.psd'"),
        (["decompress", str(GOLDEN), "-o", "a.gic", *MODEL], ".gic is what is decompressed: name a picture; .png"),
        (["decompress", str(GOLDEN), "--format", "GIC", *MODEL], ".gic is what is decompressed: name a picture"),
        (["compress", str(GOLDEN), *MODEL], "golden.gic: a .gic file already: decompress it first"),
        (["compress", str(GOLDEN), "-o", "a.gic", *MODEL], "golden.gic: a .gic file already: decompress it first"),
        (["compress", str(PNG), "-o", "a.PNG", *MODEL], "a.PNG: what is written is a .gic file, so let its name"),
        (["compress", "-", "-o", "a.heic", *MODEL], "a.heic: what is written is a .gic file, so let its name"),
        (["compress", str(PNG), "-o", "a.heic", *MODEL], "a.heic: what is written is a .gic file, so let its name"),
        (["decompress", str(GOLDEN), "-o", f"{GOLDEN}/a.png", *MODEL], "a file is where its folder should be"),
        (
            ["train", "--data", str(FIXTURES), "--out", str(PNG), "--precision", "no"],
            "golden.png is a file, or in one",
        ),
        (["info", "/dev/zero"], "not a .gic file"),
        (["decompress", "a.gic", "--device", "gpu"], "--device gpu must be cpu, cuda, cuda:1"),
        (["info", "--device", "meta"], "--device meta must be"),
    ],
)
def test_mistakes_are_told_on_one_line_with_the_limits(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 1
    said = capsys.readouterr()
    assert said.err.startswith("ganlib: ") and message in said.err and said.err.count("\n") == 1
    assert not said.out and not list(tmp_path.iterdir())


def test_a_foreign_file_among_those_that_are_measured(tmp_path, capsys):
    (tmp_path / "a.png").write_text("no picture")
    assert run("evaluate", "--images", tmp_path, *MODEL) == 1
    said = capsys.readouterr().err
    assert "a.png cannot be read as an image" in said and "Traceback" not in said


def test_every_field_of_the_training_is_told_with_its_limits_in_the_help(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(AdversarialConfig):
        assert f"--{field.name.replace('_', '-')} " in said
        assert len(field.metadata["help"]) > 9 and f"{field.metadata['help']}; default " in said
        if "low" in field.metadata:
            assert f"({limits(field)})" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_has_limits(command):
    """What is beyond any limit, and what is no number, is refused wherever a number is taken."""
    [commands] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    for action in commands.choices[command]._actions:
        if action.type is not None and action.type.__name__ in ("int", "float"):
            beyond = [str(10**30), "-1e9" if action.type.__name__ == "float" else "-1000000000"]
            for text in beyond + ["nan", "inf", "-inf"] * (action.type.__name__ == "float"):
                with pytest.raises(CommandError, match=" must be from "):
                    action.type(text)


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        run("--version")
    assert end.value.code == 0 and capsys.readouterr().out == f"ganlib {ganlib.__version__}\n"


def test_wrong_usage_has_a_status_of_its_own(capsys):
    for argv in (["what"], [], ["compress"], ["compress", "a.png", "--quality", "fine"]):
        with pytest.raises(SystemExit) as stopped:
            run(*argv)
        assert stopped.value.code == 2


def test_small_files_that_ask_for_much(tmp_path, capsys, monkeypatch):
    """The limit is checked before room is made, and a region may be smaller than it."""
    Image.fromarray(np.zeros((64, 2000, 3), np.uint8)).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    gic, back = tmp_path / "a.gic", tmp_path / "b.png"
    assert run("decompress", gic, "-o", back, "--max-pixels", 127_999, *MODEL) == 1
    said = capsys.readouterr().err
    assert "2000x64 pixels are more than --max-pixels 127999" in said and "--region" in said
    assert run("decompress", gic, "-o", back, "--max-pixels", 2500, "--region", 0, 0, 50, 50, *MODEL) == 0
    assert run("decompress", gic, "-o", back, "--max-pixels", 128_000, "--force", *MODEL) == 0
    # a header, and the least that tiles may be
    stream = container.read(gic.read_bytes())
    large = dataclasses.replace(stream.header, width=2**15, height=2**15)
    tiles = [bytes(tile_limits(large.tile_area(i))[0]) for i in range(large.tiles)]
    data = container.write(dataclasses.replace(stream, header=large, tiles=tiles))
    (tmp_path / "bomb.gic").write_bytes(data)
    assert len(data) < 600_000
    for more in ([], ["--salvage"]):
        monkeypatch.setattr("ganlib.Codec.strips", lambda *args, **options: pytest.fail("it has begun to decode"))
        assert run("decompress", tmp_path / "bomb.gic", "-o", tmp_path / "c.png", *more, *MODEL) == 1
        assert (
            f"{tmp_path}/bomb.gic: 32768x32768 pixels are more than --max-pixels 200000000" in capsys.readouterr().err
        )


def test_the_limit_of_what_is_read_in_one_piece(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (50, 50)).save(tmp_path / "a.bmp")
    assert run("compress", tmp_path / "a.bmp", *MODEL) == 1
    assert "--max-pixels" in capsys.readouterr().err
    assert run("compress", tmp_path / "a.bmp", "--max-pixels", 2499, *MODEL) == 1
    assert run("compress", tmp_path / "a.bmp", "--max-pixels", 2500, *MODEL) == 0
    assert Image.MAX_IMAGE_PIXELS == 100  # which belongs to the whole process


def test_metadata_go_there_and_back(tmp_path, photo):
    Image.fromarray(photo[:64, :80]).save(tmp_path / "a.png", dpi=(300, 150))
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    for kind in ("png", "tif", "bmp"):
        assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / f"back.{kind}", *MODEL) == 0
        assert Image.open(tmp_path / f"back.{kind}").info["dpi"] == pytest.approx((300, 150), rel=1e-3)
    assert run("compress", tmp_path / "a.png", "--strip", "--force", *MODEL) == 0
    assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / "bare.png", *MODEL) == 0
    assert "dpi" not in Image.open(tmp_path / "bare.png").info


def test_signals_are_as_they_were_afterwards(tmp_path):
    kinds = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
    before = [signal.getsignal(kind) for kind in kinds]
    assert run("info", GOLDEN) == 0
    assert [signal.getsignal(kind) for kind in kinds] == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_that_is_terminated_says_so(name, monkeypatch, capsys):
    def command(args):
        signal.raise_signal(getattr(signal, name))
        print("goes on")

    monkeypatch.setattr("ganlib.__main__._function", lambda name: command)
    assert run("info") == 128 + getattr(signal, name)
    said = capsys.readouterr()
    assert not said.out and said.err == "ganlib: terminated\n"


def test_memory_that_runs_out_is_told_on_one_line(monkeypatch, capsys):
    def command(args):
        raise MemoryError

    monkeypatch.setattr("ganlib.__main__._function", lambda name: command)
    assert run("info") == 1
    assert capsys.readouterr().err == "ganlib: memory ran out\n"


def test_little_is_imported_before_ctrl_c_is_answered():
    """What can be interrupted without a traceback begins in main()."""
    code = "import sys, ganlib; before = {*sys.modules}; import ganlib.__main__; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("ganlib.")}
    allowed = ["__main__", "atomic_write", "cli", "cli.ending", "cli.file_jobs", "folders"]
    assert ours <= {f"ganlib.{name}" for name in allowed}


def test_help_does_not_wait_for_what_it_does_not_need():
    code = "import sys, ganlib.__main__ as m\ntry: m.main(['train', '--help'])\n"
    code += "finally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"COLUMNS": "99"}
    )
    loaded = set(done.stderr.split())
    assert "--adversarial-weight" in done.stdout and "ganlib.cli.arguments" in loaded
    words = " ".join(done.stdout.split())
    assert "tiny, before, mini, toderici, islam, song, xie, zou, zou-stf (default: that of --init" in words
    assert not {"torch", "pandas", "matplotlib", "skimage", "ganlib.cli.commands", "joblib", "accelerate"} & loaded
