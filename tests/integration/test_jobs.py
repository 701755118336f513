"""Runs submitted to a real Ray cluster of several nodes, with its job server and token."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.journal import read_journal
from tests.integration.ray_cluster import RayCluster, descendants, ray_cluster, title

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """A head without CPUs and two nodes with one each."""
    with ray_cluster([1, 1]) as started:
        yield started


def ended(process: "subprocess.Popen[str]", timeout: float = 200) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def write(folder: Path, values: dict[str, Any]) -> Path:
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def listed(cluster: RayCluster) -> list[dict[str, Any]]:
    code, out, err = ended(cluster.octoscale("jobs", "list", "--json"))
    assert code == 0, err
    jobs: list[dict[str, Any]] = json.loads(out)["jobs"]
    return jobs


def steps(directory: Path) -> list[int]:
    return [line.step for line in read_journal(Store(str(directory)))]


def wait_for_a_commit(following: "subprocess.Popen[str]", directory: Path) -> None:
    deadline = time.monotonic() + 300
    while not list((directory / "checkpoints/commits").glob("*.json")):
        assert following.poll() is None, following.communicate()
        assert time.monotonic() < deadline, "no commit in 300 s"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_lacks_its_secret_ends_at_once_and_a_stranger_is_refused(tmp_path: Path, small_run: Any) -> None:
    file = write(tmp_path, small_run(tmp_path / "out"))
    with ray_cluster([]) as head:
        stranger = head.octoscale("jobs", "list", RAY_AUTH_TOKEN="f" * 32)
        submitting = head.octoscale("submit", file, "--secret", "NOT_ON_THE_CLUSTER")
        code, _, err = ended(stranger)
        assert (code, "refuses this user" in err, "Traceback" in err) == (1, True, False), err

        code, out, err = ended(submitting)
        assert code not in (0, 1), err
        assert "NOT_ON_THE_CLUSTER: is not in the cluster's environment" in out
        assert f"FAILED, exit code {code}" in err
        assert "f" * 32 not in out + err
        assert head.environment["RAY_AUTH_TOKEN"] not in out + err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_submitted_run_trains_on_two_nodes_as_it_was_shown(
    cluster: RayCluster, tmp_path: Path, small_run: Any
) -> None:
    file = write(tmp_path, small_run(tmp_path / "out"))
    options = ["--workers", "2", "--env", "OCTOSCALE_TEST=1"]
    code, shown, err = ended(cluster.octoscale("submit", file, *options, "--dry-run"))
    assert code == 0, err
    assert listed(cluster) == []

    code, out, err = ended(cluster.octoscale("submit", file, *options))

    assert code == 0, out + err
    assert "finished after step 4" in out
    assert steps(tmp_path / "out") == [1, 2, 3, 4]
    request = json.loads(shown)["request"]
    assert f"submitted {request['submission_id']}" in err
    assert f"{request['submission_id']}: SUCCEEDED, exit code 0" in err
    (job,) = listed(cluster)
    assert (job["id"], job["status"], job["exit_code"], job["attempt"]) == (request["submission_id"], "SUCCEEDED", 0, 1)

    # By the run's name, after it has ended.
    code, out, _ = ended(cluster.octoscale("jobs", "logs", job["run"]))
    assert (code, "finished after step 4" in out) == (0, True)
    code, _, err = ended(cluster.octoscale("jobs", "stop", job["id"]))
    assert (code, "has ended: SUCCEEDED" in err) == (1, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_that_fails_ends_the_command_with_its_code_and_message(
    cluster: RayCluster, tmp_path: Path, small_run: Any
) -> None:
    file = write(tmp_path, small_run(tmp_path / "out", data={"url": str(tmp_path / "absent")}))

    code, out, err = ended(cluster.octoscale("submit", file, "--max-resubmissions", "3"))

    assert code == 1, out + err
    assert f"error: {tmp_path / 'absent'} is not a packed data set" in out
    # It would fail again.
    assert err.count("submitted ") == 1
    code, out, _ = ended(cluster.octoscale("jobs", "status", "out"))
    assert code == 1


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ctrl_c_leaves_the_job_and_stop_ends_it(cluster: RayCluster, tmp_path: Path, small_run: Any) -> None:
    file = write(tmp_path, small_run(tmp_path / "long", steps=1_000_000, checkpoint={"every_steps": 20}))
    following = cluster.octoscale("submit", file, "--workers", "2")
    try:
        wait_for_a_commit(following, tmp_path / "long")
        following.send_signal(signal.SIGINT)
        # A question to a busy server that is under way ends first.
        code, _, err = ended(following, 90)
    finally:
        following.kill()
    assert code == 130, err
    assert "Traceback" not in err
    (job,) = [job for job in listed(cluster) if job["directory"] == str(tmp_path / "long")]
    assert job["status"] == "RUNNING"
    assert f"octoscale jobs stop {job['run']} --address {cluster.job_server}" in err

    code, _, err = ended(cluster.octoscale("submit", file, "--workers", "2"))
    assert (code, "writes to the same directory" in err) == (1, True), err

    code, out, err = ended(cluster.octoscale("jobs", "stop", job["run"]))
    assert (code, out) == (0, f"{job['id']}: STOPPED\n"), err
    # It has ended in good order: the step it was at is committed.
    code, out, _ = ended(cluster.octoscale("jobs", "logs", job["id"]))
    assert "the run was asked to end: committing" in out
    checkpoints = Checkpoints(str(tmp_path / "long" / "checkpoints"), World(), CheckpointConfig())
    newest = checkpoints.commits()[-1]
    assert newest.last
    assert steps(tmp_path / "long")[-1] == newest.step
    deadline = time.monotonic() + 30
    while left := [it for it in descendants_of(cluster) if "TrainWorker" in title(it) or "octoscale.cli" in title(it)]:
        assert time.monotonic() < deadline, [title(it) for it in left]
        time.sleep(0.2)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_run_whose_driver_is_killed_is_submitted_again_and_goes_on(
    cluster: RayCluster, tmp_path: Path, small_run: Any
) -> None:
    file = write(tmp_path, small_run(tmp_path / "again", steps=400, checkpoint={"every_steps": 20}))
    following = cluster.octoscale("submit", file, "--workers", "2", "--max-resubmissions", "1")
    try:
        wait_for_a_commit(following, tmp_path / "again")
        (driver,) = [it for it in descendants_of(cluster) if "octoscale.cli launch" in title(it)]
        os.kill(driver, signal.SIGKILL)
        code, out, err = ended(following)
    finally:
        following.kill()

    assert code == 0, out + err
    assert err.count("submitted ") == 2
    assert "resuming after step" in out
    assert steps(tmp_path / "again") == list(range(1, 401))
    attempts = [job for job in listed(cluster) if job["directory"] == str(tmp_path / "again")]
    assert [(job["attempt"], job["status"]) for job in attempts] == [(2, "SUCCEEDED"), (1, "FAILED")]


def descendants_of(cluster: RayCluster) -> list[int]:
    return [child for process in cluster.processes for child in descendants(process)]
