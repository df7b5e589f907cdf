"""Folders in one process and in several, standard input and output, interruptions, full disks, odd names."""

import dataclasses
import io
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
from conftest import FIXTURES, TINY, until
from joblib.externals.loky import get_reusable_executor
from PIL import Image

import ganlib
from ganlib.__main__ import main
from ganlib.cli.file_jobs import CommandError, for_each
from ganlib.codec import container, image_io

MODEL = ["--model", str(TINY)]
GOLDEN = FIXTURES / "golden.gic"


def run(*argv):
    return main([str(a) for a in argv])


def command(*argv):
    return [sys.executable, "-m", "ganlib", *map(str, argv)]


@pytest.fixture
def small(photo):
    return Image.fromarray(photo[:64, :80])


@pytest.fixture
def album(tmp_path, small):
    """Five pictures, two of which cannot be coded, in a folder with a sub-folder."""
    (tmp_path / "album" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "deep/c.webp"):
        small.save(tmp_path / "album" / name)
    small.convert("CMYK").save(tmp_path / "album" / "d.jpg")
    (tmp_path / "album" / "e.png").write_text("no picture")
    return tmp_path / "album"


def outputs(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- which files, and what they are called


def test_every_format_is_taken_and_the_rest_is_named(tmp_path, small, capsys):
    album = tmp_path / "album"
    album.mkdir()
    taken = ["a.gif", "b.jp2", "c.jfif", "d.jpe", "e.ppm", "f.tga", "g.bmp", "h.TIFF", "i.pcx"]
    for name in taken:
        small.save(album / name, "JPEG" if name.endswith("jfif") else None)
    small.convert("L").save(album / "j.pgm")
    for name in ("notes.txt", "more.txt", "film.mpg", "README"):
        (album / name).write_text("no picture")
    for name in (".hidden.png", "._a.jpg", ".a.gic.123.ganlib-part"):
        (album / name).write_text("no picture either")
    (album / ".thumbnails").mkdir()
    small.save(album / ".thumbnails" / "x.png")
    assert run("compress", album, "-o", tmp_path / "out", *MODEL) == 0
    assert outputs(tmp_path / "out") == sorted(f"{name[0]}.gic" for name in [*taken, "j.pgm"])
    said = capsys.readouterr().err
    assert "left out 4 files of other kinds: .mpg (1), .txt (2), without a suffix (1)" in said
    assert "hidden" not in said and "part" not in said


def test_names_that_differ_in_the_suffix_alone(tmp_path, small, capsys):
    album = tmp_path / "album"
    (album / "sub").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b.png", "sub/a.png", "c.png.jpg", "c.png", "c.jpg"):
        small.save(album / name)
    assert run("compress", album, "-o", tmp_path / "out", *MODEL) == 0
    expected = ["a.jpg.gic", "a.png.gic", "b.gic", "sub/a.gic", "c.png.jpg.gic", "c.png.gic", "c.jpg.gic"]
    assert outputs(tmp_path / "out") == sorted(expected)
    assert "5 files share a name but for the suffix" in capsys.readouterr().err
    assert run("decompress", tmp_path / "out", "-o", tmp_path / "back", *MODEL) == 0
    assert len(outputs(tmp_path / "back")) == 7


def test_a_folder_goes_on_where_it_was_stopped(tmp_path, album, capsys):
    out = tmp_path / "out"
    (album / "d.jpg").unlink(), (album / "e.png").unlink()
    assert run("compress", album, "-o", out, *MODEL) == 0
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.gic")}
    (out / "b.gic").unlink()
    os.utime(album / "a.jpg", (time.time() + 60,) * 2)  # changed since
    assert run("compress", album, "-o", out, *MODEL) == 1
    said = capsys.readouterr().err
    assert "2 of 3 outputs exist, such as" in said and "--resume" in said and "--force" in said
    assert not (out / "b.gic").exists()
    assert run("compress", album, "-o", out, "--resume", *MODEL) == 1
    said = capsys.readouterr().err
    assert "1 of 2 outputs exist, such as" in said and "a.gic: --resume leaves out what is newer" in said
    assert not (out / "b.gic").exists()
    assert run("compress", album, "-o", out, "--resume", "--force", *MODEL) == 0
    said = capsys.readouterr()
    assert "1 of 3 are done" in said.err and "2 of 2 files" in said.out
    changed = {str(path.relative_to(out)) for path in out.rglob("*.gic") if times[path] != path.stat().st_mtime_ns}
    assert changed == {"a.gic", "b.gic"}
    assert run("decompress", out, "-o", tmp_path / "back", "--resume", *MODEL) == 0
    assert run("decompress", out, "-o", tmp_path / "back", "--resume", "--jobs", 2, *MODEL) == 0
    said = capsys.readouterr()
    assert "3 of 3 are done" in said.err and "0 of 0" not in said.out


def test_to_go_on_overwrites_no_original(tmp_path, small, capsys):
    """An original is older than the file that was made from it, and so is no output of an earlier run."""
    for name in ("a", "b"):
        small.save(tmp_path / f"{name}.png")
    before = (tmp_path / "a.png").read_bytes()
    assert run("compress", tmp_path, *MODEL) == 0
    for path in tmp_path.glob("*.png"):
        os.utime(path, (time.time() - 60,) * 2)
    assert run("decompress", tmp_path, *MODEL) == 1
    assert "--resume" not in capsys.readouterr().err  # which would be no way out
    for asked in (tmp_path, tmp_path / "a.gic"):
        assert run("decompress", asked, "--resume", *MODEL) == 1
        assert "overwrites nothing" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before
    os.utime(tmp_path / "a.png", (time.time() + 60,) * 2)  # another picture, of the same name
    (tmp_path / "a.gic").write_text("the only copy")
    assert run("compress", tmp_path / "a.png", "--resume", *MODEL) == 1
    assert (tmp_path / "a.gic").read_text() == "the only copy"


def test_to_go_on_with_a_salvage_overwrites_nothing_else(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.gic").write_bytes(GOLDEN.read_bytes()[:-40] + bytes(40))
    (tmp_path / "in" / "a.valid.png").write_text("precious")
    assert run("decompress", tmp_path / "in", "--salvage", "--resume", *MODEL) == 1
    assert "a.valid.png exists: --resume" in capsys.readouterr().err
    (tmp_path / "in" / "a.gic").rename(tmp_path / "in" / "a.valid.gic")
    (tmp_path / "in" / "a.gic").write_bytes(GOLDEN.read_bytes())
    asked = [tmp_path / "in", "-o", tmp_path / "out", "--salvage", "--resume"]
    assert run("decompress", *asked, *MODEL) == 1
    assert "a.valid.png would be written twice" in capsys.readouterr().err
    assert (tmp_path / "in" / "a.valid.png").read_text() == "precious" and not (tmp_path / "out").exists()


def test_a_sub_folder_that_cannot_be_read_is_told(tmp_path, small, unreadable, capsys):
    (tmp_path / "in" / "secret").mkdir(parents=True)
    small.save(tmp_path / "in" / "a.png")
    unreadable(tmp_path / "in" / "secret")
    assert run("compress", tmp_path / "in", "-o", tmp_path / "out", *MODEL) == 1
    assert f"{tmp_path}/in/secret cannot be read: Permission denied" in capsys.readouterr().err
    assert outputs(tmp_path / "out") == ["a.gic"]
    assert run("compress", tmp_path / "in" / "secret", *MODEL) == 1
    assert "secret cannot be read" in capsys.readouterr().err
    assert run("evaluate", "--images", tmp_path / "in", *MODEL) == 1
    assert "secret cannot be read" in capsys.readouterr().err


def test_the_output_folder_may_have_a_dot_in_its_name(tmp_path):
    gics, out = tmp_path / "gics", tmp_path / "back.2024"
    gics.mkdir()
    (gics / "a.gic").write_bytes(GOLDEN.read_bytes())
    assert run("decompress", gics, "-o", out, *MODEL) == 0
    assert run("decompress", gics / "a.gic", "-o", f"{tmp_path}/out.v2/", *MODEL) == 0
    assert run("decompress", gics / "a.gic", "-o", out, "--format", "bmp", *MODEL) == 0
    assert outputs(out) == ["a.bmp", "a.png"] and outputs(tmp_path / "out.v2") == ["a.png"]


def test_folders_and_files_are_not_mixed_up(tmp_path, album, small, capsys):
    assert run("compress", album, "-o", album / "a.jpg", *MODEL) == 1
    assert "the output of a folder is a folder" in capsys.readouterr().err
    assert run("compress", album / "a.jpg", "-o", f"{tmp_path}/new/", *MODEL) == 0
    assert outputs(tmp_path / "new") == ["a.gic"]
    assert run("compress", album / "e.png", *MODEL) == 1
    assert run("compress", tmp_path / "new", *MODEL) == 1
    assert "no file in" in capsys.readouterr().err


@pytest.mark.parametrize("length", [242, 247, 251])
def test_long_names(tmp_path, small, length):
    path = tmp_path / ("x" * length + ".png")
    small.save(path)
    assert run("compress", path, *MODEL) == 0
    back = tmp_path / ("y" * length + ".bmp")
    assert run("decompress", path.with_suffix(".gic"), "-o", back, *MODEL) == 0
    assert outputs(tmp_path) == sorted([path.name, path.stem + ".gic", back.name])


def test_the_mask_of_a_long_name(tmp_path, photo, capsys):
    Image.fromarray(np.tile(photo, (1, 3, 1))[:64, :1300]).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    data = (tmp_path / "a.gic").read_bytes()
    (tmp_path / "a.gic").write_bytes(data[:-20] + bytes(20))
    assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / ("ü" * 125 + ".png"), "--salvage", *MODEL) == 0
    [mask] = tmp_path.glob("*.valid.png")
    assert len(os.fsencode(mask.name)) <= 255 and mask.name in capsys.readouterr().err


def test_names_that_the_terminal_cannot_show(tmp_path, small, monkeypatch):
    for name, shown in (("ü.png", "\\xfc.gic"), (os.fsdecode(b"bad\xff.png"), "\\udcff.gic")):
        small.save(tmp_path / name)
        streams = {stream: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for stream in ("stdout", "stderr")}
        for stream, file in streams.items():
            monkeypatch.setattr(sys, stream, file)
        assert run("compress", tmp_path / name, *MODEL) == 0
        assert run("compress", tmp_path / name, *MODEL) == 1  # exists
        for file in streams.values():
            file.flush()
            assert shown in file.buffer.getvalue().decode("ascii")


# ---- standard input and output


def test_pipes_carry_every_byte(tmp_path, small):
    small.save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as png:
        first = subprocess.Popen(command("compress", "-", *MODEL), stdin=png, stdout=subprocess.PIPE)
        asked = command("decompress", "-", "--format", "bmp", *MODEL)
        done = subprocess.run(asked, stdin=first.stdout, capture_output=True)
        assert first.wait() == 0 and done.returncode == 0
    assert b"standard output.bmp: 80x64 RGB" in done.stderr and b"/" not in done.stderr
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    assert run("decompress", tmp_path / "a.gic", "-o", tmp_path / "a.bmp", *MODEL) == 0
    assert done.stdout == (tmp_path / "a.bmp").read_bytes()


def test_one_end_can_be_a_file(tmp_path, small, capfdbinary, monkeypatch):
    small.save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "-o", "-", *MODEL) == 0
    gic = capfdbinary.readouterr().out
    assert run("compress", tmp_path / "a.png", *MODEL) == 0
    assert gic == (tmp_path / "a.gic").read_bytes()
    with open(tmp_path / "a.gic") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("decompress", "-", "-o", tmp_path / "back.png", *MODEL) == 0
        assert Image.open(tmp_path / "back.png").size == (80, 64)
        stdin.seek(0)
        assert run("decompress", "-", "-o", tmp_path / "back.png", *MODEL) == 1
    assert b"--force" in capfdbinary.readouterr().err


def test_streams_tell_what_is_wrong(tmp_path, album, monkeypatch, capfdbinary):
    for argv, text, message in (
        (["compress", "-"], b"no picture", b"ganlib: standard input cannot be read as an image"),
        (["compress", "-"], b"", b"ganlib: standard input cannot be read as an image"),
        (["decompress", "-"], b"", b"ganlib: the file is empty"),
        (["decompress", "-"], GOLDEN.read_bytes()[:-9], b"cut short"),
        (["decompress", "-", "--salvage", "-o", "-"], b"", b"--salvage"),
        (["compress", album, "-o", "-"], b"", b"is a folder"),
        (["decompress", "-", "--format", "doc"], b"", b"no image format"),
    ):
        (tmp_path / "stdin").write_bytes(text)
        with open(tmp_path / "stdin") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert run(*argv, *MODEL) == 1
        said = capfdbinary.readouterr()
        assert message in said.err and said.out == b"" and b"tmp" not in said.err.replace(bytes(tmp_path), b"")
    with open(tmp_path / "stdin") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert run("compress", "-", *MODEL) == 1
    assert b"is a terminal" in capfdbinary.readouterr().err


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_streams_that_are_closed(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, name, None)
    assert run("decompress", "-", *MODEL) == 1
    assert capsys.readouterr().err == f"ganlib: standard {name.removeprefix('std')}put is closed\n"


def test_files_do_not_take_the_numbers_of_closed_streams(tmp_path):
    source = "from ganlib.__main__ import main; main(['info', 'nowhere']); open('a', 'w').write('whole')"
    source += "; import os; [os.write(number, b'a message') for number in (1, 2)]"
    shell = f"exec {shlex.join([sys.executable, '-c', source])} <&- >&- 2>&-"
    subprocess.run(shell, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a").read_text() == "whole"


def test_devices_and_named_pipes(tmp_path, small):
    small.save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "-o", "/dev/null", *MODEL) == 0
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.png").read_bytes()))
    writer.start()
    assert run("compress", tmp_path / "pipe", "-o", tmp_path / "a.gic", *MODEL) == 0
    writer.join()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "a.gic").read_bytes()))
    writer.start()
    assert ganlib.load_codec(TINY).decompress(tmp_path / "pipe").size == small.size
    writer.join()
    assert run("decompress", tmp_path / "a.gic", "-o", "/dev/null", "--format", "png", *MODEL) == 0
    assert not os.path.isfile("/dev/null")


# ---- several processes


def test_jobs_give_what_one_process_gives(tmp_path, album, capsys):
    text = b"Exif\0\0no EXIF"
    Image.open(album / "a.jpg").save(album / "f.webp", exif=text)  # which is warned of
    results = []
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        assert run("compress", album, "-o", out, "--jobs", jobs, *MODEL) == 1
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith((f"ganlib: {tmp_path}", str(tmp_path)))]
        results.append((said.out, lines, {name: (out / name).read_bytes() for name in outputs(out)}))
    assert results[0] == results[1]
    out, lines, files = results[0]
    assert "compressed: 4 of 6 files" in out and sorted(files) == ["a.gic", "b.gic", "deep/c.gic", "f.gic"]
    assert any("f.webp: its EXIF cannot be read" in line for line in lines)
    assert any("d.jpg: colour space CMYK" in line for line in lines) and any("e.png" in line for line in lines)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_jobs_that_are_stopped_leave_no_temporary_file(tmp_path, small, name):
    (tmp_path / "album").mkdir()
    for i in range(6):
        small.save(tmp_path / "album" / f"{i}.png")
    asked = [sys.executable, "-c", SLOW, "compress", tmp_path / "album", "-o", tmp_path / "out"]
    with subprocess.Popen([*asked, "--jobs", "2", *MODEL], stderr=subprocess.PIPE, start_new_session=True) as process:
        wait_for(lambda: len(list((tmp_path / "out").glob(".*.ganlib-part"))) == 2, process)
        # Ctrl-C reaches all processes of the terminal, a batch system's SIGTERM the first alone
        number = getattr(signal, name)
        os.killpg(process.pid, number) if name == "SIGINT" else os.kill(process.pid, number)
        assert process.wait(600) == (130 if name == "SIGINT" else 143)
        said = process.stderr.read().decode()
    assert outputs(tmp_path / "out") == []
    # joblib's resource tracker, another process, may warn after us of a folder that is gone already: two lines
    said = re.sub(r".*resource_tracker.*\n  warnings\.warn\(.*\n", "", said)
    assert said.endswith("interrupted\n" if name == "SIGINT" else "terminated\n") and "Traceback" not in said


# The command line, with work that takes a minute
SLOW = """
import signal
import sys
import time
from ganlib.__main__ import main
from ganlib.atomic_write import atomic_write
from ganlib.cli import coding


class Slow:
    def __call__(self, source, target):
        with atomic_write(target) as part:
            part.write_bytes(b"half of it")
            time.sleep(60)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    coding.Compression = lambda **options: Slow()
    sys.exit(main())
"""


def wait_for(condition, process, seconds=600):
    for _ in range(10 * seconds):
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_is_stopped_leaves_no_temporary_file(tmp_path, small, name, status):
    small.save(tmp_path / "a.png")
    asked = [sys.executable, "-c", SLOW, "compress", tmp_path / "a.png", "-o", tmp_path / "out" / "a.gic"]
    with subprocess.Popen([*asked, *MODEL], stderr=subprocess.PIPE) as process:
        wait_for(lambda: list((tmp_path / "out").glob(".*.ganlib-part")), process)
        process.send_signal(getattr(signal, name))
        assert process.wait(600) == status
        assert process.stderr.read().decode().startswith("ganlib: ")
    assert outputs(tmp_path / "out") == []


def test_a_process_that_is_killed_is_told(tmp_path, monkeypatch, capsys):
    told = tmp_path / "told"  # exists once the first failure has reached this process
    monkeypatch.setattr("ganlib.cli.file_jobs.log.warning", lambda *args: told.touch())

    def work(source, target):
        if source.name == "0":
            logging.getLogger("ganlib").warning("of the first")
            raise ValueError("it is no picture")
        if source.name == "3":
            until(told.exists)
            os.kill(os.getpid(), signal.SIGKILL)
        target.write_text("done")

    pairs = [(tmp_path / "in" / str(i), tmp_path / str(i)) for i in range(4)]
    with pytest.raises(CommandError) as caught:
        for_each(pairs, work, "coded", 2, ["b cannot be read"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "b cannot be read" and "of 4 files not done" in lines[-1] and "--resume" in lines[-1]
    assert f"{tmp_path}/in/0: it is no picture" in lines and "coded: " in capsys.readouterr().out


def test_processes_draw_no_bars_of_their_own(tmp_path):
    def work(source, target):
        target.write_text(os.environ.get("TQDM_DISABLE", ""))

    get_reusable_executor().shutdown()  # processes keep the environment that they were started in
    for_each([(tmp_path / name, tmp_path / name) for name in "ab"], work, "coded", 2)
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1", "1"] and "TQDM_DISABLE" not in os.environ


def test_a_dask_cluster_does_the_jobs(tmp_path, album, capsys):
    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster), joblib.parallel_config(backend="dask"):
            assert run("compress", album, "-o", tmp_path / "out", "--jobs", "2", *MODEL) == 1
    said = capsys.readouterr()
    assert "compressed: 3 of 5 files" in said.out and "d.jpg: colour space CMYK" in said.err
    assert run("compress", album, "-o", tmp_path / "alone", *MODEL) == 1
    for name in outputs(tmp_path / "alone"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


# ---- what cannot be written


@pytest.mark.parametrize("large", [False, True])
def test_a_full_disk_is_told(tmp_path, photo, monkeypatch, capsys, large):
    import resource

    monkeypatch.setattr(image_io, "LARGE", 1 if large else 2**62)
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "-o", tmp_path / "whole.gic", *MODEL) == 0
    before, limits = outputs(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes of any file
    try:
        assert run("compress", tmp_path / "a.png", *MODEL) == 1
        assert f"ganlib: {tmp_path}/a.png: {tmp_path}/a.gic cannot be written: " in capsys.readouterr().err
        for suffix in ("png", "jpg", "tif", "webp"):
            assert run("decompress", tmp_path / "whole.gic", "-o", tmp_path / f"back.{suffix}", *MODEL) == 1
            said = capsys.readouterr().err
            assert f"{tmp_path}/back.{suffix} cannot be written: File too large" in said and "part" not in said
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outputs(tmp_path) == before


def test_metadata_that_cannot_be_written_do_not_end_a_folder(tmp_path, capsys):
    stream = container.read(GOLDEN.read_bytes())
    (tmp_path / "in").mkdir()
    for name, exif in (("a", b"Exif\0\0what is this"), ("b", None)):
        data = container.write(dataclasses.replace(stream, exif=exif))
        (tmp_path / "in" / f"{name}.gic").write_bytes(data)
    assert run("decompress", tmp_path / "in", "-o", tmp_path / "out", "--format", "tif", *MODEL) == 0
    assert outputs(tmp_path / "out") == ["a.tif", "b.tif"]
    assert f"{tmp_path}/in/a.gic: its EXIF is damaged and is left out" in capsys.readouterr().err
