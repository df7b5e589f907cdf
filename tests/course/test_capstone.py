"""The capstone's score, from files, and its leaderboard."""

import dataclasses

import pandas as pd
import pytest
from conftest import COURSE, module_of

from ganlib.weights import load_weights, save_weights

capstone = module_of(COURSE / "capstone.py")


@pytest.fixture
def pictures(photo):
    return {"photo": photo[:128, :192]}


def trained_for(seconds, path):
    """The weights of `tiny`, said to be trained for so long."""
    weights = load_weights("tiny")
    stages = [{"stage": "rate-distortion", "steps": 1, "seconds": seconds}]
    save_weights(weights.model, path, stages, weights.tables)
    return path


def test_the_baseline_scores_zero_against_itself(pictures):
    assert capstone.score("tiny", pictures, progress=False) == pytest.approx(0, abs=1e-6)


def test_fewer_bytes_at_the_same_psnr_are_below_zero(pictures, monkeypatch):
    measured = capstone.curve("tiny", pictures, progress=False)
    better = measured.assign(bpp=0.8 * measured["bpp"])
    monkeypatch.setattr(capstone, "curve", lambda model, *_: measured if model == "tiny" else better)
    assert capstone.score("mine", pictures) == pytest.approx(-20, abs=0.1)


def test_the_leaderboard_has_the_best_first_and_one_row_for_the_same_weights(tmp_path):
    weights, path = load_weights("tiny"), tmp_path / "board" / "leaderboard.csv"
    other = dataclasses.replace(weights, fingerprint=bytes(8))
    capstone.enter(path, "Anna", -3.0, weights)
    capstone.enter(path, "Ben", -5.5, other)
    board = capstone.enter(path, "Anna", -4.0, weights)
    assert board[["name", "bd_rate_percent"]].values.tolist() == [["Ben", -5.5], ["Anna", -4.0]]
    pd.testing.assert_frame_equal(pd.read_csv(path, dtype={"fingerprint": str}), board)


def test_a_longer_training_is_refused(tmp_path, capsys):
    long = trained_for(1900, tmp_path / "long.safetensors")
    assert capstone.main([str(long), "--name", "Anna", "--leaderboard", str(tmp_path / "b.csv")]) == 1
    assert "32 minutes: 30 are allowed" in capsys.readouterr().err
    assert not (tmp_path / "b.csv").exists()


def test_the_command_scores_and_enters(tmp_path, capsys, monkeypatch, pictures):
    path, board = trained_for(1700, tmp_path / "mine.safetensors"), tmp_path / "b.csv"
    monkeypatch.setattr(capstone.datasets, "embedded", lambda: pictures)
    assert capstone.main([str(path), "--name", "Anna", "--leaderboard", str(board)]) == 0
    assert "Anna: BD-rate +0.0 %" in capsys.readouterr().out.replace("-0.0", "+0.0")
    assert pd.read_csv(board)["seconds"].tolist() == [1700]


def test_missing_weights_are_told(tmp_path, capsys):
    assert capstone.main([str(tmp_path / "none.safetensors"), "--name", "Anna"]) == 1
    assert "none.safetensors" in capsys.readouterr().err
