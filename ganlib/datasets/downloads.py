"""Files from the web that arrive whole or not at all: resumed, checked against SHA-256, unpacked once.

    url --Range: bytes=n- --> name.part --SHA-256--> name --unpack--> .stem.unpacking --rename--> stem/

Only the last name in the row counts as complete, so a kill at any moment loses only the work since the
last arrow.
"""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm.auto import tqdm

from ganlib.datasets import archives

log = logging.getLogger(__name__)

TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces of an answer
CHUNK = 2**16  # bytes; a broken connection loses less than this
OFFLINE = "Without a network, use the photographs of ganlib.datasets.embedded()."


class DownloadError(OSError):
    """A data set could not be fetched; the message says why, and what to do."""


class CorruptDownloadError(DownloadError):
    """What the server sends is not what was published, or does not unpack safely. It has been deleted."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web, with the size and hash that it must have."""

    url: str
    size: int  # bytes
    sha256: str  # hexadecimal

    @property
    def name(self):
        return PurePosixPath(self.url).name

    @property
    def packed(self):
        return self.name.endswith((".zip", ".tgz"))

    def place(self, folder):
        """Where it ends up under the folder: the file, or for an archive the folder that was in it."""
        return folder / (PurePosixPath(self.name).stem if self.packed else self.name)

    def present(self, folder):
        """Whether it is there already, whole. Needs no network."""
        place = self.place(folder)
        if not self.packed:
            return place.is_file() and pooch.file_hash(place) == self.sha256
        return archives.is_whole(place)


class ResumingDownloader:
    """A downloader for pooch that continues where an earlier attempt stopped.

    Args:
        part: Path of the unfinished file, kept between attempts.
        size: of the whole file, in bytes.
        bar: tqdm, advanced by every byte that is on disk.

    Raises (when called):
        DownloadError: the server cannot be reached, refuses, or sends nothing more.
        CorruptDownloadError: it offers a file of another size.
    """

    def __init__(self, part, size, bar):
        self.part, self.size, self.bar = part, size, bar
        self.resumed = False  # whether the bytes come from more than one answer

    def __call__(self, url, output_file, pooch):
        self.bar.update(self._arrived())
        if self._arrived() > self.size:
            self._discard()  # it belongs to another file
        furthest = self._arrived()
        self.resumed = furthest > 0
        while self._arrived() != self.size:
            reason = "the connection ends too early"
            try:
                self._ask(url)
            except requests.HTTPError as error:
                answer = error.response
                raise DownloadError(f"{url} answers {answer.status_code} {answer.reason}. {OFFLINE}") from None
            except requests.RequestException as error:
                log.debug("request for %s failed", url, exc_info=True)
                reason = in_one_line(error)
            # repeat as long as attempts bring more bytes: no fixed number of attempts suits both 0.5 MB and 4 GB
            if self._arrived() <= furthest:
                there = self._arrived()
                kept = f" {there:,} of {self.size:,} bytes are kept; the same call continues there." if there else ""
                raise DownloadError(f"cannot download {url}: {reason}.{kept} {OFFLINE}")
            furthest = self._arrived()
        os.replace(self.part, output_file)

    def _arrived(self):
        return self.part.stat().st_size if self.part.exists() else 0

    def _discard(self):
        self.bar.update(-self._arrived())
        self.part.unlink(missing_ok=True)
        self.resumed = False

    def _ask(self, url):
        """One request for what is missing, appended to the part as it comes in."""
        offset = self._arrived()
        headers = {"Accept-Encoding": "identity"}  # a range counts the file's bytes, not those of a gzip of it
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            begins = int(content_range[1]) if content_range else None
            if offset and (answer.status_code == 416 or answer.status_code == 206 and begins != offset):
                self._discard()  # the server's file is not the one that the part belongs to
                return self._ask(url)
            answer.raise_for_status()
            if answer.status_code == 206:
                total = content_range[2] if content_range else "*"
            else:
                self._discard()  # the server ignores ranges: it sends the whole file again
                total = answer.headers.get("Content-Length", "*")
            if total not in ("*", str(self.size)):
                self._discard()
                raise CorruptDownloadError(f"{url} is {total} bytes now, where {self.size} were published. {OFFLINE}")
            self.resumed = self._arrived() > 0
            with open(self.part, "ab") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    self.bar.update(len(chunk))
                    if file.tell() > self.size:
                        break  # endless, or another file: refused below
            if self._arrived() > self.size:
                self._discard()
                raise CorruptDownloadError(f"{url} sends more than the {self.size} bytes published. {OFFLINE}")


def in_one_line(error):
    """Why a request failed, without the pools and retries around it in the message."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT[0]} s to connect or {TIMEOUT[1]} s between two pieces"
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner))
    return " ".join(text.split(": ", 1)[-1].split())


def download(remote, folder, bar):
    """Download one file into the folder, unless it is there, and return its Path.

    Raises:
        DownloadError, and CorruptDownloadError where the SHA-256 differs: the file is deleted then.
    """
    part = folder / (remote.name + ".part")
    pooch.get_logger().setLevel(logging.WARNING)  # else it writes a line per file to stderr, across the bar
    for last in (False, True):
        downloader = ResumingDownloader(part, remote.size, bar)
        try:
            return Path(pooch.retrieve(remote.url, remote.sha256, remote.name, folder, downloader=downloader))
        except ValueError:  # pooch raises this for a wrong hash; it has deleted the file
            if last or not downloader.resumed:
                raise CorruptDownloadError(
                    f"{remote.url} does not have the SHA-256 that was published ({remote.sha256}); the download "
                    f"has been deleted. Try again later, or from another network. {OFFLINE}"
                ) from None
            log.warning("%s was put together from parts that do not match; downloading it again", remote.name)
            bar.update(-remote.size)


def fetch_files(files, folder, label, progress=True):
    """Make sure that all files are in the folder, checked and unpacked; files already there are not downloaded again.

    Archives are deleted once they are unpacked. An archive that was put into the folder by hand is used.

    Args:
        files: RemoteFiles.
        folder: Path, created where it is missing.
        label: of the progress bar.

    Returns:
        A Path for each file, to the file or to what was unpacked from it.

    Raises:
        DownloadError: no network, no such file, no space, no permission to write; CorruptDownloadError.
    """
    missing = [remote for remote in files if not remote.present(folder)]
    try:
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            # for a while an archive and its contents are both on disk, and archives hardly shrink photographs
            needed = sum(remote.size * (2 if remote.packed else 1) for remote in missing)
            free = shutil.disk_usage(folder).free
            if free < needed:
                raise DownloadError(
                    f"{label} needs {needed / 1e6:,.0f} MB and {folder} has {free / 1e6:,.0f} MB free: make room, "
                    "or choose another root"
                )
            total = sum(remote.size for remote in missing)
            with tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=not progress) as bar:
                done = 0
                for remote in missing:
                    path = download(remote, folder, bar)
                    done += remote.size
                    bar.update(done - bar.n)
                    if remote.packed:
                        archives.unpack(path, remote.place(folder), progress)
                        path.unlink()
    except DownloadError:
        raise
    except archives.ArchiveError as error:
        path.unlink()
        raise CorruptDownloadError(f"{path.name} does not unpack and has been deleted: {error}. {OFFLINE}") from None
    except OSError as error:
        raise DownloadError(
            f"cannot write to {folder}: {error.strerror or error}. Choose another root; what has arrived is kept"
        ) from None
    return [remote.place(folder) for remote in files]
