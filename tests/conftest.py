"""Fixtures shared by all tests."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

import octoscale.cli
from octoscale.data.importers.synthetic import write_synthetic_faces
from octoscale.data.pack import pack
from tests.unit.commands import Answer, Octoscale

# Test processes, and the ranks that they start, share few cores, and OpenMP threads that wait for one another spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


class SmallRun(Protocol):
    """Makes the values of a small run's configuration."""

    def __call__(self, directory: Path | str, **changes: Any) -> dict[str, Any]:
        """The run in `directory`; a block among `changes` is merged into the base's block."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces and a real network beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "faces").is_dir():
        pytest.skip(f"no real faces at {folder}")
    return folder


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces, 32 px: ``train/`` of 24 identities with 4 images, ``verify/`` of 20 others with ``pairs.txt``."""
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    write_synthetic_faces(
        folder, identities=24, images_per_identity=4, verify_identities=20, verify_images_per_identity=3,
        verify_pairs=4, image_size=32,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def packed_faces(drawn_faces: Path) -> Path:
    """The packed ``train/`` of `drawn_faces`: 96 images, 32 px. Not to be changed."""
    packed = drawn_faces.with_name("packed")
    pack(str(drawn_faces / "train"), str(packed))
    return packed


def small_run_values(packed: Path, directory: Path | str, **changes: Any) -> dict[str, Any]:
    """A run's configuration on the data set `packed`; blocks of `changes` are merged into its own."""
    base: dict[str, Any] = {
        "directory": str(directory),
        "seed": 7,
        "global_batch_size": 16,
        "steps": None if changes.get("epochs") else 4,
        "data": {"url": str(packed)},
        "model": {"name": "tiny", "embedding_dim": 16},
        "degrade": {"resolutions": [7, 14]},
        "loss": {"margin": 1.0},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "schedule": {"name": "constant"},
        "telemetry": {"recorders": []},
    }
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = {**base[key], **value} if merge else value
    return base


@pytest.fixture
def small_run(packed_faces: Path) -> SmallRun:
    """Four steps of the tiny network on `packed_faces`, 16 images each; no evaluation."""

    def values(directory: Path | str, **changes: Any) -> dict[str, Any]:
        return small_run_values(packed_faces, directory, **changes)

    return values


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
def without_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if s3fs were not installed, even where an earlier test has used it."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # fsspec keeps the class of every scheme that was ever opened. (Not `import fsspec.registry`: the package has
    # a mapping of that name.)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command sets the log up for its process: not for the next test, whose `caplog` listens at the root."""
    logger = logging.getLogger("octoscale")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])
