"""A real Prometheus scrapes a run while it trains, and answers the queries that a dashboard would ask."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.checkpoint import CheckpointConfig, Checkpoints
from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import EXIT_INTERRUPTED
from octoscale.heartbeat import last_heartbeat
from octoscale.models import load, save_weights
from octoscale.telemetry.table import METRICS
from tests.data_sets import upload
from tests.integration.fault_proxy import SLOW_DOWN, FaultProxy, Rule
from tests.integration.monitoring import (
    DEADLINE_SECONDS,
    Ask,
    Sample,
    endpoints,
    needs_prometheus,
    prometheus,
    wait_for,
)
from tests.integration.sick_runs import Run, running

# What a run on CPUs cannot have.
ABSENT_ON_CPUS = {"octoscale_device_memory_bytes": "the memory of a GPU"}


@contextmanager
def endless_run(folder: Path, values: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    """A run in a process of its own, asked to stop at the end; what it tells is in ``folder/log``."""
    file, log = folder / "run.yaml", folder / "log"
    file.write_text(yaml.safe_dump({**values, "steps": 1_000_000}))
    command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
    # Not into a pipe: one that nobody reads is full after some thousand steps, and the run stands still.
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output, text=True)
    try:
        yield process
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == EXIT_INTERRUPTED, log.read_text()
    finally:
        process.kill()
        process.wait()


@needs_prometheus
def test_a_prometheus_that_scrapes_a_run_answers_the_usual_queries(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    # It learns nothing, so that no term is at rest, however many steps it has made when Prometheus is asked.
    values = small_run(
        directory, telemetry={"recorders": ["prometheus"], "diagnose_every_steps": 1},
        optimizer={"learning_rate": 1e-12},
    )  # fmt: skip
    with prometheus(tmp_path, directory) as ask, endless_run(tmp_path, values) as run:

        def found(query: str) -> list[Sample]:
            return wait_for(ask, query, lambda: run.poll() is None)

        # Two scrapes at least: a rate needs them.
        found("rate(octoscale_steps_total[10s]) > 0")
        # The first step is over: a scrape amid a step has only a part of what that step changes.
        ((labels, _),) = found("octoscale_steps_total > 1")
        assert (labels["run"], labels["rank"]) == (directory, "0")
        # Each of one scrape.
        found("octoscale_step_seconds_count >= octoscale_steps_total")
        found("octoscale_samples_total >= 16 * octoscale_steps_total")
        # Four terms with positive distances: margin 1 and a network that knows nothing.
        for metric in ("octoscale_loss", "octoscale_triplet_active_ratio", "octoscale_negative_distance"):
            of_terms = {labels["term"]: value for labels, value in found(metric)}
            assert set(of_terms) == {"hhh", "hll", "lhh", "lll"}
            assert all(value > 0 for value in of_terms.values()), metric
        assert all(value <= 1 for _, value in found("octoscale_triplet_active_ratio"))
        assert found("sum(octoscale_loss)")[0][1] > 0
        assert 1 <= found("octoscale_embedding_effective_rank")[0][1] <= 16
        assert found("sum by (phase) (rate(octoscale_step_phase_seconds_sum[10s])) > 0")
        assert found("histogram_quantile(0.5, rate(octoscale_step_seconds_bucket[10s])) > 0")


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_prometheus
def test_prometheus_follows_a_run_that_is_killed_and_started_again(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    values = small_run(directory, telemetry={"recorders": ["prometheus"]}, checkpoint={"every_steps": 5})
    with prometheus(tmp_path, directory) as ask:
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({**values, "steps": 1_000_000}))
        command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
            try:
                wait_for(ask, "octoscale_checkpoint_last_committed_timestamp_seconds", lambda: killed.poll() is None)
            finally:
                killed.kill()
        with endless_run(tmp_path, values) as run:
            (restarts,) = wait_for(ask, "octoscale_restarts_total > 0", lambda: run.poll() is None)
            assert restarts[1] == 1
            wait_for(ask, 'octoscale_wall_seconds_total{state="idle"} > 0', lambda: run.poll() is None)
            ((_, goodput),) = wait_for(ask, "octoscale_goodput_ratio", lambda: run.poll() is None)
            assert 0 < goodput < 1
            # One target: that of the killed process is gone.
            assert len(list((tmp_path / "run/telemetry/targets").iterdir())) == 1
            wait_for(ask, "count(up == 1) == 1 unless count(up == 0)", lambda: run.poll() is None)


def value(ask: Ask, query: str) -> float:
    """The largest of the answers, as soon as there are any."""
    return max(value for _, value in wait_for(ask, query))


@contextmanager
def clients_that_never_read(addresses: list[str]) -> Iterator[None]:
    """Each has asked for the metrics of one rank."""
    with ExitStack() as stack:
        for address in addresses:
            host, port = address.split(":")
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        yield


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_prometheus
def test_every_documented_metric_of_two_ranks_is_found_and_the_death_of_one_is_seen(
    tmp_path: Path, small_run: Any, drawn_faces: Path, packed_faces: Path, s3_url: str,
    fault_proxy: Callable[..., FaultProxy],
) -> None:  # fmt: skip
    upload(Index.load(packed_faces), Store(s3_url))
    proxy = fault_proxy(Rule(SLOW_DOWN, key=r"shard-\d+", nth=[1]))
    began = time.time()
    directory, verify = tmp_path / "run", drawn_faces / "verify"
    save_weights(load("tiny", embedding_dim=16), tmp_path / "weights.pt")
    telemetry = {"diagnose_every_steps": 5, "peak_flops": 1e12, "heartbeat_seconds": 0.2}
    values = small_run(
        directory, steps=1_000_000, precision="fp16", checkpoint={"every_steps": 30},
        model={"weights": str(tmp_path / "weights.pt")}, distillation={"high": 1.0},
        data={"url": s3_url, "cache_dir": str(tmp_path / "cache")}, storage={"endpoint_url": proxy.url},
        telemetry={"recorders": ["prometheus"], **telemetry},
        evaluate={"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7], "modes": ["cross"]},
    )  # fmt: skip
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    settings: dict[str, Any] = {"world_size": 2, "environment": keys, "step_seconds": 0.05}
    with prometheus(tmp_path, directory) as ask:
        run = Run(values, **settings)
        with running(run):
            wait_for(ask, "octoscale_step > 30", lambda: run.alive)
            before = value(ask, "octoscale_step")
            with clients_that_never_read(endpoints(directory) * 3):
                wait_for(ask, f"count(octoscale_step > {before + 20}) == 2", lambda: run.alive)
            wait_for(ask, "octoscale_checkpoint_last_committed_timestamp_seconds", lambda: run.alive)
            # Amid the steps between two commits, so that some are lost.
            wait_for(ask, "octoscale_step % 30 > 8 < 20", lambda: run.alive)
            run.signal(signal.SIGKILL, rank=1)
            # The other one ends by an error, since its neighbour does not answer.
            run.wait()
        wait_for(ask, "count(up == 0) == 2")
        beat = last_heartbeat(Store(str(directory)), 2)
        assert beat is not None
        commits = Checkpoints(str(directory / "checkpoints"), World(), CheckpointConfig()).commits()
        lost = beat.step - commits[-1].step
        assert lost > 0
        again = Run(values, **settings)
        with running(again):
            wait_for(ask, "count(octoscale_attempt == 2) == 2", lambda: again.alive)
            wait_for(ask, f"count(octoscale_step > {beat.reached + 40}) == 2", lambda: again.alive)
            assert value(ask, "octoscale_restarts_total") == 1
            assert value(ask, "octoscale_world_size") == 2
            assert value(ask, "octoscale_steps_lost_total") == lost
            wait_for(ask, "octoscale_steps_lost_total == octoscale_steps_replayed_total", lambda: again.alive)
            assert 0 < value(ask, "octoscale_recovery_seconds") < time.time() - began
            for state in ("rework", "idle"):
                assert value(ask, f'octoscale_wall_seconds_total{{state="{state}"}}') > 0
            wait_for(ask, "octoscale_checkpoint_size_bytes > 0", lambda: again.alive)

            found = {
                labels["__name__"] for labels, _ in wait_for(ask, 'last_over_time({__name__=~"octoscale_.+"}[1h])')
            }
            series = {metric.name: f"{metric.name}_count" if metric.kind == "histogram" else metric.name
                      for metric in METRICS}  # fmt: skip
            assert {name for name, of_it in series.items() if of_it not in found} == ABSENT_ON_CPUS.keys()
            assert check_metrics(endpoints(directory)[0]) == ""


def check_metrics(address: str) -> str:
    """What `promtool check metrics` finds at an endpoint."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read()
    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    return (found.stdout + found.stderr).decode()
