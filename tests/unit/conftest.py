"""Fixtures of unit tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from octoscale.data.index import Index
from octoscale.data.loader import Batch
from octoscale.data.reader import ImageReader
from tests.conftest import SmallRun


@pytest.fixture
def write(tmp_path: Path, small_run: SmallRun) -> Any:
    """Write the configuration of a small run in ``tmp_path/run``; its file."""

    def file(**changes: Any) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(small_run(tmp_path / "run", **changes)))
        return path

    return file


@pytest.fixture
def batch(packed_faces: Path) -> Batch:
    """Four identities with two images each."""
    index = Index.load(packed_faces)
    sample_ids = np.array([0, 1, 4, 6, 9, 11, 20, 22])
    high = ImageReader(index, packed_faces).__getitems__(sample_ids)
    return Batch(high, torch.from_numpy(index.identity_of(sample_ids)), torch.from_numpy(sample_ids))
