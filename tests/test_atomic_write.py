"""Files come into being whole, or not at all, and nothing else is left."""

import concurrent.futures
import errno
import os
import stat

import pytest

from ganlib.atomic_write import atomic_write, check_writable, remove_parts


def test_a_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    with atomic_write(path) as part:
        assert part.exists() and part.name.startswith(".a.txt.") and part.suffix == ".ganlib-part"
        part.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half" and os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_an_error_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, os.fsdecode(b"bad\xff\xfe" * 40), "." + "y" * 200])
def test_any_name_that_the_file_system_takes(tmp_path, name):
    with atomic_write(tmp_path / name) as part:
        part.write_text("text")
    assert os.listdir(tmp_path) == [name]


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        # in threads too: reading the mask means to set it for all of them
        with concurrent.futures.ThreadPoolExecutor(8) as pool:

            def write(i):
                with atomic_write(tmp_path / f"{i}.txt") as part:
                    part.write_text("text")

            list(pool.map(write, range(50)))
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="another system")
def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    with atomic_write("/dev/null") as part:
        part.write_text("text")
    assert not os.path.isfile("/dev/null")


def test_what_a_killed_process_has_left_can_be_removed(tmp_path):
    for name in (
        ".a.gic.012345.ganlib-part",
        ".a.gic.6789.ganlib-part",
        ".b.gic.01.ganlib-part",
        "a.gic",
        ".a.gic.x",
    ):
        (tmp_path / name).write_text("text")
    remove_parts(tmp_path / "a.gic")
    assert sorted(os.listdir(tmp_path)) == [".a.gic.x", ".b.gic.01.ganlib-part", "a.gic"]
    remove_parts(tmp_path / "nowhere" / "a.gic")


def test_permissions_of_what_is_replaced_are_kept(tmp_path):
    (tmp_path / "private").write_text("old")
    (tmp_path / "private").chmod(0o600)
    with atomic_write(tmp_path / "private") as part:
        part.write_text("new")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_permissions_are_the_same_where_a_library_puts_a_file_of_its_own_in_place(tmp_path):
    with atomic_write(tmp_path / "expected") as part:
        part.write_text("text")
    with atomic_write(tmp_path / "found") as part:
        part.unlink()
        os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("expected", "found")}
    assert len(modes) == 1 and modes != {0o600}


def test_a_link_stays_and_what_is_behind_it_is_written(tmp_path):
    for name in ("there", "new"):
        os.symlink(tmp_path / "folder" / name, tmp_path / f"to {name}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "there").write_text("old")
    for name in ("there", "new"):
        with atomic_write(tmp_path / f"to {name}") as part:
            part.write_text("text")
        assert os.path.islink(tmp_path / f"to {name}")
        assert (tmp_path / "folder" / name).read_text() == "text"
    assert sorted(os.listdir(tmp_path / "folder")) == ["new", "there"]


def test_what_cannot_be_written_is_found_before(tmp_path):
    (tmp_path / "file").write_text("old")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new folder" / "a.csv")
    assert (tmp_path / "file").read_text() == "old" and not os.listdir(tmp_path / "new folder")
    for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "file" / "a.csv", NotADirectoryError)):
        with pytest.raises(kind):
            check_writable(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="another system")
def test_a_full_disk_names_the_file_that_is_meant(tmp_path):
    os.symlink("/dev/full", tmp_path / "full")
    for path in ("/dev/full", tmp_path / "full"):
        with pytest.raises(OSError, match=f"^{path} cannot be written: No space left on device$") as caught:
            with atomic_write(path) as part:
                part.write_text("text")
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="another system")
def test_an_error_names_the_file_that_is_meant():
    for write in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(OSError) as caught:
            write("/proc/a.csv")
        assert caught.value.filename == "/proc/a.csv"
