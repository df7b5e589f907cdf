"""Find the files in a folder."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def visible_files(folder, unreadable=None):
    """Every file below a folder, sorted, without hidden files and those in hidden folders (".name").

    A link to a folder elsewhere is followed; a folder that can be reached twice is searched once. A link that leads
    nowhere is left out and logged.

    Args:
        folder: path; it may itself be hidden, or a link.
        unreadable: list that collects an OSError for each folder or file that cannot be read.

    Returns:
        list of Path, each beginning with `folder`.

    Raises:
        OSError: something cannot be read, and `unreadable` is None.
    """

    def failed(error):
        readable_error = type(error)(f"{error.filename} cannot be read: {error.strerror}")
        if unreadable is None:
            raise readable_error from error
        unreadable.append(readable_error)

    top = Path(folder).resolve()
    found, seen = [], set()
    for root, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        real = Path(root).resolve()
        link_inside = real != top and os.path.islink(root) and real.is_relative_to(top)
        if real in seen or link_inside:  # it is found under its own name
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            try:
                if path.is_file():
                    found.append(path)
                elif path.is_symlink() and not path.exists():
                    log.warning("left out %s: a link that leads nowhere", path)
            except OSError as error:
                failed(error)
    return sorted(found)


def printable(path):
    """A path as text that any UTF-8 file can hold: bytes that are not UTF-8 become escapes, such as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
