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
        "startup": 4, "evaluate": 3, "data_wait": 1, "checkpoint": 4, "productive": 10, "rework": 0, "idle": 0,
    }  # fmt: skip

    # Ten more seconds of steps with a sign of life, then a fault; twenty until the next attempt.
    clock.now += 30
    metrics = Metrics(run="test", rank=0)
    second = WallLedger(metrics, clock, attempt=2)
    second.go_on(committed, last_sign=clock.now - 20)
    clock.now += 6
    second.started()
    clock.now += 8
    second.stepped()
    clock.now += 1
    second.stepped()
    second.show()
    assert second.seconds() == {
        "startup": 10, "evaluate": 3, "data_wait": 1, "checkpoint": 4, "productive": 19, "rework": 10, "idle": 20,
    }  # fmt: skip
    assert sum(second.seconds().values()) == clock.now - 1000
    assert shown(metrics, "octoscale_wall_seconds_total", state="rework") == 10
    assert shown(metrics, "octoscale_wall_seconds_total", state="idle") == 20
    # Until the first step was done.
    assert shown(metrics, "octoscale_recovery_seconds") == 34
    assert shown(metrics, "octoscale_goodput_ratio") == pytest.approx(19 / 67)
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


@pytest.mark.parametrize(
    ("written_at", "last_sign", "rework", "idle"),
    [
        pytest.param(-30, None, 0, 30, id="no sign of life"),
        pytest.param(-30, -40, 0, 30, id="none since the commit"),
        pytest.param(-30, 50, 30, 0, id="a sign from a clock that is ahead"),
        pytest.param(60, None, 0, 0, id="a commit from a clock that is ahead"),
        pytest.param(60, -10, 0, 0, id="a commit ahead of a sign"),
    ],
)
def test_what_is_not_known_of_the_attempt_before_is_idle(
    written_at: float, last_sign: float | None, rework: float, idle: float
) -> None:
    clock = Time()
    ledger = WallLedger(Metrics(run="test", rank=0), clock)
    sign = None if last_sign is None else clock.now + last_sign
    ledger.go_on({"seconds": {"productive": 5.0}, "written_at": clock.now + written_at}, last_sign=sign)
    seconds = ledger.seconds()
    assert (seconds["rework"], seconds["idle"], seconds["productive"]) == (rework, idle, 5)


def test_a_first_attempt_recovers_from_nothing() -> None:
    metrics = Metrics(run="test", rank=0)
    ledger = WallLedger(metrics)
    ledger.go_on(None)
    ledger.stepped()
    assert shown(metrics, "octoscale_recovery_seconds") is None
