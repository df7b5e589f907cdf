"""The drawings of the notebooks: as the code makes them, with text inside the canvas."""

import re
from xml.etree import ElementTree

import pytest

from ganlib.course.drawings import DRAWINGS, FOLDER, PLACES, STATIONS

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = 0.62  # width of the broadest usual letters, of the font's size


@pytest.mark.parametrize("name", DRAWINGS)
def test_files_are_what_the_code_draws(name):
    assert (FOLDER / f"{name}.svg").read_text() == DRAWINGS[name]().svg(), "python -m ganlib.course.drawings"


def test_no_file_is_left_over():
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(DRAWINGS)


@pytest.mark.parametrize("name", DRAWINGS)
def test_text_can_be_read_and_stays_inside(name):
    root = ElementTree.fromstring(DRAWINGS[name]().svg())
    width, height = int(root.get("width")), int(root.get("height"))
    assert width <= 800 and root.find(f"{SVG}title").text
    for text in root.iter(f"{SVG}text"):
        size, x, y = (float(text.get(key)) for key in ("font-size", "x", "y"))
        length = CHARACTER * size * len(text.text)
        left = {"start": x, "middle": x - length / 2, "end": x - length}[text.get("text-anchor")]
        assert size >= 12 and left >= -2 and left + length <= width + 2 and size <= y <= height, text.text


def test_every_notebook_has_its_place():
    assert all(set(stations) <= set(STATIONS) for stations, _ in PLACES.values())
    assert [re.fullmatch(r"\d\d", number) is not None for number in PLACES] == [True] * 8
