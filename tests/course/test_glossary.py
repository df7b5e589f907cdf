"""The glossary: in order, and each term in the section that it leads to."""

import re

import nbformat
import pytest
from conftest import COURSE

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\[.+\)) \|$", (COURSE / "GLOSSARY.md").read_text(), re.M)
LINK = re.compile(r"\[(\d\d), section (\d+)\]\(([^)#]+)#([^)]+)\)")
LINKS = [(term, *link) for term, _, where in ROWS for link in LINK.findall(where)]


def sections(name):
    """{number: (heading, its text and that of the cells below it)} of a notebook."""
    text = "\n\n".join(
        c.source for c in nbformat.read(COURSE / name, as_version=4).cells if c.cell_type == "markdown"
    )
    parts = re.split(r"^## (?=\d+\. )", text, flags=re.M)[1:]
    return {part.split(".")[0]: (part.split("\n")[0], part) for part in parts}


def test_there_are_terms_in_alphabetical_order():
    terms = [re.sub("[^a-z]", "", term.lower()) for term, *_ in ROWS]
    assert len(terms) > 80 and terms == sorted(terms)
    assert {term for term, *_ in ROWS} == {term for term, *_ in LINKS}


@pytest.mark.parametrize("name", sorted({link[3] for link in LINKS}))
def test_each_term_is_used_where_it_leads(name):
    found = sections(name)
    for term, number, section, target, anchor in LINKS:
        if target == name:
            assert name.startswith(number)
            heading, text = found[section]
            assert anchor == heading.replace(" ", "-").replace("(", "%28").replace(")", "%29"), term
            words = [word.strip(" `").lower() for word in term.split(",")]
            assert any(word in " ".join(text.lower().split()) for word in words), f"{term} is not in {heading}"
