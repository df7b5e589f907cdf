"""Downloads: resumed, checked, refused in one clear line. Driven against a server on this machine."""

import errno
import logging
import os
import re
import shutil
import socket

import download_server
import pooch
import pytest
from download_server import PHOTOGRAPH, everything_under, noise, png, zipped

from ganlib.datasets import (
    CorruptDownloadError,
    DownloadError,
    RemoteFile,
    downloads,
    fetch,
)

# fixtures
server = download_server.server
publish = download_server.publish


def test_fetch_brings_the_files_and_asks_once_for_each(server, publish, tmp_path):
    contents = {f"{i}.png": png(noise(20, 30, i)) for i in range(3)}
    publish(*(server.remote(name, content) for name, content in contents.items()))
    paths = fetch("kodak", tmp_path, progress=False)
    assert paths == [tmp_path / "kodak" / name for name in sorted(contents)]
    assert [path.read_bytes() for path in paths] == list(contents.values())
    assert sorted(server.requests) == [(name, None) for name in sorted(contents)]
    assert everything_under(tmp_path) == [f"kodak/{name}" for name in sorted(contents)]


def test_a_complete_set_is_fetched_again_without_a_request(server, publish, tmp_path):
    archive = zipped({"valid/a.png": png(noise(8, 8)), "valid/b.png": png(noise(8, 8, 1))})
    publish(server.remote("one.png", PHOTOGRAPH), server.remote("set.zip", archive))
    first = fetch("kodak", tmp_path, progress=False)
    server.requests.clear()
    assert fetch("kodak", str(tmp_path), progress=False) == first
    assert server.requests == []


def test_a_file_that_was_altered_afterwards_comes_again(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH), server.remote("two.png", png(noise(8, 8))))
    path = fetch("kodak", tmp_path, progress=False)[0]
    path.write_bytes(PHOTOGRAPH[:-1] + b"?")
    server.requests.clear()
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == [("one.png", None)]


def test_a_truncated_answer_is_resumed_for_the_remainder_only(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    server.cuts = [200_000]
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    (_, first), (_, second) = server.requests
    assert first is None
    kept = int(re.fullmatch(r"bytes=(\d+)-", second)[1])
    assert 200_000 - downloads.CHUNK < kept <= 200_000


@pytest.mark.parametrize("lengths", [True, False])
def test_a_later_call_resumes_what_an_earlier_one_left(server, publish, tmp_path, lengths):
    publish(server.remote("one.png", PHOTOGRAPH))
    server.lengths = lengths
    server.cuts = [200_000, 0]
    with pytest.raises(DownloadError, match="bytes are kept"):
        fetch("kodak", tmp_path, progress=False)
    assert everything_under(tmp_path) == ["kodak/one.png.part"]
    kept = (tmp_path / "kodak" / "one.png.part").stat().st_size
    assert 0 < kept <= 200_000
    server.requests.clear()
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == [("one.png", f"bytes={kept}-")]
    assert everything_under(tmp_path) == ["kodak/one.png"]


def leave_part(tmp_path, content):
    (tmp_path / "kodak").mkdir()
    (tmp_path / "kodak" / "one.png.part").write_bytes(content)


def test_a_part_that_is_whole_is_not_asked_for(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    leave_part(tmp_path, PHOTOGRAPH)
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == []


def test_a_server_without_ranges_sends_the_whole_file(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    server.ranges = False
    leave_part(tmp_path, PHOTOGRAPH[:1000])
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == [("one.png", "bytes=1000-")]


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    server.ranges, server.cuts = False, [150_000] * 50
    with pytest.raises(DownloadError, match="cannot download"):
        fetch("kodak", tmp_path, progress=False)
    assert len(server.requests) <= 3


def test_another_range_than_the_one_asked_for_is_not_appended(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    server.shift = 7
    leave_part(tmp_path, PHOTOGRAPH[:1000])
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests == [("one.png", "bytes=1000-"), ("one.png", None)]


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(PHOTOGRAPH), b"x" * (len(PHOTOGRAPH) + 1)])
def test_a_part_of_another_file_is_dropped_and_the_whole_file_comes(server, publish, tmp_path, left):
    publish(server.remote("one.png", PHOTOGRAPH))
    leave_part(tmp_path, left)
    assert fetch("kodak", tmp_path, progress=False)[0].read_bytes() == PHOTOGRAPH
    assert server.requests[-1] == ("one.png", None)


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("change", ["a bit", "longer", "shorter"])
def test_content_that_is_not_what_was_published_leaves_nothing(server, publish, tmp_path, lengths, change):
    altered = {
        "a bit": PHOTOGRAPH[:500] + bytes([PHOTOGRAPH[500] ^ 1]) + PHOTOGRAPH[501:],
        "longer": PHOTOGRAPH + b"!",
        "shorter": PHOTOGRAPH[:-1],
    }[change]
    server.lengths = lengths
    publish(server.remote("one.png", altered, published=PHOTOGRAPH))
    with pytest.raises(DownloadError) as caught:
        fetch("kodak", tmp_path, progress=False)
    # without a length, a shorter file looks like a connection that broke off, and is kept as such
    if change == "shorter" and not lengths:
        assert everything_under(tmp_path) == ["kodak/one.png.part"]
    else:
        assert isinstance(caught.value, CorruptDownloadError)
        assert everything_under(tmp_path) == []


def test_a_file_that_has_become_shorter_than_the_part_leaves_nothing(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH[:500], published=PHOTOGRAPH))
    leave_part(tmp_path, PHOTOGRAPH[:1000])
    with pytest.raises(CorruptDownloadError, match="is 500 bytes now"):
        fetch("kodak", tmp_path, progress=False)
    assert everything_under(tmp_path) == []


def test_an_answer_without_end_is_hung_up_on(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH * 100, published=PHOTOGRAPH))
    server.lengths = False
    with pytest.raises(CorruptDownloadError, match="more than"):
        fetch("kodak", tmp_path, progress=False)
    assert server.sent < 50 * len(PHOTOGRAPH)  # what the sockets had in store


def test_a_checksum_that_differs_is_named(server, publish, tmp_path):
    remote = server.remote("one.png", PHOTOGRAPH[::-1], published=PHOTOGRAPH)
    publish(remote)
    with pytest.raises(CorruptDownloadError, match=f"SHA-256.*{remote.sha256}"):
        fetch("kodak", tmp_path, progress=False)


def assert_one_clear_line(error):
    assert "\n" not in str(error) and len(str(error)) < 500
    assert "ganlib.datasets.embedded()" in str(error)
    assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)


def test_a_missing_file_is_one_clear_line(server, publish, tmp_path):
    remote = server.remote("one.png", PHOTOGRAPH)
    del server.files["one.png"]
    publish(remote)
    with pytest.raises(DownloadError, match=f"{remote.url} answers 404") as caught:
        fetch("kodak", tmp_path, progress=False)
    assert_one_clear_line(caught.value)
    assert everything_under(tmp_path) == []


def test_no_network_is_one_clear_line_that_names_the_embedded_images(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:  # bound and not listening, so that nobody answers
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/one.png"
        publish(RemoteFile(url, 10, "0" * 64))
        with pytest.raises(DownloadError, match=f"{url}.*refused") as caught:
            fetch("kodak", tmp_path, progress=False)
    assert_one_clear_line(caught.value)
    assert "kept" not in str(caught.value)
    assert everything_under(tmp_path) == []


def test_no_answer_in_time_is_one_clear_line(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "TIMEOUT", (5, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(RemoteFile(f"http://127.0.0.1:{silent.getsockname()[1]}/one.png", 10, "0" * 64))
        with pytest.raises(DownloadError, match="no answer within") as caught:
            fetch("kodak", tmp_path, progress=False)
    assert_one_clear_line(caught.value)


def test_too_little_space_is_said_before_anything_is_asked(server, publish, tmp_path, monkeypatch):
    publish(server.remote("set.zip", zipped({"a.png": PHOTOGRAPH})))
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 500_000, 500_000)  # room for the archive only
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="needs 1 MB and .* has 0 MB free"):
        fetch("kodak", tmp_path, progress=False)
    assert server.requests == []


def test_a_disk_that_fills_up_on_the_way_is_one_clear_line(server, publish, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish(server.remote("one.png", PHOTOGRAPH))
    monkeypatch.setattr(downloads.os, "replace", full)
    with pytest.raises(DownloadError, match="cannot write to .*No space left") as caught:
        fetch("kodak", tmp_path, progress=False)
    assert caught.value.__suppress_context__


def test_a_root_that_cannot_be_written_to_is_one_clear_line(server, publish, tmp_path):
    publish(server.remote("one.png", PHOTOGRAPH))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write to .*Choose another root"):
        fetch("kodak", tmp_path / "file", progress=False)


def test_the_bar_goes_to_stderr_and_only_when_asked_for(server, publish, tmp_path, capfd):
    publish(server.remote("one.png", PHOTOGRAPH), server.remote("set.zip", zipped({"a.png": PHOTOGRAPH})))
    server.cuts = [200_000]
    fetch("kodak", tmp_path / "quiet", progress=False)
    assert capfd.readouterr() == ("", "")
    fetch("kodak", tmp_path / "loud")
    out, err = capfd.readouterr()
    assert out == ""
    assert "kodak: 100%" in err and "unpack set.zip: 100%" in err


@pytest.mark.parametrize(
    "left, content",
    [
        ("set.zip.part", b""),
        ("set.zip.part", b"x" * 100_000),  # of another file: dropped when the checksum differs
        ("set.zip.part", b"x" * (len(PHOTOGRAPH) + 10_000)),  # dropped at once
        ("set.zip", zipped({"a.png": PHOTOGRAPH})),  # brought by hand
    ],
)
def test_the_bar_counts_each_byte_once(server, publish, tmp_path, monkeypatch, capfd, left, content):
    bars = []

    class Watched(downloads.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.highest = 0
            bars.append(self)

        def update(self, n=1):
            super().update(n)
            self.highest = max(self.highest, self.n)

    monkeypatch.setattr(downloads, "tqdm", Watched)
    publish(server.remote("set.zip", zipped({"a.png": PHOTOGRAPH})))
    (tmp_path / "kodak").mkdir()
    (tmp_path / "kodak" / left).write_bytes(content)
    server.cuts = [150_000]
    fetch("kodak", tmp_path)
    # what an earlier attempt left over-long may show for a moment, and no more than that
    assert bars[0].n == bars[0].total and bars[0].highest in (bars[0].total, len(content))


def test_pooch_is_kept_from_writing_beside_the_bar(server, publish, tmp_path, monkeypatch):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = pooch.get_logger()
    monkeypatch.setattr(logger, "handlers", [handler])
    logger.setLevel(logging.INFO)
    publish(server.remote("one.png", PHOTOGRAPH))
    fetch("kodak", tmp_path, progress=False)
    assert said == []
