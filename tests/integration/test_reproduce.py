"""The paper's sweeps as a user runs them: stopped, killed, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import EXIT_INTERRUPTED
from octoscale.journal import read_journal
from tests.conftest import SmallRun
from tests.integration.ray_cluster import ray_cluster

# Some seconds on a quick machine: a run is stopped or killed after its second step, as soon as that is seen.
STEPS = 300


@pytest.fixture
def config(small_run: SmallRun, tmp_path: Path, drawn_faces: Path) -> Path:
    """Enough steps to be stopped among them."""
    verify = drawn_faces / "verify"
    evaluate = {"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7, 32], "modes": ["cross"]}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(small_run("unused", steps=STEPS, evaluate=evaluate, checkpoint={"every_steps": 2})))
    return path


def begin(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "octoscale.cli", "reproduce", *map(str, arguments), "--json"]
    # In the background of a shell Ctrl-C is ignored, and would be by what starts there.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, events and stderr."""
    try:
        out, err = process.communicate(timeout=250)
    finally:
        process.kill()
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def wait_for_a_commit(process: "subprocess.Popen[str]", run: Path) -> None:
    deadline = time.monotonic() + 240
    while not list((run / "checkpoints/commits").glob("*.json")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(f"no commit: {process.communicate()}")
        time.sleep(0.05)


def ends_of_cells(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["name"], event["status"]) for event in events if event["event"] == "cell"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_that_was_stopped_goes_on_and_one_that_fails_stops_no_other(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    # 24 identities: a batch of 64 cannot be made.
    command = ["figure4", config, "--margin", "1", "--batch-size", "16", "--batch-size", "64", "--directory", folder]
    run = folder / "margin-1-batch-16"
    first = begin(*command)
    wait_for_a_commit(first, run)

    # As a terminal sends Ctrl-C: to all processes of the command's group that are not of a session of their own.
    os.kill(first.pid, signal.SIGINT)
    code, events, err = ended(first)

    assert code == EXIT_INTERRUPTED, err
    assert ends_of_cells(events) == [("margin-1-batch-16", "running"), ("margin-1-batch-16", "stopped")]
    assert "not finished: margin-1-batch-16, margin-1-batch-64; the same command goes on" in err
    assert not list(folder.glob("figure4*"))
    steps = [line.step for line in read_journal(Store(str(run)))]
    assert 0 < len(steps) < STEPS

    code, events, err = ended(begin(*command))

    assert code == 1, err
    assert ends_of_cells(events) == [
        ("margin-1-batch-16", "running"), ("margin-1-batch-16", "finished"),
        ("margin-1-batch-64", "running"), ("margin-1-batch-64", "failed"),
    ]  # fmt: skip
    assert "needs 32 identities" in events[-1]["errors"]["margin-1-batch-64"]
    # It went on: no step was lost or made again.
    assert [line.step for line in read_journal(Store(str(run)))] == list(range(1, STEPS + 1))
    assert (folder / "figure4.png").exists()
    assert ",batch of 64,failed," in (folder / "figure4.csv").read_text()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_run_that_was_killed_is_gone_on_with_and_benchmarks_are_evaluated(config: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(config.read_text())
    pairs = {key: values["evaluate"][key] for key in ("pairs", "images")}
    values["evaluate"]["benchmarks"] = {"calfw": {"protocol": "lfw", **pairs}}
    config.write_text(yaml.safe_dump(values))
    folder = tmp_path / "sweep"
    first = begin("figure3", config, "--directory", folder)
    wait_for_a_commit(first, folder / "octuplet")
    (training,) = children_of(first.pid)
    os.kill(training, signal.SIGKILL)
    code, events, err = ended(first)
    assert (code, ends_of_cells(events)[-1]) == (1, ("octuplet", "failed")), err

    code, events, err = ended(begin("figure3", config, "--directory", folder))

    assert code == 0, err
    assert [line.step for line in read_journal(Store(str(folder / "octuplet")))] == list(range(1, STEPS + 1))
    assert sorted(path.name for path in (folder / "octuplet/benchmarks/calfw").iterdir()) == [
        "00000000.json", f"{STEPS:08d}.json",
    ]  # fmt: skip
    rows = (folder / "figure3.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["row", "lfw", "calfw"]
    # The same pairs under two names.
    assert rows[1].split(",")[3:] == rows[2].split(",")[3:]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_cells_are_jobs_of_a_cluster(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    folder = tmp_path / "sweep"
    with ray_cluster([1]) as cluster:
        command = ["reproduce", "figure4", config, "steps=6", "--margin", "1", "--margin", "5", "--batch-size", "16",
                   "--directory", folder, "--json"]  # fmt: skip
        code, events, err = ended(cluster.octoscale(*command))

        assert code == 0, err
        assert [status for _, status in ends_of_cells(events)] == ["running", "finished"] * 2
        jobs = json.loads(cluster.octoscale("jobs", "list", "--json").communicate(timeout=60)[0])["jobs"]
        assert sorted((job["directory"], job["status"]) for job in jobs) == [
            (f"{folder}/margin-1-batch-16", "SUCCEEDED"), (f"{folder}/margin-5-batch-16", "SUCCEEDED"),
        ]  # fmt: skip
        # Here or there: a run is a run.
        code, events, err = ended(cluster.octoscale(*command))
        assert (code, ends_of_cells(events)) == (0, []), err
    assert (folder / "figure4.png").exists()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_endpoint_in_the_configuration_alone_is_enough(
    config: Path, s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    storage = StorageConfig(endpoint_url=s3_server)
    values = yaml.safe_load(config.read_text())
    pairs = {key: values["evaluate"][key] for key in ("pairs", "images")}
    values["evaluate"]["benchmarks"] = {"calfw": {"protocol": "lfw", **pairs}}
    config.write_text(yaml.safe_dump({**values, "storage": storage.model_dump(mode="json"), "steps": 4}))

    code, _, err = ended(begin("figure3", config, "--directory", f"{s3_url}/sweep"))

    assert code == 0, err
    store = Store(f"{s3_url}/sweep", storage)
    assert store.list("octuplet/benchmarks") == [f"octuplet/benchmarks/calfw/{step:08d}.json" for step in (0, 4)]
    assert store.exists("figure3.png")


def children_of(process: int) -> list[int]:
    """Of whichever of its threads."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
