"""The files by which Prometheus finds the endpoints."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from octoscale.errors import OctoscaleError
from octoscale.telemetry.targets import registered, targets_of


def targets_in(folder: Path) -> list[str]:
    """As Prometheus reads them."""
    return sorted(
        target
        for path in folder.glob("*.json")
        for entry in json.loads(path.read_text())
        for target in entry["targets"]
    )


def killed_rank(folder: Path, *, rank: int, run: str = "runs/a") -> None:
    """A process that has registered and was killed."""
    child = os.fork()
    if not child:
        with registered(folder, run=run, rank=rank, world_size=9, address=f"dead:{rank}"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert f"dead:{rank}" in targets_in(folder)


def test_each_rank_is_a_target_as_long_as_it_lives(tmp_path: Path) -> None:
    with registered(tmp_path, run="runs/a", rank=0, world_size=2, address="here:1"):
        with registered(tmp_path, run="runs/a", rank=1, world_size=2, address="here:2"):
            assert targets_in(tmp_path) == ["here:1", "here:2"]
        assert targets_in(tmp_path) == ["here:1"]
    assert list(tmp_path.iterdir()) == []


def test_a_target_has_the_labels_of_its_metrics(tmp_path: Path) -> None:
    with registered(tmp_path, run="runs/a", rank=1, world_size=2, address="here:1") as path:
        (entry,) = json.loads(path.read_text())
    assert entry["labels"] == {"run": "runs/a", "rank": "1"}


def test_a_rank_that_ends_by_an_error_stays_a_target_until_the_next_start(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:1"),
    ):
        raise RuntimeError
    assert targets_in(tmp_path) == ["here:1"]
    with registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:2"):
        assert targets_in(tmp_path) == ["here:2"]
    assert targets_in(tmp_path) == []


def test_ctrl_c_is_no_error(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:1"),
    ):
        raise KeyboardInterrupt
    assert targets_in(tmp_path) == []


def test_runs_share_a_folder(tmp_path: Path) -> None:
    with (
        registered(tmp_path, run="s3://bucket/a", rank=0, world_size=1, address="here:1"),
        registered(tmp_path, run="s3://bucket/a/", rank=0, world_size=1, address="here:2"),
    ):
        assert targets_in(tmp_path) == ["here:1", "here:2"]


def test_what_a_killed_process_left_goes_with_the_next_start(tmp_path: Path) -> None:
    killed_rank(tmp_path, rank=2, run="runs/other")
    killed_rank(tmp_path, rank=0)
    with registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:1"):
        assert targets_in(tmp_path) == ["here:1"]


def test_a_smaller_attempt_takes_away_the_ranks_that_are_no_more(tmp_path: Path) -> None:
    with (
        registered(tmp_path, run="runs/a", rank=3, world_size=4, address="here:3"),
        registered(tmp_path, run="runs/a", rank=0, world_size=2, address="here:1"),
    ):
        assert targets_in(tmp_path) == ["here:1"]


def test_an_attempt_that_ends_late_leaves_its_successors_target(tmp_path: Path) -> None:
    first = registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:1")
    first.__enter__()
    with registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:2"):
        first.__exit__(None, None, None)
        assert targets_in(tmp_path) == ["here:2"]


def test_old_halves_of_files_go_and_new_ones_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "x.1.partial", tmp_path / "x.2.partial"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (time.time() - 3600,) * 2)
    with registered(tmp_path, run="runs/a", rank=0, world_size=1, address="here:1"):
        assert not old.exists()
        assert new.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OctoscaleError, match=r"targets of Prometheus to .*file/targets: Not a directory; set telemetry"),
        registered(tmp_path / "file" / "targets", run="a", rank=0, world_size=1, address="here:1"),
    ):
        pass


def test_the_ranks_of_one_run_are_found_among_others(tmp_path: Path) -> None:
    with (
        registered(tmp_path, run="runs/a", rank=1, world_size=2, address="here:2"),
        registered(tmp_path, run="runs/a", rank=0, world_size=2, address="here:1"),
        registered(tmp_path, run="runs/b", rank=0, world_size=1, address="there:1"),
    ):
        (tmp_path / "mine.json").write_text("{}")
        (path,) = tmp_path.glob("runs-a-*-00001.json")
        path.with_name(path.name.replace("00001", "00002")).write_text("[half")

        assert targets_of(tmp_path, run="runs/a") == {0: "here:1", 1: "here:2"}
    assert targets_of(tmp_path / "absent", run="runs/a") == {}
