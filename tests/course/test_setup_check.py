import numpy as np
import pytest

from ganlib.course import setup_check
from ganlib.course.setup_check import Finding, check_setup


def test_a_machine_that_runs_the_tests_has_nothing_failed():
    assert [str(f) for f in check_setup() if f.state == "fail"] == []


def test_a_finding_shows_its_remedy():
    assert str(Finding("fail", "no Python", "install it")) == "[FAIL] no Python\n       -> install it"
    assert str(Finding("ok", "Python")) == "[OK] Python"


@pytest.mark.parametrize(
    "needed, state, words",
    [
        ("numpy==0.0.1", "note", "pinned: 0.0.1"),
        ("no-such-package-here==1.0", "fail", "no-such-package-here missing"),
        (f"numpy=={np.__version__}", "ok", "1 packages"),
        ("", "note", "nothing tells which packages asking needs"),
        (None, "note", "nothing tells which packages asking needs"),
    ],
)
@pytest.mark.parametrize("told_by", ["installation", "clone"])
def test_packages_are_held_against_what_a_package_pins(tmp_path, monkeypatch, needed, state, words, told_by):
    monkeypatch.syspath_prepend(tmp_path)
    if needed is not None:
        (tmp_path / "asking-1.0.dist-info").mkdir()
        metadata = "Metadata-Version: 2.4\nName: asking\nVersion: 1.0\n"
        if needed and told_by == "installation":
            metadata += f"Requires-Dist: {needed}\n"
        (tmp_path / "asking-1.0.dist-info" / "METADATA").write_text(metadata)
        if told_by == "clone":
            (tmp_path / "requirements.txt").write_text(f"# pinned\n\n{needed}  # why\n")
    finding = setup_check.packages("asking", tmp_path / "requirements.txt")
    assert finding.state == state and words in finding.what
    assert ("pip install" in finding.remedy) == (state != "ok")


def test_a_clone_tells_what_ganlib_needs():
    pinned = [line for line in setup_check.REQUIREMENTS.read_text().splitlines() if "==" in line]
    assert f"{len(pinned)} packages" in setup_check.packages().what


def test_a_baseline_that_cannot_be_written_is_a_note(monkeypatch):
    assert setup_check.baseline_codecs().state == "ok"
    monkeypatch.setattr(setup_check.baselines, "available", lambda: ["JPEG", "JPEG 2000", "WebP", "JPEG XL"])
    finding = setup_check.baseline_codecs()
    assert finding.state == "note" and "lacks AVIF, HEIC" in finding.what
    assert "pip install --force-reinstall pillow pillow-heif;" in finding.remedy


def test_weights_that_are_missing_or_damaged_fail(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(setup_check.FILES[0].read_bytes()[:1000])
    for name in ("nosuch", str(tmp_path / "cut.safetensors")):
        finding = setup_check.weights(name)
        assert finding.state == "fail" and "git checkout" in finding.remedy


def test_too_little_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(setup_check, "FREE_GB", 1e9)
    assert setup_check.memory().state == "note"


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(setup_check, "PYTHON", (99, 0))
    assert setup_check.python().state == "fail" and "99.0" in setup_check.python().remedy
