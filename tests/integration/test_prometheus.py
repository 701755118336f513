"""A real Prometheus scrapes a run while it trains, and answers the queries that a dashboard would ask."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.errors import EXIT_INTERRUPTED

DEADLINE_SECONDS = 60

# Labels and value of one series.
Sample = tuple[dict[str, str], float]
Ask = Callable[[str], list[Sample]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def prometheus(folder: Path, directory: str) -> Iterator[Ask]:
    """A Prometheus that finds the run in `directory` by itself; yields a function of a query that gives its answer."""
    port = free_port()
    found = {"files": [f"{directory}/telemetry/targets/*.json"], "refresh_interval": "1s"}
    settings = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        "scrape_configs": [{"job_name": "octoscale", "file_sd_configs": [found]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    # Not through a proxy that the surroundings may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(query: str) -> list[Sample]:
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        try:
            url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with opener.open(url, timeout=5) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:  # it is still starting
            return []
        return [(series["metric"], float(series["value"][1])) for series in found]

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(10)


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


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH: apt-get install prometheus")
def test_a_prometheus_that_scrapes_a_run_answers_the_usual_queries(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    values = small_run(directory, telemetry={"recorders": ["prometheus"], "diagnose_every_steps": 1})
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
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH: apt-get install prometheus")
def test_prometheus_follows_a_run_that_is_killed_and_started_again(tmp_path: Path, small_run: Any) -> None:
    directory = str(tmp_path / "run")
    values = small_run(directory, telemetry={"recorders": ["prometheus"]}, checkpoint={"every_steps": 5})

    def wait_for(ask: Ask, query: str, run: "subprocess.Popen[str]") -> list[Sample]:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := ask(query)):
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline, f"no answer to {query}"
            time.sleep(0.1)
        return found

    with prometheus(tmp_path, directory) as ask:
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({**values, "steps": 1_000_000}))
        command = [sys.executable, "-m", "octoscale.cli", "train", str(file)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
            wait_for(ask, "octoscale_checkpoint_last_committed_timestamp_seconds", killed)
            killed.kill()
        with endless_run(tmp_path, values) as run:
            (restarts,) = wait_for(ask, "octoscale_restarts_total > 0", run)
            assert restarts[1] == 1
            wait_for(ask, 'octoscale_wall_seconds_total{state="rework"} > 0', run)
            assert 0 < ask("octoscale_goodput_ratio")[0][1] < 1
            # One target: that of the killed process is gone.
            assert len(list((tmp_path / "run/telemetry/targets").iterdir())) == 1
            wait_for(ask, "count(up == 1) == 1 unless count(up == 0)", run)
