"""The course as a whole: every notebook runs, its exercises open and solved, and is saved as it should be."""

import ast
import hashlib
import re

import nbformat
import papermill
import pytest
from conftest import COURSE, module_of

from ganlib.config import DATA
from ganlib.course.widgets import base

NAMES = sorted(path.stem for path in COURSE.glob("*.ipynb"))
MEGABYTE = 1_000_000

execute = module_of(COURSE / "execute.py")


def read(name):
    return nbformat.read(COURSE / f"{name}.ipynb", as_version=4)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def functions(source):
    return re.findall(r"^def (\w+)\(", source, flags=re.MULTILINE)


def tracked():
    """What notebooks read and must not write: {file: its hash}, of data/report/ and data/reference/."""
    files = [path for part in ("report", "reference") for path in (DATA / part).rglob("*.csv")]
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in files}


def with_solutions(notebook, name):
    """Before each exercise its solution and a check of that: later cells find the exercise open all the same."""
    path, cells = COURSE / "solutions" / f"{name}.py", []
    checks = iter(tagged(notebook, "check"))
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            function = functions(cell.source)[-1]
            solved = f"import runpy\n{function} = runpy.run_path({str(path)!r})[{function!r}]"  # leaves no other name
            cells.append(nbformat.v4.new_code_cell(solved))
            cells.append(nbformat.v4.new_code_cell(next(checks).source, metadata={"tags": ["solved"]}))
        cells.append(cell)
    notebook.cells = cells
    return notebook


def run(notebook, tmp_path, name):
    """Run at tiny in a folder of its own, so that what notebooks write stays apart."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(notebook, folder / f"{name}.ipynb")
    before = tracked()
    papermill.execute_notebook(
        folder / f"{name}.ipynb", folder / "out.ipynb", {"PRESET": "tiny"}, cwd=folder, progress_bar=False,
        iopub_timeout=600,  # seconds; the 4 that it waits for a cell's output are too few on a busy machine
    )  # fmt: skip
    assert tracked() == before, "a notebook changes what git tracks"
    return nbformat.read(folder / "out.ipynb", as_version=4)


def verdicts(notebook, tag):
    outputs = [output for cell in tagged(notebook, tag) for output in cell.outputs]
    return [output.data["text/plain"] for output in outputs if "data" in output]


def test_the_order_of_the_course():
    assert NAMES == [
        "00_start_here", "01_dataset_collection", "02_feature_extraction", "03_bits", "04_adversarial_training",
        "05_low_vram", "06_results", "07_cited_models",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_its_exercises_open_and_its_solutions_are_right(name, tmp_path):
    done = run(with_solutions(read(name), name), tmp_path, name)
    still_open, solved = verdicts(done, "check"), verdicts(done, "solved")
    assert len(still_open) == len(solved) == len(tagged(done, "exercise")) >= 2
    assert all(text.startswith("[TO DO]") for text in still_open), still_open
    assert all(text.startswith("[OK]") for text in solved), solved


@pytest.mark.parametrize("name", NAMES)
def test_only_its_check_calls_an_exercise(name):
    """So a notebook runs to its end whatever a student makes of an exercise."""
    notebook = read(name)
    answers = {functions(cell.source)[-1] for cell in tagged(notebook, "exercise")}
    assert len(answers) == len(tagged(notebook, "exercise"))
    for cell in notebook.cells:
        if cell.cell_type == "code" and not {"exercise", "check"} & set(cell.metadata.get("tags", [])):
            source = re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE)  # IPython's own commands
            used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
            assert not answers & used, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_form_of_the_course(name):
    notebook = read(name)
    first, last = notebook.cells[0], "".join(cell.source for cell in notebook.cells[-5:])
    for word in ("# ", "**Goal", "**Time", "**Prerequisites"):
        assert word in first.source, word
    assert "# Summary" in last and "References" in last
    (parameters,) = tagged(notebook, "parameters")
    assert 'PRESET = "light"' in parameters.source and "SEED = 0" in parameters.source
    assert len(tagged(notebook, "exercise")) == len(tagged(notebook, "check")) in (2, 3)
    assert "redict" in "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = sorted(sum(bool(line.strip()) for line in source.splitlines()) for source in code)
    assert lines[len(lines) // 2] <= 8


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_saved_run_in_order_and_small(name):
    """Where this fails: make notebooks."""
    path = COURSE / f"{name}.ipynb"
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < MEGABYTE
    assert "widgets" not in notebook.metadata
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in o.get("data", {}) or "image/jpeg" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o.output_type == "error" or execute.LIVE in o.get("data", {})]
    assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text()), "a path of one machine"


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_a_text_for_whoever_cannot_see_it(name):
    for cell in read(name).cells:
        for output in cell.get("outputs", []):
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                assert len(output.metadata.get(kind, {}).get("alt", "")) > 20, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_every_question_has_an_answer(name):
    text = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    asked = "".join(re.findall(r"^## Questions$(.*?)^## ", text, re.M | re.S))
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", asked, re.M)]
    assert numbers == list(getattr(module_of(COURSE / "solutions" / f"{name}.py"), "ANSWERS", {}))
    assert not asked or 3 <= len(numbers) <= 5


def test_links_between_notebooks_lead_somewhere():
    for name in NAMES:
        text = "".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (COURSE / target).exists(), (name, target)


def test_publishing_drops_what_needs_a_kernel():
    live = nbformat.v4.new_output("display_data", {execute.LIVE: {"model_id": "x"}, "text/plain": "run this cell"})
    page = f"<style></style><div class='{execute.STATIC}'></div>"
    static = nbformat.v4.new_output(
        "display_data", {"image/png": "aGVsbG8=", "text/html": page, "text/plain": "a cat"}
    )
    bar = nbformat.v4.new_output("display_data", {execute.LIVE: {"model_id": "x"}, "text/plain": "bar"})
    warning = nbformat.v4.new_output("stream", name="stderr", text="warning")
    said = nbformat.v4.new_output("stream", name="stdout", text="said")
    cell = nbformat.v4.new_code_cell(
        "1", outputs=[live, static, bar, warning, said], metadata={"execution": {"t": "now"}}
    )
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    execute.publishable(notebook)
    assert "widgets" not in notebook.metadata and cell.metadata == {}
    assert [o.output_type for o in cell.outputs] == ["display_data", "stream"]
    assert cell.outputs[0].data == {"image/png": "aGVsbG8=", "text/plain": "a cat"} and cell.outputs[1].text == "said"


def test_what_a_panel_shows_when_it_is_reopened_is_what_publishing_finds():
    assert execute.STATIC == base.STATIC_CLASS


def test_preset_is_set_where_the_parameters_are():
    cell = nbformat.v4.new_code_cell('PRESET = "light"  # or "tiny"', metadata={"tags": ["parameters"]})
    other = nbformat.v4.new_code_cell('PRESET = "light"')
    execute.with_preset(nbformat.v4.new_notebook(cells=[cell, other]), "tiny")
    assert cell.source == 'PRESET = "tiny"  # or "tiny"' and other.source == 'PRESET = "light"'


def test_times_stand_in_one_place():
    """The table of notebooks/README.md says how long each takes; the notebooks say the same."""
    table = re.findall(r"\]\((\d\d_\w+)\.ipynb\) \|[^|]*\| ([^|]+) \| ([^|]+) \|", (COURSE / "README.md").read_text())
    assert [name for name, _, _ in table] == NAMES
    for name, computing, everything in table:
        line = f"**Time.** {computing} of computing on two CPU cores, {everything} with reading and exercises."
        first = " ".join(read(name).cells[0].source.split())
        assert line.lower() in first.lower(), (name, line)
        assert len(re.findall(r"\d+ (?:seconds|minutes)", first)) <= 2, "no other time"


def test_the_course_uses_the_words_of_the_field():
    """Words that only this project would use, or that the field uses otherwise."""
    private = re.compile(r"\b(foret\w+|deception|deceive\w*|repetition|told|stands? still|stood still)\b")
    texts = {name: "\n".join(cell.source for cell in read(name).cells) for name in NAMES}
    root = COURSE.parent
    pages = [
        *root.glob("*.md"),
        *root.glob("notebooks/*.md"),
        *root.glob("data/*/README.md"),
        root / "ganlib/FORMAT.md",
    ]
    texts |= {path.name: path.read_text() for path in (*pages, *root.glob("ganlib/**/*.py"))}
    found = {name: words for name, text in texts.items() if (words := private.findall(text))}
    assert not found and len(texts) > 100


def test_a_notebook_imports_little_at_its_beginning():
    for name in NAMES:
        first = next(cell.source for cell in read(name).cells if cell.cell_type == "code")
        assert "import" in first and sum(bool(line.strip()) for line in first.splitlines()) <= 10, name


def test_the_teacher_s_answers_are_those_of_the_saved_outputs():
    answers = module_of(COURSE / "answers.py")
    assert (COURSE / "ANSWERS.md").read_text() == answers.page(), "python notebooks/answers.py > notebooks/ANSWERS.md"
    asked = sum(cell.source.count("my_guess = None") for name in NAMES for cell in read(name).cells)
    rows = [row for name in NAMES for row in answers.answers(read(name))]
    assert len(rows) == asked > 80 and all(question and answer for question, answer in rows)
