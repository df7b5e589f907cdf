"""The ablation: variants on the same files, a judge that finds what is to be found, and a command that goes on."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, TINY, blurred

from ganlib.cli import ablation as command
from ganlib.cli.ending import exit_status
from ganlib.config import AdversarialConfig
from ganlib.evaluation import ablation
from ganlib.evaluation.metrics import detail, lpips, psnr
from ganlib.weights import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("accelerator")


@pytest.fixture(scope="module")
def pictures(photo):
    return {f"part {i}": photo[128 * i : 128 * (i + 1)] for i in range(4)}


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """The fixture's weights, and the same with a generator that adds 20 levels to everything."""
    weights, path = load_weights(TINY), tmp_path_factory.mktemp("variants") / "bright.safetensors"
    with torch.no_grad():
        weights.model.g_s.leave[1].bias += 20 / 255
    save_weights(weights.model, path, weights.stages, weights.tables)
    return {"as it is": TINY, "bright": path}


@pytest.fixture(scope="module")
def pairs(variants, pictures):
    return ablation.decode_all(variants, pictures, (30,), progress=False)


def test_every_variant_decodes_the_same_files(codec, pairs, pictures):
    for one, other in zip(*pairs.values()):
        assert (one.image, one.n_bytes) == (other.image, other.n_bytes) and torch.equal(one.y_hat, other.y_hat)
        assert 10 < np.mean(other.x_hat.astype(int) - one.x_hat) <= 20
        data = codec.compress(pictures[one.image], 30)
        assert len(data) == one.n_bytes and psnr(np.asarray(codec.decompress(data, 1.0)), one.x_hat) > 50
        rebuilt = codec.model.g_s(one.y_hat[None], torch.tensor([30.0]), torch.ones(1))[0].permute(1, 2, 0)
        assert psnr((rebuilt.clamp(0, 1) * 255).round().byte().numpy(), one.x_hat) > 50, "the latents are the file's"


def test_variants_of_other_encoders_are_refused(variants, pictures, tmp_path):
    weights = load_weights(TINY)
    with torch.no_grad():
        weights.model.log_inverse_gain += 0.5
    save_weights(weights.model, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="fingerprints differ"):
        ablation.decode_all(variants | {"other": tmp_path / "other.safetensors"}, pictures)
    with pytest.raises(ValueError, match="small has a side below 128 pixels"):
        ablation.decode_all(variants, {"small": pictures["part 0"][:100]})


def test_distances_are_those_of_the_metrics(pairs, pictures, monkeypatch):
    monkeypatch.setattr(ablation.metrics, "dists", lambda x, x_hat: 0.5)  # VGG16 is slow, and tested elsewhere
    monkeypatch.setattr(ablation, "features_on_two_grids", lambda x: np.full((1, 2), x.mean()))
    monkeypatch.setattr(ablation.metrics, "frechet_distance", lambda a, b: abs(a.mean() - b.mean()))
    points = ablation.measure(pairs, progress=False)
    table = ablation.table(points, {"as it is": 0.5, "bright": 1.0})
    assert list(table["variant"]) == ["as it is", "bright"] and list(table["judge"]) == [0.5, 1.0]
    dark, bright = table.to_dict("records")
    assert dark["bytes"] == bright["bytes"] and dark["psnr"] > bright["psnr"] + 2 and bright["frechet"] > 10
    own = [psnr(pair.x, pair.x_hat) for pair in pairs["as it is"]]
    assert dark["psnr"] == pytest.approx(np.mean(own))
    assert dark["detail"] == pytest.approx(np.mean([detail(p.x_hat) / detail(p.x) for p in pairs["as it is"]]))
    assert points["lpips"].iloc[0] == pytest.approx(lpips(pictures["part 0"], pairs["as it is"][0].x_hat))


def test_a_judge_finds_what_is_blurred_and_cannot_tell_what_is_alike(pictures, monkeypatch):
    monkeypatch.setattr(ablation, "JUDGE_PAIRS", 2)

    def of(change):
        return [ablation.Pair(name, 30, 0, x, change(x), torch.zeros(4, 8, 32)) for name, x in pictures.items()]

    assert ablation.judged(of(lambda x: blurred(x, 8)), steps=40) > 0.8
    assert ablation.judged(of(np.copy), steps=2) == 0.5, "of two equal crops one verdict is wrong"
    with pytest.raises(ValueError, match="too few"):
        ablation.judged(of(blurred)[:2])


def test_pictures_that_cannot_be_measured_are_refused_before_any_training(folder, tmp_path, monkeypatch, capsys):
    def pictures(count, height, width):
        return {str(i): np.zeros((height, width, 3), np.uint8) for i in range(count)}

    ablation.check_pictures(pictures(6, 512, 768))  # 96 patches each, and 77 of the second grid
    with pytest.raises(ValueError, match="5 pictures have 865 patches"):
        ablation.check_pictures(pictures(5, 512, 768))
    with pytest.raises(ValueError, match="2 pictures are too few"):
        ablation.check_pictures(pictures(2, 4096, 4096))
    with pytest.raises(ValueError, match="0 has a side below 128 pixels"):
        ablation.check_pictures(pictures(1, 127, 512))

    runs = tmp_path / "runs"
    arguments = [str(folder), "--images", str(folder), "--runs", str(runs), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["ablation", *arguments])
    assert exit_status(command.main) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("ganlib: ") and "pictures" in said[0]
    assert not runs.exists() and not (tmp_path / "out").exists()


def test_the_command_trains_measures_and_goes_on(folder, tmp_path, pictures, monkeypatch):
    small = AdversarialConfig(**SMALL, steps=2)
    out = tmp_path / "run"
    weights = {name: command.train_variant(name, [folder], out / name, TINY, small) for name in command.VARIANTS}
    stages = {name: load_weights(path).stages[-1] for name, path in weights.items()}
    used = {name: stage["configs"][-1] for name, stage in stages.items()}
    assert [used[n]["perceptual_weight"] > 0 for n in used] == [False, True, False, True]
    assert [used[n]["grid_artifact_weight"] > 0 for n in used] == [False, True, True, True]
    assert [used[n]["adversarial_weight"] > 0 for n in used] == [False, False, True, True]
    before = weights["+ both"].stat().st_mtime_ns
    assert command.train_variant("+ both", [folder], out / "+ both", TINY, small).stat().st_mtime_ns == before
    begun = command.train_variant(
        "+ GAN", [folder], tmp_path / "warm", TINY, small, out / "+ GAN" / "discriminator.safetensors"
    )
    assert begun.exists()

    monkeypatch.setattr(ablation.metrics, "dists", lambda x, x_hat: 0.5)
    monkeypatch.setattr(ablation, "features_on_two_grids", lambda x: np.zeros((1, 2)))
    monkeypatch.setattr(ablation.metrics, "frechet_distance", lambda a, b: 1.0)
    table = command.write_ablation(weights, pictures, tmp_path / "report", (30,), judge_steps=1)
    assert list(table["variant"]) == list(command.VARIANTS)
    assert len(pd.read_csv(tmp_path / "report" / "points.csv")) == 16
    assert pd.read_csv(tmp_path / "report" / "table.csv")["variant"].tolist() == list(command.VARIANTS)
    assert len(list((tmp_path / "report").glob("crops_*.png"))) == 2
