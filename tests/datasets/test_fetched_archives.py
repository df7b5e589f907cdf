"""Archives: unpacked once, whole or not at all, and into their own folder."""

import io
import tarfile
import zipfile

import download_server
import pytest
from download_server import PHOTOGRAPH, everything_under, noise, png, tarred, zipped

from ganlib.datasets import (
    CorruptDownloadError,
    fetch,
)

# fixtures
server = download_server.server
publish = download_server.publish


@pytest.mark.parametrize("name, pack", [("set.zip", zipped), ("set.tgz", tarred)])
def test_an_archive_is_unpacked_and_deleted(server, publish, tmp_path, name, pack):
    images = {"valid/a.png": png(noise(8, 9)), "valid/sub/b.png": png(noise(9, 8))}
    members = images | {"__MACOSX/valid/._a.png": b"no image", "valid/terms.txt": b"terms"}
    publish(server.remote(name, pack(members)))
    paths = fetch("kodak", tmp_path, progress=False)
    assert paths == [tmp_path / "kodak" / "set" / name for name in images]
    assert [path.read_bytes() for path in paths] == list(images.values())
    found = everything_under(tmp_path)
    assert "kodak/set/valid/terms.txt" in found
    assert not [path for path in found if "__MACOSX" in path or path.endswith(name) or "unpacking" in path]


def test_two_archives_with_the_same_names_inside_stay_apart(server, publish, tmp_path):
    files = [server.remote(f"{i}.zip", zipped({"valid/a.png": png(noise(8, 8, i))})) for i in range(2)]
    publish(*files)
    assert len(fetch("kodak", tmp_path, progress=False)) == 2


@pytest.mark.parametrize("pack, name", [(zipped, "set.zip"), (tarred, "set.tgz")])
@pytest.mark.parametrize("member", ["../../escaped.png", "valid/../../../escaped.png", "..\\escaped.png", "C:/a.png"])
def test_a_member_that_leaves_the_folder_is_refused(server, publish, tmp_path, member, pack, name):
    root = tmp_path / "a" / "root"
    publish(server.remote(name, pack({"valid/a.png": png(noise(8, 8)), member: b"gotcha"})))
    with pytest.raises(CorruptDownloadError, match="leaves the folder"):
        fetch("kodak", root, progress=False)
    assert everything_under(tmp_path) == []


def test_an_absolute_member_is_refused(server, publish, tmp_path):
    publish(server.remote("set.zip", zipped({f"{tmp_path}/escaped.png": b"gotcha"})))
    with pytest.raises(CorruptDownloadError, match="leaves the folder"):
        fetch("kodak", tmp_path / "root", progress=False)
    assert everything_under(tmp_path) == []


def test_a_link_out_of_the_folder_is_refused(server, publish, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("valid")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
    publish(server.remote("set.tgz", buffer.getvalue()))
    with pytest.raises(CorruptDownloadError, match="does not unpack"):
        fetch("kodak", tmp_path / "root", progress=False)
    assert list((tmp_path / "root" / "kodak").iterdir()) == []


@pytest.mark.parametrize("name, pack", [("set.zip", zipped), ("set.tgz", tarred)])
def test_a_damaged_archive_leaves_nothing(server, publish, tmp_path, name, pack):
    whole = pack({"valid/a.png": PHOTOGRAPH})
    publish(server.remote(name, whole[: len(whole) // 2]))
    with pytest.raises(CorruptDownloadError, match="does not unpack"):
        fetch("kodak", tmp_path, progress=False)
    assert list((tmp_path / "kodak").iterdir()) == []


def test_what_was_lost_from_an_unpacked_archive_comes_again(server, publish, tmp_path):
    publish(server.remote("set.zip", zipped({"a.png": PHOTOGRAPH, "b.png": png(noise(8, 8))})))
    first, second = fetch("kodak", tmp_path, progress=False)
    first.unlink()
    assert fetch("kodak", tmp_path, progress=False) == [first, second]
    assert first.read_bytes() == PHOTOGRAPH
    assert len(server.requests) == 2


def test_an_archive_brought_by_hand_needs_no_network(server, publish, tmp_path):
    content = zipped({"a.png": PHOTOGRAPH})
    publish(server.remote("set.zip", content))
    (tmp_path / "kodak").mkdir()
    (tmp_path / "kodak" / "set.zip").write_bytes(content)
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == []


def test_an_unpacking_that_was_killed_is_not_taken_for_complete(server, publish, tmp_path, monkeypatch):
    publish(server.remote("set.zip", zipped({"a.png": PHOTOGRAPH, "b.png": png(noise(8, 8))})))
    extract, calls = zipfile.ZipFile.extract, []

    def killed_at_the_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return extract(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zipfile.ZipFile, "extract", killed_at_the_second)
        fetch("kodak", tmp_path, progress=False)
    assert len(fetch("kodak", tmp_path, progress=False)) == 2
    assert len(server.requests) == 1  # the archive itself was whole
