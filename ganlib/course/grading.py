"""Points for notebooks that were handed in.

    handed in:  ... [exercise, answered] [check, perhaps edited] ...
                          | answer, and cells of its own that it may need
                          v
    published:  ... [exercise] [check] ... --run, without network--> verdict of each check --> points

The published notebook is run, never the student's: edited or deleted checks have no effect. This is not a sandbox:
an answer is a program with all permissions of its user. Grade the work of people you do not know in a container.
"""

import ast
import copy
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from ganlib.folders import printable

COURSE = Path(__file__).resolve().parents[2] / "notebooks"
CELL_SECONDS = 300  # that a cell may take before it is interrupted; checks have shorter limits of their own
VERDICT = re.compile(r"\[(OK|NOT YET|TO DO)\] (.*)", re.DOTALL)
OWN = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
# For the notebook's own Python; programs that it starts are only given a proxy that does not exist
NO_NETWORK = """\
import os
import socket

os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))

_connect = socket.socket.connect


def _local_only(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("localhost", "127.0.0.1", "::1"):
        raise OSError("there is no network while notebooks are graded")
    return _connect(self, address)


socket.socket.connect = _local_only
"""


@dataclass(frozen=True)
class Mark:
    """The points of one exercise.

    Attributes:
        file: path of the notebook that was handed in, as it was given.
        exercise: name of the function that was to be written.
        points: 1 where its check says OK, else 0.
        message: the check's verdict, or why it was not run.
    """

    file: str
    exercise: str
    points: int
    message: str


def published(path):
    """The notebook of the course that a file is a copy of, by its name: 02_feature_extraction-anna.ipynb.

    Raises:
        ValueError: there is none.
    """
    names = sorted(COURSE.glob("[0-9][0-9]_*.ipynb"))
    found = [name for name in names if Path(path).stem.startswith(name.stem)]
    if not found:
        known = ", ".join(name.stem for name in names) or f"nothing in {COURSE}: grading needs a clone of the project"
        raise ValueError(f"{path} does not begin with the name of a notebook of the course ({known})")
    return found[-1]


def defined(source):
    """Names of functions and classes that a cell defines, in order; none where it is not Python."""
    try:
        return [node.name for node in ast.parse(source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    except SyntaxError:
        return re.findall(r"^(?:def|class) +(\w+)", source, flags=re.MULTILINE)


def _is_tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def _helps(source):
    """Does a cell only import and define, so that it may be run beside an answer?"""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return False
    return bool(body) and all(isinstance(node, OWN) for node in body)


def transplanted(original, handed_in):
    """The published notebook with a student's answers.

    An answer is the last cell that defines the function of an exercise. Cells that the published notebook does not
    have, and that only import and define, are put before the exercise that follows them.

    Args:
        original, handed_in: nbformat notebooks, which stay unchanged.
    """
    theirs = [cell.source for cell in handed_in.cells if cell.cell_type == "code"]
    known = {cell.source for cell in original.cells}
    exercises = {name for cell in original.cells if _is_tagged(cell, "exercise") for name in defined(cell.source)}
    answers, helpers, waiting = {}, {}, []
    for source in theirs:
        names = exercises.intersection(defined(source))
        if names:
            answers |= dict.fromkeys(names, source)
            for name in names:
                helpers.setdefault(name, []).extend(waiting)
            waiting = []
        elif source not in known and _helps(source):
            waiting.append(source)
    cells = []
    for cell in copy.deepcopy(original.cells):
        if _is_tagged(cell, "exercise"):
            for name in defined(cell.source):
                cells += [nbformat.v4.new_code_cell(source) for source in helpers.get(name, [])]
                cell.source = answers.get(name, cell.source)
        cells.append(cell)
    notebook = nbformat.v4.new_notebook(metadata=original.metadata)
    notebook.cells = [nbformat.v4.new_code_cell(NO_NETWORK), *cells]
    return notebook


def with_preset(notebook, preset):
    """Set PRESET in the cell tagged `parameters`."""
    for cell in notebook.cells:
        if _is_tagged(cell, "parameters"):
            cell.source = re.sub(r'^PRESET = ".*?"', f'PRESET = "{preset}"', cell.source, flags=re.MULTILINE)
    return notebook


def grade(path, preset="tiny"):
    """Run the course's notebook with the answers of one that was handed in.

    Args:
        path: of the file.
        preset: the model to run it with.

    Returns:
        A Mark for each check, in order.

    Raises:
        ValueError: the file is no notebook, or none of the course.
        OSError: it cannot be read.
    """
    original = nbformat.read(published(path), as_version=4)
    try:
        notebook = with_preset(transplanted(original, nbformat.read(path, as_version=4)), preset)
    except OSError:
        raise
    except Exception as error:  # foreign text can raise any exception in its reader
        raise ValueError(f"{path} is not a notebook: {shorten(str(error), 300)}") from error
    resources = {"metadata": {"path": str(COURSE)}}
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, interrupt_on_timeout=True, allow_errors=True, kernel_name="python3",
        resources=resources,
    )  # fmt: skip
    try:
        client.execute()
    except (CellTimeoutError, DeadKernelError):  # cells that were not reached have no outputs
        pass
    return [_mark(printable(path), cell) for cell in notebook.cells if _is_tagged(cell, "check")]


def _mark(file, cell):
    exercise = re.search(r"check_(\w+)\(", cell.source)[1]
    for output in cell.get("outputs", []):
        if output.output_type == "execute_result":  # text that the answer prints is not a verdict
            found = VERDICT.match(output.data.get("text/plain", ""))
            if found:
                return Mark(file, exercise, int(found[1] == "OK"), f"[{found[1]}] {found[2]}")
        if output.output_type == "error":
            return Mark(file, exercise, 0, f"{output.ename}: {output.evalue}")
    return Mark(file, exercise, 0, "the check was not reached")
