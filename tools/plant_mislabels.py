"""Plant mislabels in a copy of an image folder, and count how many of them a ledger of `octoscale noise` has on top.

    python tools/plant_mislabels.py plant FACES PLANTED [--misfiled 30] [--split 10] [--seed 1]
    octoscale pack PLANTED packed && octoscale noise run.yaml data.url=packed --output noise
    python tools/plant_mislabels.py score PLANTED.json noise/pairs.csv

The copy consists of links. An image is moved to a folder of somebody else, or half of a person's images to a second
folder.
"""

import argparse
import csv
import json
import random
from pathlib import Path
from typing import Any

MISFILED, SAME = "misfiled image", "same person"


def plant(source: Path, target: Path, misfiled: int, split: int, seed: int) -> None:
    """Write the copy, and beside it PLANTED.json: kind, the two folders, and the misfiled image's name."""
    rng = random.Random(seed)
    people = {folder.name: sorted(file.name for file in folder.iterdir()) for folder in sorted(source.iterdir())}
    names = list(people)
    rng.shuffle(names)
    # Two images must remain where one is taken from.
    givers = [name for name in names if len(people[name]) >= 3][:misfiled]
    others = [name for name in names if name not in givers]
    takers = others[:misfiled]
    divided = [name for name in others[misfiled:] if len(people[name]) >= 4][:split]
    for name, files in people.items():
        (target / name).mkdir(parents=True)
        for file in files:
            (target / name / file).symlink_to((source / name / file).resolve())
    planted: list[dict[str, Any]] = []
    for giver, taker in zip(givers, takers, strict=True):
        file = rng.choice(people[giver])
        (target / giver / file).rename(target / taker / f"zz_{file}")
        planted.append({"kind": MISFILED, "folders": sorted((giver, taker)), "image": f"{taker}/zz_{file}"})
    for name in divided:
        second = target / f"{name}_again"
        second.mkdir()
        for file in rng.sample(people[name], len(people[name]) // 2):
            (target / name / file).rename(second / file)
        planted.append({"kind": SAME, "folders": sorted((name, second.name)), "image": None})
    target.with_suffix(".json").write_text(json.dumps(planted, indent=1) + "\n")


def score(truth: Path, pairs: Path) -> None:
    """Print how many planted mistakes are among the first of the ledger, and whether they are named rightly."""
    planted = {tuple(mistake["folders"]): mistake for mistake in json.loads(truth.read_text())}
    with pairs.open() as file:
        rows = list(csv.DictReader(file))
    found = [planted.get(tuple(sorted((row["identity_a"], row["identity_b"])))) for row in rows]
    for first in (20, 40, 60):
        print(f"first {first}: {sum(mistake is not None for mistake in found[:first])} of {len(planted)} planted")
    named = [
        (row, mistake) for row, mistake in zip(rows, found, strict=True) if mistake and row["kind"] != "look-alike"
    ]
    print(f"named as a mistake: {len(named)}, of the right kind: {sum(r['kind'] == m['kind'] for r, m in named)}")
    moved = [(row["culprit"], mistake["image"]) for row, mistake in named if mistake["image"]]
    right = sum(culprit == image for culprit, image in moved)
    print(f"misfiled images named as such: {right} of {len(moved)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant")
    planting.add_argument("source", type=Path)
    planting.add_argument("target", type=Path)
    planting.add_argument("--misfiled", type=int, default=30)
    planting.add_argument("--split", type=int, default=10)
    planting.add_argument("--seed", type=int, default=1)
    scoring = commands.add_parser("score")
    scoring.add_argument("truth", type=Path)
    scoring.add_argument("pairs", type=Path)
    given = parser.parse_args()
    if given.command == "plant":
        plant(given.source, given.target, given.misfiled, given.split, given.seed)
    else:
        score(given.truth, given.pairs)


if __name__ == "__main__":
    main()
