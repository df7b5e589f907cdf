"""Archives that are damaged, locked, far too large, or up to no good: one error, and nothing left of them."""

import bz2
import gzip
import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from ganlib.datasets import archives
from ganlib.datasets.archives import ArchiveError, is_whole, unpack

PHOTOGRAPH = np.random.default_rng(0).bytes(3000)  # as incompressible as one
MEMBERS = {"valid/a.png": PHOTOGRAPH, "valid/sub/b.png": PHOTOGRAPH[::-1]}


def zipped(members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*entries):
    """(TarInfo or name, content) -> bytes of a .tgz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for entry, content in entries:
            entry = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            entry.size = len(content) if content is not None else entry.size
            archive.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


WHOLE = {"a.zip": zipped(MEMBERS), "a.tgz": tarred(*MEMBERS.items())}


def try_to_unpack(data, name, tmp_path):
    """{name: content} of what was unpacked, or the ArchiveError; asserts that nothing else is left."""
    archive = tmp_path / name
    archive.write_bytes(data)
    folder = tmp_path / "a"
    try:
        unpack(archive, folder, progress=False)
    except ArchiveError as error:
        assert os.listdir(tmp_path) == [name]
        return error
    assert sorted(os.listdir(tmp_path)) == ["a", name] and is_whole(folder)
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != archives.INVENTORY
    }
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return found


@pytest.mark.parametrize("name", WHOLE)
def test_what_goes_in_comes_out(tmp_path, name):
    assert try_to_unpack(WHOLE[name], name, tmp_path) == MEMBERS


@pytest.mark.parametrize("name", WHOLE)
def test_no_flipped_byte_gives_other_files(tmp_path, name):
    """Every 7th byte: an error, or what was packed (a byte of a date or an owner matters to nobody)."""
    outcomes = []
    for i in range(0, len(WHOLE[name]), 7):
        data = bytearray(WHOLE[name])
        data[i] ^= 0x55
        found = try_to_unpack(bytes(data), name, tmp_path)
        outcomes.append(isinstance(found, ArchiveError))
        if not outcomes[-1]:
            # names are covered by no checksum in a .zip
            assert sorted(found.values()) == sorted(MEMBERS.values()), i
            assert name == "a.zip" or found == MEMBERS, i
    assert np.mean(outcomes) > 0.9


@pytest.mark.parametrize("name", WHOLE)
def test_no_truncated_archive_is_unpacked(tmp_path, name):
    for part in np.linspace(0, 1, 40, endpoint=False):
        data = WHOLE[name][: int(part * len(WHOLE[name]))]
        assert isinstance(try_to_unpack(data, name, tmp_path), ArchiveError), part


def test_an_encrypted_archive_says_so(tmp_path):
    data = bytearray(WHOLE["a.zip"])
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + offset] |= 1  # the flag; readers ask for the password ahead of the bytes
    assert "encrypted" in str(try_to_unpack(bytes(data), "a.zip", tmp_path))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_other_methods_of_compression(tmp_path, method):
    whole = zipped(MEMBERS, method)
    assert try_to_unpack(whole, "a.zip", tmp_path) == MEMBERS
    for i in range(40, 2000, 97):
        data = whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :]
        assert isinstance(try_to_unpack(data, "a.zip", tmp_path), ArchiveError)


def test_a_method_that_nobody_knows(tmp_path):
    data = WHOLE["a.zip"].replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00")
    assert "not supported" in str(try_to_unpack(data, "a.zip", tmp_path))


@pytest.mark.parametrize("name", WHOLE)
def test_a_bomb_is_not_unpacked(tmp_path, name):
    zeros = {"zeros.png": bytes(20_000_000)}
    data = zipped(zeros) if name == "a.zip" else tarred(*zeros.items())
    assert len(data) < 30_000
    assert "unpacks to more than 1,0" in str(try_to_unpack(data, name, tmp_path))


def test_a_bomb_of_many_names_is_not_unpacked(tmp_path):
    data = tarred(*((f"{i}.png", b"") for i in range(5000)))
    assert "unpacks to more than" in str(try_to_unpack(data, "a.tgz", tmp_path))


def test_a_size_that_lies_is_found_out(tmp_path):
    data = WHOLE["a.zip"].replace(struct.pack("<L", 3000), struct.pack("<L", 2000))
    assert isinstance(try_to_unpack(data, "a.zip", tmp_path), ArchiveError)


def special(kind, **more):
    entry = tarfile.TarInfo("valid/link")
    entry.type = kind
    for name, value in more.items():
        setattr(entry, name, value)
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        special(tarfile.SYMTYPE, linkname="/etc"),
        special(tarfile.SYMTYPE, linkname="../../.."),
        special(tarfile.LNKTYPE, linkname="../../../a.tgz"),
        special(tarfile.FIFOTYPE),
        special(tarfile.CHRTYPE, devmajor=1, devminor=3),
    ],
)
def test_links_out_and_devices_are_refused(tmp_path, entry):
    data = tarred(("valid/a.png", PHOTOGRAPH), (entry, None))
    assert isinstance(try_to_unpack(data, "a.tgz", tmp_path), ArchiveError)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "valid/a.png/b.png"])
@pytest.mark.parametrize("archive", WHOLE)
def test_names_that_cannot_be_are_refused(tmp_path, name, archive):
    members = {"valid/a.png": PHOTOGRAPH, name: PHOTOGRAPH}
    data = zipped(members) if archive == "a.zip" else tarred(*members.items())
    assert isinstance(try_to_unpack(data, archive, tmp_path), ArchiveError)


@pytest.mark.parametrize(
    "data", [b"", b"hello", gzip.compress(b"hello", mtime=0), bz2.compress(b"hello"), bytes(10_000)]
)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_archive_is_refused(tmp_path, name, data):
    assert isinstance(try_to_unpack(data, name, tmp_path), ArchiveError)


def test_a_disk_that_is_full_is_no_fault_of_the_archive(tmp_path, monkeypatch):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.zip").write_bytes(WHOLE["a.zip"])
    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a.zip", tmp_path / "a", progress=False)
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"a.png": 1}'])
def test_a_folder_with_a_damaged_inventory_is_not_whole(tmp_path, text):
    (tmp_path / archives.INVENTORY).write_text(text)
    assert not is_whole(tmp_path)
