"""Notebooks that were handed in: answers are taken, edited checks are not."""

import inspect

import nbformat
import pandas as pd
import pytest
from conftest import COURSE, solutions
from nbformat.v4 import new_code_cell, new_notebook

from ganlib.__main__ import main
from ganlib.course.grading import Mark, defined, grade, published, transplanted

START = "00_start_here"


def cell(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags)})


def original():
    return new_notebook(
        cells=[
            cell('PRESET = "light"', "parameters"),
            cell("def double(x):\n    ...", "exercise"),
            cell("check_double(double)", "check"),
            cell("def half(x):\n    ...", "exercise"),
            cell("check_half(half)", "check"),
        ]
    )


def sources(notebook):
    return [cell.source for cell in notebook.cells][1:]  # without the one that takes the network away


def test_answers_take_the_place_of_the_open_exercises():
    handed_in = original()
    handed_in.cells[1].source = "def double(x):\n    return 2 * x"
    assert sources(transplanted(original(), handed_in)) == [
        'PRESET = "light"', "def double(x):\n    return 2 * x", "check_double(double)",
        "def half(x):\n    ...", "check_half(half)",
    ]  # fmt: skip


def test_edited_and_deleted_checks_count_for_nothing():
    handed_in = original()
    handed_in.cells[2].source = "print('[OK] double')"
    del handed_in.cells[4]
    assert sources(transplanted(original(), handed_in)) == sources(transplanted(original(), original()))


def test_the_last_definition_counts_wherever_it_stands_and_brings_its_helpers():
    handed_in = original()
    handed_in.cells[1:1] = [cell("import math"), cell("launch_missiles()")]
    handed_in.cells += [
        cell("TWO = 2\ndef helper(x):\n    return x"),
        cell("def double(x):\n    return helper(x) * TWO"),
    ]
    taken = sources(transplanted(original(), handed_in))
    place = taken.index("def double(x):\n    return helper(x) * TWO")
    assert taken[place - 2 : place] == ["import math", "TWO = 2\ndef helper(x):\n    return x"]
    assert not any("missiles" in source for source in taken)


def test_an_answer_that_is_not_python_is_taken_as_it_is():
    handed_in = original()
    handed_in.cells[1].source = "def double(x:\n    return 2 * x"
    assert defined(handed_in.cells[1].source) == ["double"]
    assert "def double(x:\n    return 2 * x" in sources(transplanted(original(), handed_in))


def test_every_exercise_of_the_course_has_a_check_of_its_name():
    for path in sorted(COURSE.glob("[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        tagged = {
            tag: [c.source for c in cells if tag in c.metadata.get("tags", [])] for tag in ("exercise", "check")
        }
        names = [name for source in tagged["exercise"] for name in defined(source)]
        assert names and len(names) == len(tagged["check"]), path
        assert all(f"check_{name}(" in check for name, check in zip(names, tagged["check"])), path


@pytest.mark.parametrize("name", ["homework.ipynb", "0_start_here.ipynb", "start_here.ipynb"])
def test_files_of_other_names_are_told(name, capsys):
    assert main(["grade", name]) == 1
    assert "00_start_here" in capsys.readouterr().err


def test_a_copy_is_known_by_the_beginning_of_its_name():
    assert published(f"somewhere/{START}-anna (2).ipynb").stem == START


@pytest.mark.parametrize("text", ["def bits_per_pixel(): ...", '{"cells": 5}', "[]", '{"nbformat": 4, "cells": [7]}'])
def test_what_is_no_notebook_is_told(tmp_path, text):
    path = tmp_path / f"{START}.ipynb"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a notebook"):
        grade(path)


def test_one_bad_file_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    def graded(path, preset):
        if "anna" not in path:
            raise ValueError(f"{path} is not a notebook")
        return [Mark(path, "double", 1, "[OK] double")]

    monkeypatch.setattr("ganlib.course.grading.grade", graded)
    files = [str(tmp_path / group / f"{START}-{name}.ipynb") for group in "12" for name in ("bob", "anna")]
    assert main(["grade", *files, "--csv", str(tmp_path / "points.csv")]) == 1
    said = capsys.readouterr()
    assert all(f"{files[i]} is not a notebook" in said.err and f"{files[i + 1]}: 1 of 1" in said.out for i in (0, 2))
    table = pd.read_csv(tmp_path / "points.csv")
    assert list(table["file"]) == files and list(table["points"]) == [0, 1, 0, 1]
    assert table["message"][0] == f"{files[0]} is not a notebook"


def test_a_table_that_cannot_be_written_is_told_before_anything_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ganlib.course.grading.grade", None)
    assert main(["grade", f"{START}.ipynb", "--csv", str(tmp_path)]) == 1
    assert "a folder has this name" in capsys.readouterr().err


def test_one_right_answer_one_that_asks_the_network_and_a_forged_check(tmp_path, capsys):
    """The course's own notebook, run once."""
    notebook = nbformat.read(COURSE / f"{START}.ipynb", as_version=4)
    right = inspect.getsource(solutions(START).bits_per_pixel)
    network = (
        "import socket\ndef smallest_quality(*args):\n    socket.create_connection(('192.0.2.1', 80), timeout=9)"
    )
    for cell_ in notebook.cells:
        tags = cell_.metadata.get("tags", [])
        if "exercise" in tags:
            cell_.source = right if "bits_per_pixel" in cell_.source else network
        if "check" in tags:
            cell_.source = "print('[OK] all of it')"
    path = tmp_path / f"{START}-anna.ipynb"
    nbformat.write(notebook, path)
    assert main(["grade", str(path), "--csv", str(tmp_path / "grades.csv")]) == 0
    first, second = pd.read_csv(tmp_path / "grades.csv").to_dict("records")
    assert (first["file"], first["exercise"], first["points"]) == (str(path), "bits_per_pixel", 1)
    assert (second["file"], second["exercise"], second["points"]) == (str(path), "smallest_quality", 0)
    assert first["message"].startswith("[OK]") and "no network" in second["message"]
    assert f"{path.name}: 1 of 2" in capsys.readouterr().out
