"""Every query of every panel, put to a real Prometheus that scrapes a real run, as Grafana would."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from octoscale.telemetry.table import METRICS
from tests.conftest import SmallRun
from tests.integration.monitoring import DEADLINE_SECONDS, prometheus, wait_for
from tests.integration.test_prometheus import endless_run

DASHBOARDS = sorted((Path(__file__).resolve().parents[2] / "cluster/grafana/dashboards").glob("*.json"))
# What an undisturbed run on a CPU, from a local data set, cannot fill.
EMPTY = {
    "octoscale_device_memory_bytes": "needs a GPU",
    "octoscale_loss_scale": "needs precision=fp16",
    "octoscale_distillation_loss": "needs distillation",
    "octoscale_cache_lookups_total": "needs a remote data set",
    "octoscale_cache_bytes": "needs a remote data set",
    "octoscale_storage_retries_total": "needs a request that was made again",
    "octoscale_recovery_seconds": "needs an attempt before this one",
}


def asked(run: str) -> dict[str, str]:
    """By dashboard, panel and number: the query, with Grafana's variables filled in."""
    values = {"$run": run, "$rank": ".*", "$__rate_interval": "5s", "$__range": "1m"}
    queries = {}
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for name in sorted(values, key=len, reverse=True):
                    query = query.replace(name, values[name])
                assert "$" not in query
                queries[f"{board['title']} / {panel['title']} / {target['refId']}"] = query
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                inside = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])
                assert inside is not None
                queries[f"{board['title']} / ${variable['name']}"] = inside[1].replace("$run", run)
    return queries


def test_what_stays_empty_is_among_the_metrics() -> None:
    assert EMPTY.keys() <= {metric.name for metric in METRICS}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on PATH: apt-get install prometheus")
def test_every_panel_has_data_when_a_run_is_scraped(tmp_path: Path, small_run: SmallRun, drawn_faces: Path) -> None:
    directory = str(tmp_path / "run")
    verify = drawn_faces / "verify"
    values: dict[str, Any] = small_run(
        directory,
        telemetry={"recorders": ["prometheus"], "diagnose_every_steps": 1, "peak_flops": 1e12},
        checkpoint={"every_steps": 10},
        evaluate={"pairs": str(verify / "pairs.txt"), "images": str(verify), "resolutions": [7], "modes": ["cross"]},
    )
    queries = asked(directory)
    empty = {place for place, query in queries.items() if EMPTY.keys() & set(re.findall(r"octoscale_\w+", query))}
    missing = {place: query for place, query in queries.items() if place not in empty}
    assert len(missing) > 50
    with prometheus(tmp_path, directory) as ask, endless_run(tmp_path, values) as run:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while missing := {place: query for place, query in missing.items() if not ask(query)}:
            assert run.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, f"no data: {missing}"
            time.sleep(0.2)
        # One that Prometheus did not understand would have no answer at all.
        for place in empty:
            wait_for(ask, f"({queries[place]}) or vector(1)")
