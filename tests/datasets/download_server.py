"""A server on this machine that downloads are driven against; small pictures and archives for it to serve."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from ganlib import datasets
from ganlib.datasets import (
    RemoteFile,
    Source,
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
