"""make bench, as far as it runs without CompressAI: on a tiny picture, for its table and not for its figures."""

import csv
import sys
from pathlib import Path

import pytest
from conftest import module_of
from PIL import Image

BENCHMARKS = Path(__file__).parent / "benchmarks"
SIDES = 96, 64  # pixels


@pytest.fixture(scope="module")
def table():
    return module_of(BENCHMARKS / "speed_table.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, photo):
    path = tmp_path_factory.mktemp("picture") / "tiny.png"
    Image.fromarray(photo).crop((200, 100, 200 + SIDES[0], 100 + SIDES[1])).save(path)
    return path


@pytest.fixture
def bench(monkeypatch, capsys):
    """The script in this process, which starts those that are measured: what it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script = module_of(BENCHMARKS / "bench.py")

    def run(*arguments):
        command = ["bench.py", "--repeats", "1", "--threads", "1", *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        script.main()
        return capsys.readouterr().out

    run.script = script
    return run


def test_ganlib_and_pillow_are_measured(bench, table, tiny, tmp_path):
    out = tmp_path / "new" / "speed.csv"
    printed = bench("--codecs", "JPEG", "--image", tiny, "--out", out)
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["codec"] for row in rows] == ["ganlib light", "JPEG"]
    for row in rows:
        assert list(row) == table.COLUMNS
        assert (int(row["width"]), int(row["height"])) == SIDES
        assert float(row["bpp"]) == pytest.approx(8 * int(row["bytes"]) / (SIDES[0] * SIDES[1]), abs=1e-4)
        for direction in table.DIRECTIONS:
            assert 0 < float(row[f"{direction}_mpixels_per_second"]) < 1e4
            assert 10 < float(row[f"{direction}_peak_mb"]) < 1e4
            assert float(row[f"{direction}_above_mb"]) < float(row[f"{direction}_peak_mb"])
            assert row[f"{direction}_speed_ratio"] == ""  # its reference was not measured
        assert f"| {row['codec']} | " in printed
        assert row["cpu"] and f"CPU with {row['cpu']}, 1 threads" in printed
    ours, jpeg = rows
    assert 15 < float(ours["encode_kmac_per_pixel"]) < 40  # 96 pixels are not padded to 64s: h_a sees more
    assert 25 < float(ours["decode_kmac_per_pixel"]) < 50
    assert jpeg["encode_kmac_per_pixel"] == ""
    # a process of Pillow's must not have loaded PyTorch
    assert float(jpeg["decode_peak_mb"]) < float(ours["decode_peak_mb"]) / 2


def test_shares_of_the_profile_sum_to_one(bench, tiny):
    lines = bench("--profile", "--image", tiny).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    starts = [i for i, (name, *_) in enumerate(cells) if name in ("compress", "decompress")]
    for start, end, needed in zip(starts, [starts[1], None], ("g_a", "g_s")):
        shares = {name: float(share) for name, _, share in cells[start + 2 : end]}
        assert shares.pop("whole call") == 100
        assert sum(shares.values()) == pytest.approx(100, abs=1)
        inference = {f"{network}, integer inference" for network in ("h_s", "contexts")}
        assert {needed, *inference, "range coder", "sorting of symbols", "rest"} <= set(shares)


def test_ratios_are_against_mbt2018_mean(table):
    def row(codec, seconds, peak):
        figures = dict(seconds=seconds, best_seconds=seconds, repeats=1, peak_mb=peak, above_mb=peak / 10)
        steps = {"prepare": {}, "encode": figures | {"bytes": 1000}, "decode": figures | {"seconds": 2 * seconds}}
        return table.row(codec, 1000, 1000, 2, steps, "avx2")

    rows = [row("ganlib light", 0.5, 300), row("mbt2018-mean", 1.0, 600), row("cheng2020-anchor", 10.0, 900)]
    table.add_ratios(rows)
    ours, reference, slowest = rows
    assert ours["encode_mpixels_per_second"] == 2 and ours["decode_mpixels_per_second"] == 1
    assert (ours["encode_speed_ratio"], ours["decode_peak_ratio"], ours["decode_above_ratio"]) == (2, 0.5, 0.5)
    assert all(reference[f"{d}_{ratio}"] == 1 for d in table.DIRECTIONS for ratio in table.RATIOS)
    encode, decode, against_slowest, *memory = table.sentences(rows)
    assert "encodes at 2.00 times the speed of mbt2018-mean" in encode
    assert "decodes at 2.00 times the speed of mbt2018-mean" in decode
    assert "decodes at 20.0 times the speed of cheng2020-anchor" in against_slowest
    assert len(memory) == 2 and "0.50 times the peak memory of mbt2018-mean" in memory[0]


def test_peers_without_their_environment_are_refused_with_the_remedy(bench, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench.script, "PEERS_PYTHON", tmp_path / ".bench" / "bin" / "python")
    with pytest.raises(SystemExit):
        bench("--codecs", "mbt2018-mean", "--image", tiny)
    assert "make bench" in capsys.readouterr().err
