"""READMEs: one page, links that lead somewhere, and Python that runs."""

import re
import textwrap
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ganlib.evaluation.measure import psnr_at

ROOT = Path(__file__).resolve().parent.parent
READMES = ["README.md", "notebooks/README.md", *(f"data/{name}README.md" for name in ("", "weights/", "report/"))]


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)", text)
    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def rows_of(path, header):
    """The table under a header that begins so: {first cell: other cells}."""
    text = path.read_text(encoding="utf-8")
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


OURS, REPORT = "ganlib light", ROOT / "data" / "report"
IN_TABLES = {"HEIC 4:4:4": "HEIC", "VVC (VTM), published": "VVC, VTM (published)"}  # name in a README: in a CSV file


@pytest.mark.parametrize(
    "path, header", [(ROOT / "README.md", "| Kodak, mean of 24,"), (REPORT / "README.md", "| equal bytes for each")]
)
def test_figures_at_equal_bytes_are_those_of_the_table(path, header):
    table = pd.read_csv(REPORT / "kodak" / "perception.csv").set_index("codec")
    rates = pd.read_csv(REPORT / "kodak" / "summary.csv").set_index("codec")["our BD-rate, %"]
    checked = 0
    for name, cells in rows_of(path, header).items():
        name = IN_TABLES.get(name, name)
        name = f"{OURS}, {name}" if name.startswith("realism") else name
        if path.parent == ROOT and cells[-1]:
            assert float(cells[-1].removesuffix(" %")) == round(rates[name]), name
        if name in table.index:
            row, checked = table.loc[name], checked + 1
            psnr = next(i for i, cell in enumerate(cells) if cell.endswith(" dB"))
            shown = [float(cell.removesuffix(" dB")) for cell in cells[psnr : psnr + 3]]
            # the last digit may be rounded twice
            assert shown[0] == pytest.approx(row["psnr"], abs=5.1e-3), name
            assert shown[1:] == pytest.approx([row["lpips"], row["dists"]], abs=5.1e-4), name
            if path.parent != ROOT:
                assert float(cells[0]) == pytest.approx(row["bpp"], abs=5.1e-4), name
                assert float(cells[4]) == pytest.approx(row["frechet"], abs=5.1e-3), name
    assert checked >= 8


def test_figures_of_the_curves_are_those_of_the_table():
    table = pd.read_csv(REPORT / "kodak" / "summary.csv").set_index("codec")
    names = IN_TABLES | {f"{OURS}, realism 0": OURS}
    rows = rows_of(REPORT / "README.md", "| mean of 24, equal quality setting")
    assert len(rows) >= 8
    for name, cells in rows.items():
        row = table.loc[names.get(name, name)]
        assert [float(cell.strip(" *").removesuffix(" dB")) for cell in cells[:3]] == [
            round(row[f"psnr at {rate} bpp"], 2) for rate in ("0.20", "0.28", "0.50")
        ], name
        if cells[3]:
            assert float(cells[3].removesuffix(" %")) == round(row["our BD-rate, %"]), name


def test_figures_of_the_shipped_weights_are_those_of_the_tables():
    curve = pd.read_csv(REPORT / "kodak" / "curves.csv").set_index(["codec", "quality"]).loc[OURS]
    rates = pd.read_csv(REPORT / "kodak" / "summary.csv").set_index("codec")["our BD-rate, %"]
    path = ROOT / "data" / "weights" / "README.md"
    qualities = [0, 20, 40, 50, 60, 80, 90, 100]
    rows, shown = rows_of(path, f"| quality | {' | '.join(map(str, qualities))} |"), curve.loc[qualities]
    assert [float(cell) for cell in rows["now: bpp"]] == pytest.approx(shown["bpp"].tolist(), abs=5.1e-4)
    assert [float(cell) for cell in rows["now: PSNR, dB"]] == pytest.approx(shown["psnr"].tolist(), abs=5.1e-3)
    codecs = ["AVIF", "HEIC 4:4:4", "JPEG 2000", "WebP", "JPEG XL", "JPEG"]
    now = rows_of(path, f"| BD-rate against | {' | '.join(codecs)} |")["now"]
    expected = [round(rates[IN_TABLES.get(codec, codec)]) for codec in codecs]
    assert [float(cell.removesuffix(" %")) for cell in now] == expected


def test_figures_of_the_cited_models_are_those_of_the_tables():
    table = pd.read_csv(REPORT / "cited" / "table.csv").set_index("codec")
    curves = dict(list(pd.read_csv(REPORT / "cited" / "curves.csv").groupby("codec")))
    rows = rows_of(REPORT / "README.md", "| miniature, Kodak")
    assert len(rows) == len(table)
    for name, cells in rows.items():
        codec = name.split()[1] if name.startswith("ganlib") else name.split()[0].lower()
        row, curve = table.loc[codec], curves[codec]
        assert cells[0] == f"{row['parameters'] / 1e6:.2f} M"
        assert cells[1] == f"{row['kMAC/pixel']:.1f}" + (f" x {row['passes']:.0f}" if row["passes"] > 1 else "")
        assert cells[2] == " / ".join(f"{ratio:.1f}" for ratio in row.filter(like="time / mini"))
        assert cells[3] == f"{curve['bpp'].min():.2f} to {curve['bpp'].max():.2f}"
        assert [float(cell.removesuffix(" dB")) for cell in cells[4:6]] == [
            round(psnr_at(curve, 0.3), 2), round(curve["psnr"].max(), 2)
        ]  # fmt: skip
        for cell, reference in zip(cells[6:], ("JPEG", "mini")):
            if cell:
                assert float(cell.removesuffix(" %")) == round(row[f"BD-rate against {reference}, %"])


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
