"""Downloads are driven against a server on this machine; nothing here needs the network."""

import errno
import hashlib
import importlib.metadata
import io
import logging
import os
import re
import shutil
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers JPEG XL
import pooch
import pytest
import torchvision
from PIL import Image

from ganlib import datasets
from ganlib.datasets import (
    CorruptDownloadError,
    Crops,
    DownloadError,
    NoImagesError,
    RemoteFile,
    Source,
    UnknownSourceError,
    describe,
    downloads,
    embedded,
    fetch,
    image_files,
    sources,
)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files`, by name, and notes each request as (name, Range header)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests = {}, []
        self.ranges = True  # whether Range is understood
        self.shift = 0  # a server that answers a range with another one
        self.cuts = []  # bytes after which the next answers break off; None lets one through
        self.lengths = True  # whether answers announce their length
        self.sent = 0  # bytes of content, in all

    def handle_error(self, request, client_address):
        """Nothing to report: a client that has heard enough hangs up."""

    def remote(self, name, content, published=None):
        """Serve the content; the RemoteFile of what was published, if not the same."""
        self.files[name] = content
        published = content if published is None else published
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        return RemoteFile(url, len(published), hashlib.sha256(published).hexdigest())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name, wanted = self.server, self.path[1:], self.headers["Range"]
        server.requests.append((name, wanted))
        if name not in server.files:
            return self.send_error(404)
        body, total, first = server.files[name], len(server.files[name]), 0
        if wanted and server.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) + server.shift
            if first >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            body = body[first:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        for start in range(0, len(body[:cut]), 2**16):
            self.wfile.write(body[:cut][start : start + 2**16])
            server.sent += len(body[:cut][start : start + 2**16])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def publish(monkeypatch):
    """publish(RemoteFile, ...): what the set "kodak" consists of during the test."""

    def publish(*files):
        source = Source("measuring", len(files), "terms", "https://example.org", files)
        monkeypatch.setitem(datasets.SOURCES, "kodak", source)

    return publish


def everything_under(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


PHOTOGRAPH = png(noise(300, 400))  # 360 kB, more than one piece of an answer


# ---------------------------------------------------------------- the table


def test_every_source_says_what_it_is():
    assert {"kodak", "clic2020", "div2k", "imagenet-subset"} <= set(datasets.SOURCES)
    for name in datasets.SOURCES:
        source = describe(name)
        assert source.purpose in ("training", "measuring") and source.images > 0 and source.licence
        assert source.url.startswith("https://")
        for file in source.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0 and file.url.startswith("https://")
        assert source.megabytes == pytest.approx(sum(file.size for file in source.files) / 1e6)


def test_no_file_and_no_checksum_is_listed_twice():
    files = [file for source in datasets.SOURCES.values() for file in source.files]
    assert len({file.sha256 for file in files}) == len({file.url for file in files}) == len(files)


def test_kodak_is_24_files_of_15_megabytes():
    source = describe("kodak")
    assert [file.name for file in source.files] == [f"kodim{i:02}.png" for i in range(1, 25)]
    assert 15 < source.megabytes < 16
    assert source.files[0].size == 736501


def test_the_imagenet_subset_is_the_one_that_torchvision_names():
    url, _ = torchvision.datasets.Imagenette._ARCHIVES["320px"]
    assert [file.url for file in describe("imagenet-subset").files] == [url]


@pytest.mark.parametrize("ask", [describe, fetch])
def test_an_unknown_name_lists_the_known_ones(ask):
    with pytest.raises(UnknownSourceError, match="'kodac'.*kodak, clic2020"):
        ask("kodac")


# ---------------------------------------------------------------- downloads


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


# ---------------------------------------------------------------- archives


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


# ---------------------------------------------------------------- embedded images


def test_the_embedded_images_are_rgb_photographs():
    photographs = embedded()
    assert {"astronaut", "chelsea", "coffee", "rocket", "motorcycle_left"} <= set(photographs)
    for pixels in photographs.values():
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) >= 256
        assert pixels.flags.writeable  # or torch.from_numpy would warn
        assert any((pixels[..., 0] != pixels[..., c]).mean() > 0.1 for c in (1, 2))  # not gray


def test_the_embedded_images_are_those_of_scikit_image():
    from skimage import data

    photographs = embedded()
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        assert np.array_equal(photographs[name], getattr(data, name)())


def test_the_embedded_images_lie_in_the_package_itself():
    shipped = {str(path) for path in importlib.metadata.files("scikit-image")}
    assert {f"skimage/data/{file}" for file in sources.EMBEDDED.values()} <= shipped


def test_an_embedded_image_that_is_gone_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sources.EMBEDDED, "eagle", "eagle_that_is_not_there.png")
    with pytest.raises(NoImagesError, match="lacks eagle_that_is_not_there.png.*requirements.txt"):
        embedded()


# ---------------------------------------------------------------- files and crops


def test_image_files_finds_images_in_sub_folders_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "sub/a.jpeg", "notes.txt", "one.png.part", "._b.png", "paper.pdf", "small.gic"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == [tmp_path / "b.PNG", tmp_path / "sub" / "a.jpeg"]
    assert image_files(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]


def test_every_format_that_the_codec_reads_is_trained_on(tmp_path):
    names = ("a.jp2", "b.gif", "c.tga", "d.jfif", "e.heic", "f.jxl")
    pillow_heif.register_heif_opener()
    for i, name in enumerate(names):
        pixels = np.full((20, 20, 3), 40 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, **({"format": "JPEG"} if name == "d.jfif" else {}))
    crops = Crops([tmp_path], side=16, seed=0)
    assert [path.name for path in crops.files] == list(names)
    seen = sorted(int(crops[i][0].float().mean().round()) for i in range(len(names)))
    assert seen == pytest.approx([40 * i for i in range(len(names))], abs=3)


def test_image_files_says_which_folder_is_missing_or_empty(tmp_path):
    with pytest.raises(NoImagesError, match="nowhere does not exist"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(NoImagesError, match=f"no image in {tmp_path}.*.png"):
        image_files(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Seven noisy images, each recognizable by the red of all its pixels."""
    for i in range(7):
        pixels = noise(40 + i, 60 - i, i)
        pixels[..., 0] = 10 * i
        (tmp_path / f"{i}.png").write_bytes(png(pixels))
    return tmp_path


def source_of(item):
    return int(item[0][0, 0, 0])


def same(a, b):
    return np.array_equal(a[0], b[0]) and a[1] == b[1]


def test_an_item_is_a_crop_and_a_quality(folder):
    crops = Crops([folder], side=32, seed=0)
    mirrored = set()
    for i in range(30):
        x, quality = crops[i]
        assert tuple(x.shape) == (3, 32, 32) and str(x.dtype) == "torch.uint8"
        assert quality.dtype == np.float32 and 0 <= quality <= 100
        original = np.asarray(Image.open(folder / f"{source_of((x, quality)) // 10}.png"))
        crop = x.numpy().transpose(1, 2, 0)
        windows = np.lib.stride_tricks.sliding_window_view(original, (32, 32, 3))[:, :, 0]
        plain, flipped = ((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))
        assert plain or flipped
        mirrored.add(bool(flipped))
    assert mirrored == {False, True}


@pytest.mark.parametrize("i", [0, 1, 6, 7, 20, 1_000_003])
def test_item_i_of_a_fresh_object_is_that_of_one_in_use(folder, i):
    used = Crops([folder], side=16, seed=3)
    for j in (5, 0, 33, 12):
        used[j]
    assert same(Crops([folder], side=16, seed=3)[i], used[i])


def test_another_seed_and_another_item_are_another_crop(folder):
    crops, other = Crops([folder], side=16, seed=0), Crops([folder], side=16, seed=1)
    assert not any(same(crops[i], other[i]) for i in range(10))
    assert not any(same(crops[i], crops[j]) for i in range(10) for j in range(i))
    assert not any(same(crops[i], crops[i + 7 * 5]) for i in range(10))


def test_each_epoch_visits_every_file_once_in_an_order_of_its_own(folder):
    crops = Crops([folder], side=16, seed=0)
    epochs = [[source_of(crops[7 * epoch + i]) for i in range(7)] for epoch in range(5)]
    for epoch in epochs:
        assert sorted(epoch) == [0, 10, 20, 30, 40, 50, 60]
    assert len(set(map(tuple, epochs))) > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_is_what_checkpoints_of_old_were_trained_in(folder, seed):
    crops = Crops([folder], side=16, seed=seed)
    for epoch in range(3):
        order = np.random.default_rng([seed, epoch]).permutation(7)
        assert [source_of(crops[7 * epoch + i]) for i in range(7)] == [10 * n for n in order]


@pytest.mark.parametrize("height, width", [(5, 7), (1, 1), (40, 3), (3, 40)])
def test_a_small_image_is_mirrored_up_to_size(tmp_path, height, width):
    pixels = noise(height, width)
    (tmp_path / "small.png").write_bytes(png(pixels))
    padded = np.pad(pixels, [(0, max(0, 16 - height)), (0, max(0, 16 - width)), (0, 0)], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (16, 16, 3))[:, :, 0]
    for i in range(4):
        crop = Crops([tmp_path], side=16, seed=0)[i][0].numpy().transpose(1, 2, 0)
        assert any((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))


def test_gray_and_transparent_images_are_read_as_rgb(tmp_path):
    Image.fromarray(noise(20, 20)[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(np.dstack([noise(20, 20), noise(20, 20)[..., :1]])).save(tmp_path / "alpha.png")
    crops = Crops([tmp_path], side=16, seed=0)
    assert {tuple(crops[i][0].shape) for i in range(2)} == {(3, 16, 16)}


def flat(path, side=16):
    """The one colour of a picture of one colour, as training sees it."""
    crop = Crops([path], side=side, seed=0)[0][0]
    (colour,) = {tuple(pixel) for pixel in crop.flatten(1).T.tolist()}
    return colour


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("transparency", [None, 65535])
def test_16_bits_of_gray_are_rounded_to_8(tmp_path, suffix, transparency):
    more = {"transparency": transparency} if suffix == "png" and transparency else {}
    Image.fromarray(np.full((20, 20), 20000, np.uint16)).save(tmp_path / f"gray.{suffix}", **more)
    assert flat(tmp_path) == (78, 78, 78)  # 20000 * 255 / 65535


def test_what_is_transparent_is_white_as_in_the_codec(tmp_path):
    Image.new("RGBA", (20, 20), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert flat(tmp_path) == (255, 255, 255)


def test_a_picture_on_its_side_is_turned_as_in_the_codec(tmp_path):
    pixels = noise(16, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "side.png", exif=exif)
    crop = Crops([tmp_path], side=32, seed=0)[0][0].numpy().transpose(1, 2, 0)
    upright = np.pad(np.rot90(pixels, -1), [(0, 0), (0, 16), (0, 0)], mode="symmetric")
    assert np.array_equal(crop, upright) or np.array_equal(crop, upright[:, ::-1])


def test_a_picture_beyond_the_size_that_is_read_at_once(tmp_path, monkeypatch):
    from ganlib.codec import image_io

    monkeypatch.setattr(image_io, "LARGE", 1)
    pixels = noise(40, 50)
    (tmp_path / "large.png").write_bytes(png(pixels))
    crop = Crops([tmp_path], side=16, seed=0)[0][0].numpy().transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (16, 16, 3))[:, :, 0]
    assert any((windows == c).all(axis=(2, 3, 4)).any() for c in (crop, crop[:, ::-1]))


def test_an_unreadable_file_is_left_out_and_logged(folder, caplog):
    (folder / "broken.png").write_bytes(PHOTOGRAPH[:100])
    with caplog.at_level(logging.WARNING, "ganlib"):
        crops = Crops([folder], side=16, seed=0)
    assert len(crops.files) == 7
    assert [record for record in caplog.records if "left out" in record.message and "broken.png" in record.message]


def test_a_jpeg_that_is_cut_off_does_not_stop_training(folder, caplog):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[:-500])  # its header is sound, so it opens
    with caplog.at_level(logging.WARNING, "ganlib"):
        crops = Crops([folder], side=16, seed=0)
        items = [crops[i] for i in range(16)]
    assert {source_of(item) for item in items[:8]} == {0, 10, 20, 30, 40, 50, 60}
    assert len([record for record in caplog.records if "cut.jpg" in record.message]) == 1
    assert all(same(Crops([folder], side=16, seed=0)[i], item) for i, item in enumerate(items))


def test_a_folder_without_a_readable_image_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(NoImagesError, match=f"none of the 2 images in {tmp_path} can be read"):
        Crops([tmp_path], side=16, seed=0)


def test_images_that_vanish_during_training_are_an_error_not_a_loop(folder):
    crops = Crops([folder], side=16, seed=0)
    for path in crops.files:
        path.unlink()
    with pytest.raises(NoImagesError, match="can be decoded"):
        crops[0]
