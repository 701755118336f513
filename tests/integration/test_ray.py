"""The run under a real local Ray cluster: it finishes, and it survives a killed worker."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.config import parse_config
from octoscale.data.index import Index
from octoscale.data.plan import epoch_plan, rank_rows
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import EXIT_INTERRUPTED
from octoscale.journal import read_journal
from octoscale.train import train
from tests.distributed.ranks import on_ranks

pytest.importorskip("ray")


def start(file: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "octoscale.cli", "launch", str(file), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_a_commit(process: "subprocess.Popen[str]", directory: Path) -> None:
    checkpoints = Checkpoints(str(directory / "checkpoints"), World(), CheckpointConfig())
    deadline = time.monotonic() + 120
    while not checkpoints.store.exists("commits") or not checkpoints.commits():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no commit in 120 s"
        time.sleep(0.05)


def ray_workers(parent: int) -> list[int]:
    """Processes of training workers that descend from `parent`."""
    return [process for process in descendants(parent) if "TrainWorker" in title(process)]


def descendants(parent: int) -> list[int]:
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(process for process in processes if parent in ancestors(process))


def title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:  # it has ended since
        return ""


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


@pytest.mark.soak
def test_a_run_goes_on_after_a_worker_is_killed(tmp_path: Path, small_run: Any) -> None:
    steps = 200
    values = small_run(tmp_path / "out", steps=steps, checkpoint={"every_steps": 10})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "2")
    try:
        wait_for_a_commit(process, tmp_path / "out")
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_launch_that_is_asked_to_end_commits_its_step_first(tmp_path: Path, small_run: Any) -> None:
    never = {"every_steps": 1_000_000}
    values = small_run(tmp_path / "out", steps=1_000_000, checkpoint=never, telemetry={"log_every_steps": 1})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "2")
    assert process.stdout is not None
    told = []
    try:
        for line in process.stdout:
            told.append(line)
            if "step 5 " in line:
                break
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == EXIT_INTERRUPTED, "".join(told)[-2000:] + rest[-3000:]
    assert "the run was asked to end: committing" in rest
    assert "Traceback" not in rest
    (commit,) = Checkpoints(str(tmp_path / "out" / "checkpoints"), World(), CheckpointConfig()).commits()
    assert read_journal(Store(str(tmp_path / "out")))[-1].step == commit.step >= 5


def test_a_cluster_that_is_not_there_is_named_within_seconds(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out")))
    process = start(file, "--workers", "1", "--address", "127.0.0.1:1")
    told, _ = process.communicate(timeout=150)
    assert process.returncode == 1, told
    assert "no Ray cluster at 127.0.0.1:1" in told


def test_a_batch_that_the_workers_cannot_share_is_refused_before_ray_starts(tmp_path: Path, small_run: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out")))
    process = start(file, "--workers", "3")
    told, _ = process.communicate(timeout=150)
    assert process.returncode == 1
    assert "global_batch_size 16 does not divide into whole pairs on 3 ranks" in told


def damage_a_person_of_rank_1(packed: Path, values: dict[str, Any]) -> None:
    index = Index.load(packed)
    plan = epoch_plan(
        index.images_per_identity, global_batch_size=values["global_batch_size"], seed=values["seed"], epoch=0
    )
    identity = int(index.identity_of(rank_rows(plan, 1, 2)[0, 0]))
    for sample_id in range(*index.identity_offsets[identity : identity + 2].tolist()):
        shard = packed / index.manifest.shards[index.shard_ids[sample_id]].name
        content = bytearray(shard.read_bytes())
        content[int(index.offsets[sample_id]) + int(index.sizes[sample_id]) // 2] ^= 0xFF
        shard.write_bytes(content)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_data_on_one_rank_ends_the_run_at_once_with_its_message(
    tmp_path: Path, packed_faces: Path, small_run: Any
) -> None:
    packed = tmp_path / "packed"
    shutil.copytree(packed_faces, packed)
    values = small_run(tmp_path / "out", data={"url": str(packed)})
    damage_a_person_of_rank_1(packed, values)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "2")
    told, _ = process.communicate(timeout=250)
    assert process.returncode == 1, told
    assert told.count("no image of identity") == 1, told
    assert told.count("its bytes are not those that were packed") == 1, told
    # One attempt, of which nobody shows the inside.
    assert told.count("rank 0  batch     16 images") == 1, told
    assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_ends_the_run_and_its_cluster(tmp_path: Path, small_run: Any) -> None:
    values = small_run(tmp_path / "out", steps=1_000_000, checkpoint={"every_steps": 5})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "1")
    try:
        wait_for_a_commit(process, tmp_path / "out")
        started = descendants(process.pid)
        assert any("raylet" in title(child) for child in started)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode != 0, told
    assert "Traceback" not in told
    # A worker that is just ending may outlive its raylet by a moment.
    deadline = time.monotonic() + 60
    while left := [child for child in started if title(child)]:
        assert time.monotonic() < deadline, [title(child) for child in left]
        time.sleep(0.1)


@pytest.mark.soak
def test_the_workers_of_a_node_compute_each_plan_once(
    tmp_path: Path, small_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "trace.jsonl").touch()
    (tmp_path / "fault.json").write_text('{"rank": 0, "step": 0, "kind": "none"}')
    injected = Path(__file__).parent / "faults" / "injected"
    monkeypatch.setenv("OCTOSCALE_LAB", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{injected}:{Path(__file__).parents[2]}")
    values = small_run(tmp_path / "out", steps=None, epochs=3, data={"cache_dir": str(tmp_path / "cache")})
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    process = start(file, "--workers", "2")
    told, _ = process.communicate(timeout=180)
    assert process.returncode == 0, told
    computed = sorted(path.name.split("-")[0] for path in (tmp_path / "plans").iterdir())
    assert computed[:3] == ["0", "1", "2"]
    assert len(computed) == len(set(computed)), computed


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of one CPU that somebody else started; its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    ray = str(Path(sys.executable).with_name("ray"))
    # Sockets' paths are short: the temporary folders of tests are too deep for them.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [ray, "start", "--head", "--block", "--num-cpus=1", f"--port={port}",
               "--node-ip-address=127.0.0.1", "--include-dashboard=false",
                   "--disable-usage-stats", f"--temp-dir={folder}"]  # fmt: skip
        with (tmp_path / "cluster.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while "runtime started" not in (told := (tmp_path / "cluster.log").read_text()):
                assert process.poll() is None, told
                assert time.monotonic() < deadline, told
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            started = descendants(process.pid)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            for left in started:
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            process.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_existing_cluster_trains_what_fits_and_refuses_what_does_not(
    tmp_path: Path, small_run: Any, cluster: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out")))

    process = start(file, "--workers", "2", "--address", cluster)
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 1, told
    assert "the cluster has 1 CPUs for 2 workers; ask for fewer workers" in told

    process = start(file, "--workers", "1", "--address", cluster)
    told, _ = process.communicate(timeout=180)
    assert process.returncode == 0, told
    assert [line.step for line in read_journal(Store(str(tmp_path / "out")))] == [1, 2, 3, 4]


@pytest.mark.soak
def test_nodes_that_are_yet_to_start_are_waited_for(tmp_path: Path, small_run: Any, cluster: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(small_run(tmp_path / "out", resilience={"node_wait_seconds": 120})))
    process = start(file, "--workers", "2", "--address", cluster)
    assert process.stdout is not None
    line = next(line for line in process.stdout if "for 2 workers" in line)
    assert "waiting up to 120 s for nodes" in line

    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", f"--address={cluster}", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1",
               "--disable-usage-stats"]  # fmt: skip
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told, _ = process.communicate(timeout=180)
    finally:
        started = descendants(node.pid)
        node.terminate()
        node.wait(20)
        for left in started:
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.kill()
    assert process.returncode == 0, told[-3000:]
    assert "= 2 ranks" in told
