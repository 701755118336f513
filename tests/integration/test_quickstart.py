"""The quickstart, on the user's own faces and on synthetic ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.models import load, save_weights
from octoscale.quickstart import Faces, finetune_values

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PICTURES = ("accuracy_by_resolution.png", "roc.png", "octuplet.png")


def quickstart(*options: str | Path) -> str:
    command = [sys.executable, "-m", "octoscale.cli", "quickstart", *map(str, options)]
    # On all cores, as a user has it; tests are on one thread each.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=800, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def mean_accuracy(directory: Path) -> list[float]:
    """Cross-resolution, before and after."""
    found = sorted((directory / "finetuned" / "evaluations").glob("*.json"))
    return [json.loads(path.read_text())["mean_accuracy"]["cross"] for path in (found[0], found[-1])]


@pytest.mark.soak
def test_the_users_own_faces_are_packed_fine_tuned_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write_synthetic_faces(
        tmp_path / "faces", identities=40, images_per_identity=3, verify_identities=20,
        verify_images_per_identity=3, verify_pairs=3,
    )  # fmt: skip
    torch.manual_seed(0)
    save_weights(load("tiny"), tmp_path / "weights.pt")
    faces = tmp_path / "faces"
    told = quickstart(
        "--directory", tmp_path / "out", "--faces", faces, "--pairs", faces / "verify" / "pairs.txt",
        "--weights", tmp_path / "weights.pt", "--model", "tiny", "--workers", "2",
    )  # fmt: skip
    for name in PICTURES:
        path = tmp_path / "out" / "finetuned" / name
        assert str(path) in told.replace("\n", "")
        assert min(Image.open(path).size) > 400
    report = tmp_path / "out" / "report.html"
    assert str(report) in told.replace("\n", "")
    assert "left out" in report.read_text()
    before, after = mean_accuracy(tmp_path / "out")
    # An untrained network on 60 pairs: whatever it was, fine-tuning on 40 such people makes it better.
    assert after > before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_synthetic_faces_show_the_fall_and_the_repair(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    quickstart("--directory", tmp_path / "out")
    found = sorted((tmp_path / "out" / "finetuned" / "evaluations").glob("*.json"))
    before, after = (
        {row["resolution"]: row["accuracy"] for row in json.loads(path.read_text())["scores"] if row["mode"] == "cross"}
        for path in (found[0], found[-1])
    )
    # One standard error of 600 pairs is 1 to 1.5 points; the fall and the repair were 12 to 18 points.
    assert before[112] > 0.94
    assert before[7] < before[112] - 0.06
    assert after[7] > before[7] + 0.06
    assert after[112] > before[112] - 0.03


def test_the_shipped_configuration_is_what_the_quickstart_runs() -> None:
    root = Path("quickstart")
    faces = root / "faces"
    made = Faces(
        faces / "train", faces / "verify", faces / "verify" / "pairs.txt", "tiny", root / "pretrained" / "weights.pt"
    )
    assert yaml.safe_load((CONFIGS / "quickstart.yaml").read_text()) == finetune_values(root, made)
