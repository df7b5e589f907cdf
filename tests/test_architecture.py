"""The rooms of ganlib: imports run downwards, and every module can be read at one sitting."""

import ast
from pathlib import Path

import pytest

import ganlib

ROOT = Path(ganlib.__file__).parent
# From the ground up; a module may import from its own floor and from those below.
FLOORS = ["version", "config", "atomic_write", "folders", "model", "weights", "codec", "datasets", "training"]
FLOORS += ["cited", "evaluation", "course", "cli", "__main__"]
LINES_MAX = 300
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


FACES = ("course", "cli", "__main__")  # who may use ganlib as its users do: the others lie below what it is made of


def floor(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """Floors of ganlib that a module imports from, at its top or inside of a function."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{name}" for name in names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "ganlib" and len(parts) > 1 and parts[1] in FLOORS:  # others are the face's own names
                yield parts[1]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_downwards(path):
    assert floor(path) in FLOORS, "a new room: give it its floor"
    above = FLOORS[FLOORS.index(floor(path)) + 1 :]
    assert not {name for name in imported(path) if name in above}


@pytest.mark.parametrize("path", [path for path in MODULES if floor(path) not in FACES], ids=str)
def test_rooms_below_the_course_take_nothing_from_the_public_face(path):
    names = [
        alias.name
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "ganlib"
        for alias in node.names
    ]
    assert set(names) <= set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_is_short(path):
    assert len((ROOT / path).read_text().splitlines()) <= LINES_MAX
