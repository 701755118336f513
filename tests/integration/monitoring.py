"""A real Prometheus beside the tests' runs, with the rules that we ship."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

RULES = Path(__file__).resolve().parents[2] / "cluster/prometheus"
# A run takes half a minute to start where two cores have more to do.
DEADLINE_SECONDS = 120

# Labels and value of one series.
Sample = tuple[dict[str, str], float]
Ask = Callable[[str], list[Sample]]

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus on PATH: apt-get install prometheus"
)


def sped_up(rules: str, factor: int) -> str:
    """Rules whose hours pass `factor` times as fast; every threshold stays what it is.

    Each duration, which is a range (``[5m]``), an offset (``offset 5m``) or a wait (``for: 5m``), is divided by
    `factor`. What is no duration is left alone, also a name that ends in one (``rate5m``).
    """
    units = {"s": 1_000, "m": 60_000, "h": 3_600_000}

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * units[found[3]] // factor}ms"

    return re.sub(r"(\[|\boffset |\bfor: )(\d+)([smh])\b", shorter, rules)


@contextmanager
def prometheus(folder: Path, *directories: str | Path, every_ms: int = 250, factor: int | None = None) -> Iterator[Ask]:
    """A Prometheus that finds the runs in `directories` by itself; yields a function of a query that gives its answer.

    Args:
        factor: evaluate the shipped rules, `sped_up` by it; None: no rules.
    """
    port = free_port()
    settings = {
        "global": {"scrape_interval": f"{every_ms}ms", "scrape_timeout": f"{every_ms}ms",
                   "evaluation_interval": f"{every_ms}ms"},
        "rule_files": [],
        "scrape_configs": [
            {
                "job_name": "octoscale",
                "honor_labels": True,
                "file_sd_configs": [
                    {"files": [f"{directory}/telemetry/targets/*.json" for directory in directories],
                     "refresh_interval": "500ms"}
                ],
            }
        ],
    }  # fmt: skip
    if factor is not None:
        for path in (RULES / "recording.yml", RULES / "alerts.yml"):
            (folder / path.name).write_text(sped_up(path.read_text(), factor))
        settings["rule_files"] = ["recording.yml", "alerts.yml"]
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
        process.wait(DEADLINE_SECONDS)


def wait_for(ask: Ask, query: str, alive: Callable[[], bool] = lambda: True) -> list[Sample]:
    """The answer to `query` as soon as there is one; what it waits for must stay `alive`.

    Also for what is there already: a scrape that comes too late on a busy machine takes every series away until the
    next one.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := ask(query)):
        assert alive(), f"it ended before there was an answer to {query}"
        assert time.monotonic() < deadline, f"no answer to {query}"
        time.sleep(0.1)
    return found


def fired(ask: Ask) -> set[tuple[str, str, str]]:
    """Every alert that was on at some time: its name, its run and, where it has one, its rank."""
    query = 'max by (alertname, run, rank) (max_over_time(ALERTS{alertstate="firing"}[1h]))'
    return {(labels["alertname"], labels["run"], labels.get("rank", "")) for labels, _ in ask(query)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def endpoints(directory: Path) -> Sequence[str]:
    """Addresses of the run's ranks, in their order."""
    paths = sorted((directory / "telemetry/targets").glob("*.json"))
    return [json.loads(path.read_text())[0]["targets"][0] for path in paths]
