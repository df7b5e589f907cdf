"""Training in two processes, as torchrun starts them: the same step as one process makes with both batches."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY

STEPS = 1  # from the same weights; a second would begin where rounding has led each
# Each process runs this. Noise and realism are drawn anew in each, and set to their middle here, so that two batches
# in two processes can be compared with both in one.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from ganlib.config import AdversarialConfig, TrainConfig
from ganlib.training.adversarial import AdversarialRun
from ganlib.training.loop import train
from ganlib.training.rate_distortion import RateDistortionRun
from ganlib.weights import load_weights

torch.rand_like = lambda tensor: torch.full_like(tensor, 0.5)
torch.rand = lambda *size, **options: torch.full(size, 0.5, **options)
folder, out, tiny, batch, steps = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
rank, model = int(os.environ.get("RANK", 0)), load_weights(tiny).model.config
small = dict(batch=batch, crop=64, precision="no", log_every=1, warmup=0, lr=1e-3, steps=steps)
for stage, kind in ((RateDistortionRun, TrainConfig), (AdversarialRun, AdversarialConfig)):
    average = train(stage, [folder], out / stage.STAGE, model, kind(**small), init=tiny, progress=False)
    torch.save(average.state_dict(), out / f"{stage.STAGE}-{rank}.pt")

class Interrupted(RateDistortionRun):
    def update(self, *args):
        if self.step == 1 and rank == 1:
            signal.raise_signal(signal.SIGINT)
        return super().update(*args)

if "RANK" in os.environ:
    small["steps"] = 5
    try:
        train(Interrupted, [folder], out / "stopped", model, TrainConfig(**small), init=tiny, progress=False)
    except KeyboardInterrupt:
        (out / f"interrupted-{rank}").touch()
"""


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Folder of what two processes made, and of what one made."""
    tmp = tmp_path_factory.mktemp("processes")
    (tmp / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in environment.items() if name not in ("RANK", "WORLD_SIZE")}
    for name, launcher, batch in (("two", torchrun, 4), ("one", [sys.executable], 8)):
        (tmp / name).mkdir()
        arguments = map(str, (tmp / "script.py", folder, tmp / name, TINY, batch, STEPS))
        subprocess.run([*launcher, *arguments], env=environment, check=True, timeout=600)
    return tmp


@pytest.mark.parametrize("stage", ["rate-distortion", "adversarial"])
def test_all_processes_end_with_the_same_weights(trained, stage):
    first, second = (torch.load(trained / "two" / f"{stage}-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stage", ["rate-distortion", "adversarial"])
def test_two_processes_are_one_with_both_batches(trained, stage):
    two, one = (torch.load(trained / name / stage / "checkpoint.pt", weights_only=True) for name in ("two", "one"))
    for name, state in one["optimizer"]["state"].items():
        for part, expected in state.items():
            found = two["optimizer"]["state"][name][part]
            assert expected.any() and (found - expected).norm() < 1e-3 * expected.norm(), (name, part)
    logs = []
    for name in ("two", "one"):
        with open(trained / name / stage / "log.csv", newline="") as file:
            logs.append(list(csv.DictReader(file)))
    assert len(logs[0]) == len(logs[1]) == STEPS
    for a, b in zip(*logs):
        for column in a.keys() - {"images_per_second"}:
            assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-4), column


def test_ctrl_c_in_one_process_stops_all_at_the_same_step(trained):
    assert [(trained / "two" / f"interrupted-{rank}").exists() for rank in (0, 1)] == [True, True]
    progress = torch.load(trained / "two" / "stopped" / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["step"] == 2
