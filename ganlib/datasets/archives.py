"""Archives of photographs: read to the end before anything is written, then unpacked as a whole or not at all.

name.zip or name.tgz --verify--> --extract--> .name.unpacking/ --rename--> name/
"""

import errno
import gzip
import json
import os
import shutil
import tarfile
import zipfile
from contextlib import contextmanager

from tqdm.auto import tqdm

INVENTORY = ".inventory.json"  # in an unpacked folder: the size of every file, in bytes
UNPACKED_MAX = 4  # times the size of an archive: photographs hardly shrink in one
PIECE = 2**20  # bytes that are read at a time
# Errors of the file system for impossible names: too long, or both a file and a folder
BAD_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL}


class ArchiveError(ValueError):
    """An archive is damaged, encrypted, or must not be unpacked; the message says why."""


def is_whole(folder):
    """Whether a folder that unpack() made still has each of its files, at its size."""
    try:
        inventory = json.loads((folder / INVENTORY).read_text())
        return all((folder / name).stat().st_size == size for name, size in inventory.items())
    except (OSError, ValueError, AttributeError):  # missing, or damaged
        return False


def unpack(archive, folder, progress):
    """Unpack a .zip or .tgz into the folder, which appears only once all of it is there.

    (pooch is not used: below Python 3.12 its Untar does not use tarfile's filter, and neither Untar nor Unzip checks
    the checksum of a .tgz, the unpacked size, or names that lead out of the folder.)

    Args:
        archive: Path. It is kept.
        folder: Path; replaced where it exists.
        progress: show a bar.

    Raises:
        ArchiveError: damaged, encrypted, far larger than photographs can be, or a member would land outside the
            folder. No files of it are left.
        OSError: the folder cannot be written to, or the disk is full.
    """
    _verify(archive)
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed
    staging.mkdir()
    try:
        with _opened(archive) as (opened, members, options):
            for name, member in tqdm(members, f"unpack {archive.name}", unit="file", disable=not progress):
                if "__MACOSX" not in name.split("/"):  # resource forks: named like images, but not images
                    opened.extract(member, staging, **options)
        files = [path for path in staging.rglob("*") if path.is_file()]
        inventory = {path.relative_to(staging).as_posix(): path.stat().st_size for path in files}
        (staging / INVENTORY).write_text(json.dumps(inventory, indent=0))
        if folder.exists():
            shutil.rmtree(folder)  # some of its files were lost, else it would not be unpacked again
        os.replace(staging, folder)
    except (tarfile.TarError, ValueError) as error:  # links and devices, or impossible names
        raise ArchiveError(str(error)) from None
    except OSError as error:
        if error.errno not in BAD_NAMES:
            raise
        raise ArchiveError(str(error)) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _opened(archive):
    """The open archive, [(name of a member, the member)], and further arguments of its extract()."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield opened, [(member.filename.replace("\\", "/"), member) for member in opened.infolist()], {}
    else:
        with tarfile.open(archive, "r:gz") as opened:
            members = [(member.name.replace("\\", "/"), member) for member in opened.getmembers()]
            yield opened, members, {"filter": "data"}


def _verify(archive):
    """Read an archive to its end without writing; ArchiveError where it must not be unpacked."""
    limit = UNPACKED_MAX * archive.stat().st_size + 10**6
    try:
        if archive.suffix == ".tgz":
            unpacked = 0
            with gzip.open(archive) as stream:  # tarfile alone stops before the checksum
                while piece := stream.read(PIECE):
                    unpacked += len(piece)
                    _limit(unpacked, limit)
        with _opened(archive) as (opened, members, _):
            _limit(sum(getattr(member, "file_size", getattr(member, "size", 0)) for _, member in members), limit)
            if archive.suffix == ".zip" and (damaged := opened.testzip()):
                raise ArchiveError(f"wrong checksum of {damaged}")
    except ArchiveError:
        raise
    except Exception as error:  # zlib, lzma, bz2, struct and zipfile have an error each, and some are OSErrors
        raise ArchiveError(str(error) or type(error).__name__) from None
    for name, _ in members:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or ":" in parts[0]:
            raise ArchiveError(f"its member {name!r} leaves the folder")


def _limit(unpacked, limit):
    if unpacked > limit:
        raise ArchiveError(f"it unpacks to more than {limit:,} bytes")
