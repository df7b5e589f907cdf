"""Which files a folder holds, for all that search one."""

import os
from pathlib import Path


def visible_files(folder):
    """Every file below a folder, in sorted order, but for hidden ones and those in hidden folders (".name").

    A link to a folder elsewhere is followed; what can be reached twice is found once.

    Args:
        folder: path; it may itself be hidden, or a link.

    Returns:
        list of Path, each beginning with `folder`.
    """
    top = Path(folder).resolve()
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = Path(root).resolve()
        link_inside = real != top and os.path.islink(root) and real.is_relative_to(top)
        if real in seen or link_inside:  # which is found under its own name
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())
