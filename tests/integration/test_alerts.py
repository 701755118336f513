"""The shipped alerts on real runs: one fires on a run that was made sick on purpose, and is silent on a healthy one.

Prometheus scrapes the runs by their targets' files. The hours of the rules pass `FACTOR` times as fast, an hour in 36
seconds; thresholds are as shipped.
"""

from pathlib import Path
from typing import Any

from tests.conftest import small_run_values
from tests.integration.monitoring import needs_prometheus, prometheus, wait_for
from tests.integration.sick_runs import Run, running

pytestmark = needs_prometheus

FACTOR = 100


def values_of(packed: Path, directory: Path | str, **changes: Any) -> dict[str, Any]:
    """A run without an end that is looked at closely."""
    telemetry = {"recorders": ["prometheus"], "diagnose_every_steps": 5, "heartbeat_seconds": 0.5}
    telemetry |= changes.pop("telemetry", {})
    changes = {"steps": 1_000_000, "checkpoint": {"every_steps": 10}, **changes}
    return small_run_values(packed, directory, telemetry=telemetry, **changes)


def test_a_run_that_is_killed_is_dead_and_lives_again(packed_faces: Path, tmp_path: Path) -> None:
    values = values_of(packed_faces, tmp_path / "run")
    dead = 'ALERTS{alertname="OctoscaleRunDead", alertstate="firing"}'
    with prometheus(tmp_path, tmp_path / "run", factor=FACTOR) as ask:
        run = Run(values)
        with running(run):
            wait_for(ask, "octoscale_steps_total > 5", lambda: run.alive)
            assert not ask(dead)
        ((labels, _),) = wait_for(ask, dead)
        assert labels["run"] == str(tmp_path / "run")
        again = Run(values)
        with running(again):
            wait_for(ask, "octoscale_attempt == 2", lambda: again.alive)
            wait_for(ask, f"count(up == 1) == 1 unless on () {dead}", lambda: again.alive)
