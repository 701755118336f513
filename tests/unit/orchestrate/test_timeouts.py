"""The timeouts that reach Ray as environment variables."""

import os

import pytest

pytest.importorskip("ray")

from octoscale.errors import OctoscaleError
from octoscale.orchestrate.timeouts import ray_timeouts
from octoscale.resilience import ResilienceConfig

HANG = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"


def test_they_are_set_for_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HANG, raising=False)
    with ray_timeouts(ResilienceConfig(hang_timeout_seconds=33)):
        assert os.environ[HANG] == "33.0"
    assert HANG not in os.environ


def test_a_variable_that_would_be_ignored_is_an_error_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANG, "600")
    with (
        pytest.raises(OctoscaleError, match=r"set resilience\.hang_timeout_seconds instead"),
        ray_timeouts(ResilienceConfig()),
    ):
        pass
    assert os.environ[HANG] == "600"
