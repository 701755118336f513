"""Faces to select by: identities of a training set that are held out of it, with pairs in LFW's form.

What is chosen by the score of the published pairs is tuned to them; what is chosen by these is not.
"""

from itertools import combinations
from pathlib import Path

import numpy as np

FOLDS = 10
_MOST_IMAGES = 6


def hold_out(faces: Path, directory: Path, *, identities: int, pairs_per_fold: int, seed: int) -> None:
    """Split `faces` (one folder per identity) in two by links: ``train``, and ``select`` with its ``pairs.txt``.

    Args:
        directory: made anew.
        identities: how many are held out, of those whose images are named as LFW's, NAME_0001.jpg.
        pairs_per_fold: genuine pairs of each of the ten folds, and as many impostor pairs; the folds share no identity.
    """
    rng = np.random.default_rng(seed)
    everyone = sorted(folder.name for folder in faces.iterdir() if folder.is_dir())
    named = [name for name in everyone if (faces / name / f"{name}_0001.jpg").exists()]
    held_out = sorted(rng.choice(named, identities, replace=False).tolist())
    for part in ("train", "select"):
        (directory / part).mkdir(parents=True)
    for name in everyone:
        part = "select" if name in set(held_out) else "train"
        (directory / part / name).symlink_to((faces / name).resolve(), target_is_directory=True)
    lines = [f"{FOLDS}\t{pairs_per_fold}"]
    for fold in np.array_split(rng.permutation(held_out), FOLDS):
        taken = [(name, number) for name in fold.tolist() for number in _numbers(faces / name)]
        pairs = [(*first, *second) for first, second in combinations(taken, 2)]
        for genuine in (True, False):
            kind = [pair for pair in pairs if (pair[0] == pair[2]) == genuine]
            for row in rng.choice(len(kind), pairs_per_fold, replace=False):
                first, i, second, j = kind[row]
                lines.append(f"{first}\t{i}\t{j}" if genuine else f"{first}\t{i}\t{second}\t{j}")
    (directory / "select" / "pairs.txt").write_text("\n".join(lines) + "\n")


def _numbers(folder: Path) -> list[int]:
    """The numbers of an identity's first images; a person with very many would make all the pairs."""
    return sorted(int(path.stem.rpartition("_")[2]) for path in folder.glob("*.jpg"))[:_MOST_IMAGES]
