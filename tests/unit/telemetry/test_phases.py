"""The time of a step's phases."""

import time

import pytest
import torch

from octoscale.telemetry.phases import PhaseClock


def test_a_phase_inside_another_takes_its_time_away_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = PhaseClock(torch.device("cpu"))
    with clock("mine"), clock("exchange"):
        pass
    # Between 6 and 10 nothing is measured.
    with clock("mine"):
        pass

    assert clock.seconds() == {"mine": 1.0 + 3.0 + 5.0, "exchange": 2.0}


def test_a_clock_without_phases_has_no_seconds() -> None:
    assert PhaseClock(torch.device("cpu")).seconds() == {}


def test_a_phase_that_raises_has_ended() -> None:
    clock = PhaseClock(torch.device("cpu"))
    with pytest.raises(ValueError), clock("loss"):
        raise ValueError
    with clock("mine"):
        pass

    assert clock.seconds().keys() == {"loss", "mine"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_device_is_measured_and_not_the_launch() -> None:
    clock = PhaseClock(torch.device("cuda"))
    a = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    with clock("mine"):
        for _ in range(20):
            a @ a
    launched = time.perf_counter() - started
    seconds = clock.seconds()["mine"]
    assert launched < seconds <= time.perf_counter() - started
