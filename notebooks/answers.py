"""What the cells below each "Predict" print, as ANSWERS.md: for teachers, from the saved outputs.

python notebooks/answers.py > notebooks/ANSWERS.md
"""

import re
from pathlib import Path

import nbformat

COURSE = Path(__file__).resolve().parent
HEAD = """\
# What the predictions come to

For teachers: each question after **Predict**, and what the cell that answers it printed when the notebooks were last
executed, at their default preset. Other machines may differ in the last digits; times differ more. (Made by
`python notebooks/answers.py` from the saved outputs.)
"""
GUESS = re.compile(r"[;,]? *my guess: None")


def question(source):
    """The last paragraph that begins with Predict, in one line; None where there is none."""
    found = re.findall(r"\*\*Predict\.?\*\* (.+?)(?:\n\n|\Z)", source, flags=re.DOTALL)
    return " ".join(found[-1].split()) if found else None


def printed(cell):
    """What a cell printed and showed as text, without the guess, in one line."""
    texts = [output.text for output in cell.get("outputs", []) if output.output_type == "stream"]
    lines = [" ".join(line.split()) for line in GUESS.sub("", "".join(texts)).splitlines()]
    return "; ".join(line for line in lines if line)


def answers(notebook):
    """Rows of (question, answer) of a notebook that was executed."""
    asked, rows = None, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            asked = question(cell.source) or asked
        elif "my_guess}" in cell.source or "my_guess)" in cell.source:
            rows.append((asked, printed(cell)))
    return rows


def page():
    """ANSWERS.md."""
    parts = [HEAD]
    for path in sorted(COURSE.glob("[0-9][0-9]_*.ipynb")):
        rows = [
            "| {} | {} |".format(*(text.replace("|", "\\|") for text in row))
            for row in answers(nbformat.read(path, 4))
        ]
        name = path.stem.replace("_", " ")
        parts.append(
            "\n".join([f"## [{name}]({path.name})", "", "| Predict | what is printed |", "|---|---|", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
