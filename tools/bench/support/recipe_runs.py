"""Trainings of configs/real_faces.yaml without 300 of its identities, scored on these and on the published pairs."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import octoscale
from octoscale.data.storage import Store
from octoscale.evaluate.evaluation import Evaluation
from octoscale.journal import read_journal
from octoscale.measured import StepLine
from support.measure import describe_machine
from support.selection import hold_out

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared/data"
CONFIG = ROOT / "configs/real_faces.yaml"
IDENTITIES, PAIRS_PER_FOLD, SEED = 300, 90, 0


@dataclass(frozen=True)
class Bench:
    """A directory of runs, and the faces they share; what is there is not made again."""

    directory: Path
    parallel: int  # runs at a time, which share the cores

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Bench":
        """As `add_bench_arguments` has it."""
        return cls(arguments.directory.resolve(), arguments.parallel)

    def prepare(self) -> None:
        """Hold the identities out, and pack the others."""
        if not self._faces.exists():
            partial = self.directory / "faces.partial"
            shutil.rmtree(partial, ignore_errors=True)
            hold_out(SHARED / "faces/train", partial, identities=IDENTITIES, pairs_per_fold=PAIRS_PER_FOLD, seed=SEED)
            partial.rename(self._faces)
        if not (self._packed / "manifest.json").exists():
            self._octoscale("pack", self._faces / "train", self._packed, "--overwrite", "--quiet")

    def before(self, *, shared: bool) -> dict[str, Any]:
        """The network before any training."""
        return self._scored(CONFIG, self.directory / "before", shared=shared)

    def run_all(self, runs: Mapping[str, Sequence[str]], *, shared: bool) -> dict[str, dict[str, Any]]:
        """Train with each run's overrides, or go on with that, and score the networks; accuracies in %, by run."""
        with ThreadPoolExecutor(self.parallel) as pool:
            scored = pool.map(lambda run: self._run(*run, shared=shared), runs.items())
            return dict(zip(runs, scored, strict=True))

    def _run(self, name: str, overrides: Sequence[str], *, shared: bool) -> dict[str, Any]:
        # A recipe that was changed is another run.
        digest = hashlib.sha256(json.dumps(list(overrides)).encode()).hexdigest()[:8]
        directory = self.directory / f"{name}-{digest}"
        settings = (f"data.url={self._packed}", f"directory={directory}", "evaluate=null", *overrides)
        if not (directory / "weights.pt").exists():
            self._octoscale("train", CONFIG, *settings, "--quiet")
        steps = read_journal(Store(str(directory)))
        return {
            "overrides": list(overrides),
            "steps": len(steps),
            "train_seconds": round(sum(line.step_seconds + line.data_wait_seconds for line in steps)),
            "loss": [round(line.result.loss, 3) for line in _few(steps)],
            "embedding_norm": [round(line.result.embedding_norm, 2) for line in _few(steps)],
            **self._scored(directory, directory / "scores", shared=shared),
        }

    @property
    def _faces(self) -> Path:
        return self.directory / "faces"

    @property
    def _packed(self) -> Path:
        return self.directory / "packed"

    def _scored(self, target: Path, files: Path, *, shared: bool) -> dict[str, Any]:
        """Cross-resolution accuracies; the evaluations are kept in the folder `files`."""
        files.mkdir(exist_ok=True)
        held_out = self._faces / "select"
        found = {"held_out": self._scores(target, files / "held_out.json", held_out / "pairs.txt", held_out)}
        if shared:
            faces = SHARED / "faces"
            found["shared"] = self._scores(target, files / "shared.json", faces / "pairs.txt", faces / "verify")
        return found

    def _scores(self, target: Path, file: Path, pairs: Path, images: Path) -> dict[str, Any]:
        if not file.exists():
            where = ("--pairs", pairs, "--images", images)
            self._octoscale("evaluate", target, *where, "--scores", file, "--quiet")
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

    def _octoscale(self, *arguments: str | Path) -> None:
        """Runs it, and shows what it says on stderr; its failure ends the measurement."""
        threads = max(1, (os.cpu_count() or 1) // self.parallel)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "octoscale.cli", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment, cwd=ROOT)


def add_bench_arguments(parser: argparse.ArgumentParser, directory: str) -> None:
    """What every measurement of this kind is told."""
    parser.add_argument("--directory", type=Path, default=ROOT / "runs" / directory)
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time, which share the cores")


def printed(report: dict[str, Any]) -> str:
    """The report as JSON, with the versions and the machine."""
    versions = {"octoscale": octoscale.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return json.dumps({**report, "versions": versions, "machine": describe_machine(torch.device("cpu"))}, indent=1)


def _few(lines: Sequence[StepLine]) -> Sequence[StepLine]:
    """About ten of them, from the first on."""
    return lines[:: max(1, len(lines) // 10)]
