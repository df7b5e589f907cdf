"""READMEs: one page, links that lead somewhere, and Python that runs."""

import re
import textwrap
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
READMES = ["README.md", "notebooks/README.md", *(f"data/{name}README.md" for name in ("", "weights/", "report/"))]


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_the_ten_lines_of_python_run(tmp_path, monkeypatch, photo, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"\n\n((?:    .*\n|\n)*    import ganlib\n(?:    .*\n|\n)*)", text)
    Image.fromarray(photo[:128, :128]).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(textwrap.dedent(program), found)
    assert (tmp_path / "photo.gic").read_bytes() == found["data"]
    assert found["image"].size == (128, 128) and found["part"].size == (64, 64)
    assert capsys.readouterr().out.strip()  # what was wrong with the file that was cut short
