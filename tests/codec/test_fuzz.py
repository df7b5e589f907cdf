"""Some hundred files that the fuzzer makes, and every file that ever failed. (See fuzzer.py.)"""

import pytest
import test_host_process
from conftest import TINY
from fuzzer import CORPUS, Checker, Mutator, originals, peak

import ganlib

CASES = 250


@pytest.fixture(scope="module")
def files():
    return originals()


@pytest.fixture(scope="module")
def checker(files):
    return Checker(ganlib.load_codec(TINY, precision="no"), files)


def test_changed_files_give_a_picture_or_the_one_error(files, checker):
    before, memory = test_host_process.state(), peak()
    for seed in range(CASES):
        data, forged = Mutator(files, seed).case()
        try:
            checker.check(data, forged, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    assert test_host_process.state() == before
    assert peak() - memory < 200  # MB
    assert checker.salvaged > CASES // 20 and checker.accepted > 0  # the cases reach what they should


FAILED = [path for path in sorted(CORPUS.glob("*.gic")) if not path.name.startswith("whole")]


@pytest.mark.parametrize("path", FAILED, ids=lambda path: path.stem)
def test_files_that_ever_failed(checker, path):
    """Those whose checksums had been mended begin with "forged"."""
    checker.check(path.read_bytes(), forged=path.name.startswith("forged"))


def test_undamaged_files_are_what_they_are(files, checker):
    for data in files:
        before = checker.accepted
        checker.check(data, forged=False)
        assert checker.accepted == before + 1


def test_the_fuzzer_finds_what_it_looks_for(files, checker, monkeypatch):
    """With checksums that always fit it is not long until wrong pixels are called right."""
    monkeypatch.setattr("ganlib.codec.container.fits", lambda *args: True)
    with pytest.raises(AssertionError):
        for seed in range(400):
            data, _ = Mutator(files, seed).case()
            checker.check(data, forged=False)
