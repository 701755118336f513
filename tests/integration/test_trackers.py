"""Weights & Biases and MLflow themselves: what they are told, over two attempts, and a server that is dead."""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from octoscale.telemetry import export, trackers
from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.export import exported

SETTINGS = {"seed": 7, "loss": {"margin": 1.0, "terms": ["hhh", "lll"]}}


def record(folder: Path, recorder: str, steps: Sequence[int], *, accuracy: float | None = None) -> None:
    """One attempt that records these steps, and an evaluation after them."""
    config = TelemetryConfig.model_validate({"recorders": [recorder]})
    run = str(folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        # The import of a package and the start of its services may take a busy machine longer than a run would wait.
        for name in ("mlflow_tracker", "wandb_tracker"):
            patch.setattr(export, name, partial(getattr(trackers, name), timeout_seconds=120.0))
        with exported(config, run=run, run_folder=folder, rank=0, world_size=1, settings=SETTINGS) as metrics:
            for step in steps:
                metrics.set("octoscale_loss", step / 2, term="hhh")
                metrics.end_step(step)
            if accuracy is not None:
                metrics.set("octoscale_evaluation_accuracy_ratio", accuracy, mode="cross", resolution="7")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """An HTTP server that takes every connection and never answers; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


# MLflow.


def mlflow_run(uri: str) -> tuple[Any, Any]:
    """The client and the only run there."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("octoscale")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


@pytest.mark.parametrize("store", ["file", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_mlflow_has_one_run_over_two_attempts(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/telemetry/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if store == "file":
        uri = (tmp_path / "mlruns").as_uri()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    else:
        # Its default; MLflow makes its tables in some seconds.
        pytest.importorskip("sqlalchemy")
    record(tmp_path, "mlflow", [1, 2, 3])
    # From the commit after step 2 on.
    record(tmp_path, "mlflow", [3, 4], accuracy=0.75)

    client, run = mlflow_run(uri)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "7", "loss.margin": "1.0", "loss.terms": "['hhh', 'lll']"}
    history = client.get_metric_history(run.info.run_id, "octoscale_loss/hhh")
    assert sorted((it.step, it.value) for it in history) == [(1, 0.5), (2, 1.0), (3, 1.5), (3, 1.5), (4, 2.0)]
    (final,) = client.get_metric_history(run.info.run_id, "octoscale_evaluation_accuracy_ratio/cross/7")
    assert (final.step, final.value) == (4, 0.75)


# Weights & Biases.


def wandb_records(folder: Path) -> list[Any]:
    """Of all attempts, in order, as they are kept where there is no server."""
    from wandb.proto.wandb_internal_pb2 import Record

    records = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime):
        # After the file's own header, as long as it is one block: checksum, length, kind and bytes of each record.
        data, at = path.read_bytes(), 7
        assert len(data) < 32768
        while at < len(data):
            (size,) = struct.unpack_from("<H", data, at + 4)
            records.append(Record.FromString(data[at + 7 : at + 7 + size]))
            at += 7 + size
    return records


def test_wandb_has_one_run_over_two_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    try:
        record(tmp_path, "wandb", [1, 2, 3])
        # From the commit after step 2 on.
        record(tmp_path, "wandb", [3, 4], accuracy=0.75)
    finally:
        wandb.teardown()

    records = wandb_records(tmp_path / "telemetry")
    runs = [it.run for it in records if it.WhichOneof("record_type") == "run"]
    assert {it.run_id for it in runs} == {(tmp_path / "telemetry/tracker_id").read_text()}
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert (config["seed"], config["loss"]) == (7, SETTINGS["loss"])
    lines = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in it.history.item}
        for it in records
        if it.WhichOneof("record_type") == "history"
    ]
    told = [(line["step"], line["octoscale_loss/hhh"]) for line in lines if "octoscale_loss/hhh" in line]
    assert told == [(1, 0.5), (2, 1.0), (3, 1.5), (3, 1.5), (4, 2.0)]
    assert [line["step"] for line in lines if "octoscale_evaluation_accuracy_ratio/cross/7" in line] == [4]


# A server that is dead.

ATTEMPT = """
import sys, time
from pathlib import Path
from octoscale.telemetry import trackers

started = time.monotonic()
tracker = getattr(trackers, f"{sys.argv[1]}_tracker")(Path(sys.argv[2]), run="run", settings={}, timeout_seconds=1.0)
slowest = 0.0
for step in range(20):
    before = time.perf_counter()
    tracker.record(step, {"octoscale_loss/hhh": 1.0})
    slowest = max(slowest, time.perf_counter() - before)
recorded = time.monotonic()
tracker.close()
print(slowest, time.monotonic() - recorded)
"""


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_server_that_never_answers_holds_nothing_up(package: str, tmp_path: Path, silent_server: str) -> None:
    pytest.importorskip(package)
    variables = {"WANDB_BASE_URL": silent_server, "WANDB_API_KEY": "0" * 40, "MLFLOW_TRACKING_URI": silent_server}
    ended = subprocess.run(
        [sys.executable, "-c", ATTEMPT, package, str(tmp_path)], env=os.environ | variables, capture_output=True,
        text=True, timeout=250, check=True,
    )  # fmt: skip
    slowest, closing = map(float, ended.stdout.split())
    # Beside the import of a large package, on a busy machine; the server's answer would never come.
    assert slowest < 15
    assert closing < 1 + 15
    assert f"{package} has not ended within 1 s" in ended.stderr
