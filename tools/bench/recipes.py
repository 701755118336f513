"""What each choice of a fine-tuning is worth, on real faces: one run per recipe, scored on identities held out for it.

    python tools/bench/recipes.py [--only NAME …] [--steps 150] [--directory runs/recipes] [--list]
    python tools/bench/recipes.py --only tied-1e-3 --steps 500 --shared

300 identities of the training set are held out, with 1,800 pairs in LFW's form (`support/selection.py`): recipes are
chosen by these. `--shared` also scores the published pairs; use it once, for the recipe that was chosen. Every run is
`octoscale train configs/real_faces.yaml` with the overrides of its recipe, in `--directory`; the same command goes on
where it was interrupted, and does not repeat what is there. Prints JSON: accuracies in %, with 95 % intervals; the
seconds of a training are those of its steps.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from support.measure import describe_machine
from support.recipe_table import RECIPES
from support.selection import hold_out

import octoscale
from octoscale.data.storage import Store
from octoscale.evaluate.evaluation import Evaluation
from octoscale.journal import read_journal

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared/data"
IDENTITIES, PAIRS_PER_FOLD, SEED = 300, 90, 0


def octoscale_command(*arguments: str | Path, threads: int) -> None:
    """Runs it, and shows what it says on stderr; its failure ends this."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "octoscale.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment, cwd=ROOT)


def scores(target: Path, file: Path, faces: Path, *options: str, threads: int) -> dict[str, Any]:
    """Cross-resolution accuracies of a network on the pairs of `faces`, kept in `file`."""
    if not file.exists():
        pairs = next(path for path in (faces / "pairs.txt", faces.parent / "pairs.txt") if path.exists())
        where = ("--pairs", str(pairs), "--images", str(faces))
        octoscale_command("evaluate", target, *where, *options, "--scores", file, "--quiet", threads=threads)
    found = Evaluation.from_json(file.read_text())
    cross = {size: found.scores["cross", size] for size in found.resolutions}
    return {
        "accuracy": {size: round(100 * score.accuracy, 2) for size, score in cross.items()},
        "interval": {
            size: [round(100 * end, 1) for end in score.intervals["accuracy"]] for size, score in cross.items()
        },
        "mean": round(100 * found.mean_accuracy("cross"), 2),
        "embedding_norm": round(found.mean_embedding_norm, 2),
    }


def run(name: str, overrides: list[str], arguments: argparse.Namespace, faces: Path) -> dict[str, Any]:
    # A recipe that was changed is another run.
    digest = hashlib.sha256(json.dumps(overrides).encode()).hexdigest()[:8]
    directory: Path = arguments.directory / f"{name}-{arguments.steps}-{digest}"
    settings = [
        f"steps={arguments.steps}",
        f"data.url={arguments.directory / 'packed'}",
        f"directory={directory}",
        "evaluate=null",
        *overrides,
    ]
    if not (directory / "weights.pt").exists():
        octoscale_command("train", "configs/real_faces.yaml", *settings, "--quiet", threads=arguments.threads)
    steps = read_journal(Store(str(directory)))
    found = {
        "recipe": overrides,
        "steps": arguments.steps,
        "train_seconds": round(sum(line.step_seconds + line.data_wait_seconds for line in steps)),
        "embedding_norms": [round(line.result.embedding_norm, 2) for line in steps[:: max(1, len(steps) // 10)]],
        "held_out": scores(directory, directory / "held_out.json", faces / "select", threads=arguments.threads),
    }
    if arguments.shared:
        file = directory / "shared.json"
        found["shared"] = scores(directory, file, SHARED / "faces/verify", threads=arguments.threads)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RECIPES, help="these recipes; by default all")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--directory", type=Path, default=ROOT / "runs/recipes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--shared", action="store_true", help="also score the published pairs")
    parser.add_argument("--list", action="store_true", help="print the recipes and end")
    arguments = parser.parse_args()
    if arguments.list:
        print(json.dumps(RECIPES, indent=1))
        return
    arguments.directory = arguments.directory.resolve()
    faces = arguments.directory / "faces"
    if not faces.exists():
        partial = arguments.directory / "faces.partial"
        shutil.rmtree(partial, ignore_errors=True)
        hold_out(SHARED / "faces/train", partial, identities=IDENTITIES, pairs_per_fold=PAIRS_PER_FOLD, seed=SEED)
        partial.rename(faces)
    if not (arguments.directory / "packed/manifest.json").exists():
        packing = ("pack", faces / "train", arguments.directory / "packed", "--overwrite", "--quiet")
        octoscale_command(*packing, threads=arguments.threads)
    start = ROOT / "configs/real_faces.yaml"
    report: dict[str, Any] = {
        "before": scores(start, arguments.directory / "before.json", faces / "select", threads=arguments.threads),
        "recipes": {name: run(name, RECIPES[name], arguments, faces) for name in arguments.only or RECIPES},
    }
    if arguments.shared:
        file = arguments.directory / "before_shared.json"
        report["before_shared"] = scores(start, file, SHARED / "faces/verify", threads=arguments.threads)
    versions = {"octoscale": octoscale.__version__, "torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps({**report, "versions": versions, "machine": describe_machine(torch.device("cpu"))}, indent=1))


if __name__ == "__main__":
    main()
