"""The glossary: in order, and each term in the notebook that it leads to."""

import re

import nbformat
import pytest
from conftest import COURSE

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| \[(\d\d)\]\(([^)]+)\) \|$", (COURSE / "GLOSSARY.md").read_text(), re.M)


def test_there_are_terms_in_alphabetical_order():
    terms = [re.sub("[^a-z]", "", term.lower()) for term, *_ in ROWS]
    assert len(terms) > 30 and terms == sorted(terms)


@pytest.mark.parametrize("number", sorted({row[2] for row in ROWS}))
def test_each_term_is_used_where_it_leads(number):
    [path] = COURSE.glob(f"{number}_*.ipynb")
    text = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells).lower()
    for term, _, there, target in ROWS:
        if there == number:
            assert target == path.name
            words = [word.strip(" `").lower() for word in term.split(",")]
            assert any(word in text for word in words), f"{term} is not in {path.name}"
