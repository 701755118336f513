"""Runs to report on: made up, and a real one."""

from pathlib import Path
from typing import Any

import pytest

from octoscale.config import parse_config
from octoscale.distributed.world import World
from octoscale.train import train
from tests.conftest import small_run_values


@pytest.fixture(scope="session")
def trained_run(packed_faces: Path, drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a small run of 4 steps, committed and evaluated at 0, 2 and 4. Not to be changed."""
    verify = drawn_faces / "verify"
    directory = tmp_path_factory.mktemp("runs") / "trained"
    changes: dict[str, Any] = {
        "evaluate": {
            "pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 14, 32], "every_steps": 2,
        },
        "checkpoint": {"keep_last": 9},
    }  # fmt: skip
    values = small_run_values(packed_faces, directory, **changes)
    train(parse_config(values, source="of the test"), World(), quiet=True)
    return directory
