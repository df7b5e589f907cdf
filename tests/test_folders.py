"""Which files of a folder are found."""

import os

import pytest

from ganlib.folders import printable, visible_files


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(tmp_path, "b.png", "a/c.png", ".hidden.png", ".ipynb_checkpoints/b.png", "a/.thumbnails/x/c.png")
    assert visible_files(tmp_path) == [tmp_path / "a" / "c.png", tmp_path / "b.png"]


def test_a_folder_that_is_hidden_itself_may_be_asked_for(tmp_path):
    make(tmp_path, ".cache/a.png")
    assert visible_files(tmp_path / ".cache") == [tmp_path / ".cache" / "a.png"]
    os.symlink(tmp_path / ".cache", tmp_path / "link")
    assert visible_files(tmp_path / "link") == [tmp_path / "link" / "a.png"]


def test_links_to_folders_elsewhere_are_followed_and_nothing_is_found_twice(tmp_path):
    make(tmp_path, "elsewhere/b.png", "top/real/a.png")
    top = tmp_path / "top"
    os.symlink(tmp_path / "elsewhere", top / "linked")
    os.symlink(tmp_path / "elsewhere", top / "linked again")
    os.symlink(top / "real", top / "a link inside")
    os.symlink(top, tmp_path / "elsewhere" / "round and round")
    os.symlink(top / "nowhere", top / "broken")
    assert visible_files(top) == [top / "linked" / "b.png", top / "real" / "a.png"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path, unreadable):
    make(tmp_path, "a.png", "secret/b.png")
    unreadable(tmp_path / "secret")
    with pytest.raises(PermissionError, match="secret cannot be read: Permission denied"):
        visible_files(tmp_path)
    errors = []
    assert visible_files(tmp_path, errors) == [tmp_path / "a.png"]
    assert [str(error) for error in errors] == [f"{tmp_path}/secret cannot be read: Permission denied"]


def test_a_link_that_leads_nowhere_is_told(tmp_path, caplog):
    os.symlink(tmp_path / "nowhere.png", tmp_path / "a.png")
    os.symlink(tmp_path / "nowhere.png", tmp_path / ".hidden")
    assert visible_files(tmp_path) == []
    assert caplog.messages == [f"left out {tmp_path}/a.png: a link that leads nowhere"]


def test_names_that_are_no_text_become_printable():
    assert printable(os.fsdecode(b"b\xff/\xc3\xbc.png")) == "b\\xff/ü.png"


def test_an_empty_folder(tmp_path):
    assert visible_files(tmp_path) == []
