"""Identities held out of a training set: nobody is on both sides, and no pair twice."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from support.selection import FOLDS, hold_out

from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.protocols import load_pairs


def write_image(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(pixels, colorspace="RGB"))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """60 identities as LFW names them, with 3 images each, and 5 of another set."""
    for person in range(60):
        for image in range(1, 4):
            write_image(tmp_path / f"faces/Person_{person}/Person_{person}_{image:04d}.jpg", seed=person)
    for person in range(5):
        write_image(tmp_path / f"faces/other_{person}/other_{person}_frontal_01.jpg", seed=person)
    return tmp_path / "faces"


def test_the_held_out_are_not_trained_on_and_folds_share_nobody(faces: Path, tmp_path: Path) -> None:
    hold_out(faces, tmp_path / "split", identities=40, pairs_per_fold=6, seed=3)

    parts = {part: {path.name for path in (tmp_path / "split" / part).iterdir()} for part in ("train", "select")}
    people = parts["select"] - {"pairs.txt"}
    assert len(people) == 40
    assert not people & parts["train"]
    assert people | parts["train"] == {path.name for path in faces.iterdir()}
    select = tmp_path / "split" / "select"
    lines = (select / "pairs.txt").read_text().splitlines()
    assert lines[0] == f"{FOLDS}\t6"
    folds = [lines[1 + 12 * fold : 13 + 12 * fold] for fold in range(FOLDS)]
    assert [len(line.split()) for line in folds[0]] == [3] * 6 + [4] * 6
    named = [{word for line in fold for word in line.split() if word.startswith("Person")} for fold in folds]
    assert sum(len(names) for names in named) == len(set().union(*named))
    assert len(set(lines)) == len(lines)
    pairs, _ = load_pairs(EvaluateConfig(pairs=str(select / "pairs.txt"), images=str(select)))
    assert len(pairs.same) == 120


def test_the_split_is_a_function_of_the_seed(faces: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        hold_out(faces, tmp_path / name, identities=40, pairs_per_fold=6, seed=seed)

    one, again, other = ((tmp_path / name / "select/pairs.txt").read_text() for name in ("one", "again", "other"))
    assert one == again != other
