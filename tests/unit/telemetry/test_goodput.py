"""Every second of a run is in one state, over all its attempts."""

from typing import Any

import pytest

from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.metrics import Metrics


class Time:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(metrics: Metrics, name: str, **labels: str) -> Any:
    return metrics.registry.get_sample_value(name, {"run": "test", "rank": "0", **labels})


def test_seconds_add_up_over_attempts_and_the_metrics_tell_them() -> None:
    clock = Time()
    first = WallLedger(Metrics(run="test", rank=0), clock)
    first.go_on(None)
    clock.now += 5
    first.stopped("evaluate", 3)
    clock.now += 2
    first.started()
    clock.now += 11
    first.stopped("data_wait", 1)
    first.started()
    clock.now += 4
    first.stopped("checkpoint", 4)
    committed = first.record()
    assert committed["seconds"] == {
        "startup": 4, "evaluate": 3, "data_wait": 1, "checkpoint": 4, "productive": 10,
    }  # fmt: skip

    # Ten more seconds of steps, then a fault; twenty until the next attempt.
    clock.now += 30
    metrics = Metrics(run="test", rank=0)
    second = WallLedger(metrics, clock, attempt=2)
    second.go_on(committed)
    clock.now += 6
    second.started()
    clock.now += 8
    second.show()
    assert second.seconds() == {
        "startup": 10, "evaluate": 3, "data_wait": 1, "checkpoint": 4, "productive": 18, "lost": 30,
    }  # fmt: skip
    assert sum(second.seconds().values()) == clock.now - 1000
    assert shown(metrics, "octoscale_wall_seconds_total", state="lost") == 30
    assert shown(metrics, "octoscale_goodput_ratio") == pytest.approx(18 / 66)
    assert (shown(metrics, "octoscale_attempt"), shown(metrics, "octoscale_restarts_total")) == (2, 1)


def test_before_its_first_step_an_attempt_is_starting() -> None:
    clock, metrics = Time(), Metrics(run="test", rank=0)
    ledger = WallLedger(metrics, clock)
    clock.now += 9
    ledger.show()
    assert ledger.seconds()["startup"] == 9
    assert shown(metrics, "octoscale_goodput_ratio") == 0
    # Nothing that was shown as startup becomes something else.
    ledger.started()
    ledger.show()
    assert shown(metrics, "octoscale_wall_seconds_total", state="startup") == 9


def test_a_commit_from_a_clock_that_is_ahead_loses_nothing() -> None:
    clock = Time()
    ledger = WallLedger(Metrics(run="test", rank=0), clock)
    ledger.go_on({"seconds": {"productive": 5.0}, "written_at": clock.now + 60})
    assert ledger.seconds()["lost"] == 0
