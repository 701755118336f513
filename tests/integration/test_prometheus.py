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

from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.errors import EXIT_INTERRUPTED
from octoscale.models import load, save_weights
from octoscale.telemetry.table import METRICS
from tests.data_sets import upload
from tests.integration.fault_proxy import SLOW_DOWN, FaultProxy, Rule
from tests.integration.monitoring import DEADLINE_SECONDS, Ask, endpoints, needs_prometheus, prometheus, wait_for
from tests.integration.sick_runs import Run, running

# What a run on CPUs cannot have.
ABSENT_ON_CPUS = {"octoscale_device_memory_bytes": "the memory of a GPU"}


@contextmanager
def endless_run(folder: Path, values: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    """A run in a process of its own, asked to stop at the end."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({**values, "steps": 1_000_000}))
    command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.terminate()
        _, told = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == EXIT_INTERRUPTED, told
    finally:
        process.kill()


@needs_prometheus
def test_a_prometheus_that_scrapes_a_run_answers_the_usual_queries(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    # It learns nothing, so that no term is at rest, however many steps it has made when Prometheus is asked.
    values = small_run(
        directory, telemetry={"recorders": ["prometheus"], "diagnose_every_steps": 1},
        optimizer={"learning_rate": 1e-12},
    )  # fmt: skip
    with prometheus(tmp_path, directory) as ask, endless_run(tmp_path, values) as run:
        deadline = time.monotonic() + DEADLINE_SECONDS
        # Two scrapes at least: a rate needs them.
        while not any(value > 0 for _, value in ask("rate(octoscale_steps_total[10s])")):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, "no rate of steps in Prometheus"
            time.sleep(0.1)

        labels, steps = ask("octoscale_steps_total")[0]
        assert steps >= 1
        assert (labels["run"], labels["rank"]) == (directory, "0")
        (_, observed), (_, samples) = ask("octoscale_step_seconds_count")[0], ask("octoscale_samples_total")[0]
        assert observed >= steps
        assert samples >= 16 * steps
        # Four terms with positive distances: margin 1 and a network that knows nothing.
        for metric in ("octoscale_loss", "octoscale_triplet_active_ratio", "octoscale_negative_distance"):
            found = {labels["term"]: value for labels, value in ask(metric)}
            assert set(found) == {"hhh", "hll", "lhh", "lll"}
            assert all(value > 0 for value in found.values()), metric
        assert all(value <= 1 for _, value in ask("octoscale_triplet_active_ratio"))
        assert ask("sum(octoscale_loss)")[0][1] > 0
        assert 1 <= ask("octoscale_embedding_effective_rank")[0][1] <= 16
        assert ask("sum by (phase) (rate(octoscale_step_phase_seconds_sum[10s])) > 0")
        assert ask("histogram_quantile(0.5, rate(octoscale_step_seconds_bucket[10s]))")[0][1] > 0


@pytest.mark.slow
@needs_prometheus
def test_prometheus_follows_a_run_that_is_killed_and_started_again(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    values = small_run(directory, telemetry={"recorders": ["prometheus"]}, checkpoint={"every_steps": 5})
    with prometheus(tmp_path, directory) as ask:
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({**values, "steps": 1_000_000}))
        command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
            wait_for(ask, "octoscale_checkpoint_last_committed_timestamp_seconds", lambda: killed.poll() is None)
            killed.kill()
        with endless_run(tmp_path, values) as run:
            (restarts,) = wait_for(ask, "octoscale_restarts_total > 0", lambda: run.poll() is None)
            assert restarts[1] == 1
            wait_for(ask, 'octoscale_wall_seconds_total{state="idle"} > 0', lambda: run.poll() is None)
            assert 0 < ask("octoscale_goodput_ratio")[0][1] < 1
            # One target: that of the killed process is gone.
            assert len(list((tmp_path / "run/telemetry/targets").iterdir())) == 1
            wait_for(ask, "count(up == 1) == 1 unless count(up == 0)", lambda: run.poll() is None)


def value(ask: Ask, query: str) -> float:
    """The largest of the answers."""
    return max(value for _, value in ask(query))


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
@needs_prometheus
def test_every_documented_metric_of_two_ranks_is_found_and_the_death_of_one_is_seen(
    tmp_path: Path, small_run: Any, drawn_faces: Path, packed_faces: Path, s3_url: str,
    fault_proxy: Callable[..., FaultProxy],
) -> None:  # fmt: skip
    upload(Index.load(packed_faces), Store(s3_url))
    proxy = fault_proxy(Rule(SLOW_DOWN, key=r"shard-\d+", nth=[1]))
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
            reached = value(ask, "octoscale_step")
            run.signal(signal.SIGKILL, rank=1)
            # The other one ends by an error, since its neighbour does not answer.
            run.wait()
        wait_for(ask, "count(up == 0) == 2")
        again = Run(values, **settings)
        with running(again):
            wait_for(ask, "count(octoscale_attempt == 2) == 2", lambda: again.alive)
            wait_for(ask, f"count(octoscale_step > {reached + 40}) == 2", lambda: again.alive)
            assert value(ask, "octoscale_restarts_total") == 1
            assert value(ask, "octoscale_world_size") == 2
            # Up to a heartbeat's age of steps are not known of.
            assert 1 <= value(ask, "octoscale_steps_lost_total") <= 30
            assert ask("octoscale_steps_lost_total == octoscale_steps_replayed_total")
            assert 0 < value(ask, "octoscale_recovery_seconds") < DEADLINE_SECONDS
            for state in ("rework", "idle"):
                assert value(ask, f'octoscale_wall_seconds_total{{state="{state}"}}') > 0
            wait_for(ask, "octoscale_checkpoint_size_bytes > 0", lambda: again.alive)

            found = {labels["__name__"] for labels, _ in ask('last_over_time({__name__=~"octoscale_.+"}[1h])')}
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
