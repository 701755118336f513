"""The run under a real local Ray cluster: it finishes, and it survives a killed worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.journal import read_journal
from octoscale.train import train
from tests.distributed.ranks import on_ranks

pytest.importorskip("ray")


def start(file: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "octoscale.cli", "launch", str(file), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ray_workers(parent: int) -> list[int]:
    """Processes of training workers that descend from `parent`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::") and b"TrainWorker" in title and parent in ancestors(int(entry.name)):
                found.append(int(entry.name))
    return sorted(found)


def ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        try:
            # The name in brackets may hold spaces; the parent is the second field after it.
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(process)
    return found


def run_on_a_rank(world: World, values: dict[str, Any]) -> None:
    train(parse_config(values, source="of the test"), world, quiet=True)


def test_a_run_goes_on_after_a_worker_is_killed(tmp_path: Path, small_run: Any) -> None:
    steps = 200
    values = small_run(tmp_path / "out", steps=steps, checkpoint={"every_steps": 10})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "2")
    try:
        checkpoints = Checkpoints(str(tmp_path / "out" / "checkpoints"), World(), CheckpointConfig())
        deadline = time.monotonic() + 120
        while not checkpoints.store.exists("commits") or not checkpoints.commits():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "no commit in 120 s"
            time.sleep(0.05)
        workers = ray_workers(process.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        told, _ = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 0, told[-3000:]
    assert "resuming after step" in told
    assert f"finished after step {steps}" in told

    found = read_journal(Store(str(tmp_path / "out")))
    assert [line.step for line in found] == list(range(1, steps + 1))
    on_ranks(2, run_on_a_rank, {**values, "directory": str(tmp_path / "undisturbed")})
    expected = read_journal(Store(str(tmp_path / "undisturbed")))
    assert [line.sample_ids_crc32 for line in found] == [line.sample_ids_crc32 for line in expected]
    # Two ranks add in one order only: the same bits.
    assert [line.result.loss for line in found] == [line.result.loss for line in expected]


def test_what_the_user_can_mend_is_one_message_and_no_retry(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "out", model={"weights": str(tmp_path / "absent.pt")})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "1", "--quiet")
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert told.count("absent.pt") == 1, told
    assert "Traceback" not in told


def test_a_cluster_that_is_not_there_is_named_within_seconds(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out")))
    process = start(file, "--workers", "1", "--address", "127.0.0.1:1")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1, told
    assert "no Ray cluster at 127.0.0.1:1" in told


def test_a_batch_that_the_workers_cannot_share_is_refused_before_ray_starts(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out")))
    process = start(file, "--workers", "3")
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "global_batch_size 16 does not divide into whole pairs on 3 ranks" in told
