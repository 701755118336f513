"""Fixtures of unit tests."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import octoscale.cli
from octoscale.data.index import Index
from octoscale.data.loader import Batch
from octoscale.data.reader import ImageReader
from tests.conftest import SmallRun
from tests.unit.commands import Answer, Octoscale


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Octoscale:
    """Runs the command line with these arguments."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["octoscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            octoscale.cli.main()
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run


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
