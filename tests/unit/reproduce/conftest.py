"""A configuration to reproduce with, and cells as their runs would leave them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from octoscale.config import Config, parse_config
from octoscale.data.storage import Store
from octoscale.evaluate.evaluation import Evaluation, Score
from octoscale.reproduce.cells import Cell

RESOLUTIONS = (7, 14, 112)


def base_values(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "directory": "unused",
        "global_batch_size": 64,
        "steps": 100,
        "data": {"url": "packed"},
        "model": {"name": "tiny"},
        "evaluate": {"pairs": "pairs.txt", "images": "images", "resolutions": RESOLUTIONS},
    }
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if merge else value
    return values


def base_config(**changes: Any) -> Config:
    return parse_config(base_values(**changes), source="of the test")


def made_up(step: int, mean: float, name: str = "") -> Evaluation:
    """Accuracies around `mean`, ascending with the resolution, the same in both modes."""
    scores = {}
    for mode in ("cross", "same"):
        for number, resolution in enumerate(RESOLUTIONS):
            accuracy = mean + 0.05 * (number - 1)
            # A ROC through (EER, 1 - EER).
            curve = ((0.0, 0.2 * accuracy), (1 - accuracy, accuracy), (1.0, 1.0))
            scores[mode, resolution] = Score(accuracy, 0.01, 1 - accuracy, accuracy, {0.1: accuracy}, curve)
    return Evaluation(name, step, 300, 300, 20.0, scores)  # type: ignore[arg-type]


class Finish(Protocol):
    def __call__(self, cell: Cell, mean: float, *, before: float = 0.6, benchmarks: Mapping[str, float] = {}) -> None:
        """Leave what the cell's finished run would: accuracies around `mean` after it, `before` before."""


@pytest.fixture
def finish() -> Finish:
    """Writes a finished run's files into the cell's directory."""

    def write(cell: Cell, mean: float, *, before: float = 0.6, benchmarks: Mapping[str, float] = {}) -> None:
        store = Store(cell.config.directory)
        last = cell.config.steps or 6
        store.write("config.yaml", cell.config.to_yaml().encode())
        for step, accuracy in ((0, before), (last, mean)):
            store.write(f"evaluations/{step:08d}.json", made_up(step, accuracy).to_json().encode())
            for name, other in benchmarks.items():
                if step or cell.before:
                    value = other if step else other - 0.1
                    text = made_up(step, value, name).to_json()
                    store.write(f"benchmarks/{name}/{step:08d}.json", text.encode())
        store.write("weights.pt", b"weights")

    return write


@pytest.fixture
def sweep_folder(tmp_path: Path) -> str:
    return str(tmp_path / "sweep")
