"""The timeouts of Ray Train that have no argument: environment variables of the driver and of its controller."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from ray.train.v2._internal.execution.callback import ControllerCallback

from octoscale.errors import OctoscaleError
from octoscale.resilience import ResilienceConfig

_SHUTDOWN = "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S"


@contextmanager
def ray_timeouts(settings: ResilienceConfig) -> Iterator[None]:
    """Set them while the block runs: Ray hands them on from here to its controller and to the workers.

    Raises:
        OctoscaleError: one of them is set otherwise in the environment.
    """
    wanted = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": ("poll_seconds", settings.poll_seconds),
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": ("hang_timeout_seconds", settings.hang_timeout_seconds),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": ("group_start_timeout_seconds", settings.group_start_timeout_seconds),
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": ("preemption_poll_seconds", settings.preemption_poll_seconds),
        _SHUTDOWN: ("shutdown_timeout_seconds", settings.shutdown_timeout_seconds),
    }
    variables = {name: str(value) for name, (_, value) in wanted.items()}
    for name, value in variables.items():
        if os.environ.get(name, value) != value:
            raise OctoscaleError(
                f"{name} is {os.environ[name]} in the environment and would be ignored: set "
                f"resilience.{wanted[name][0]} instead"
            )
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value_before in before.items():
            if value_before is None:
                del os.environ[name]
            else:
                os.environ[name] = value_before


class ShutdownTimeout(ControllerCallback):
    """The one that Ray reads in its controller, but does not hand on to it."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def after_controller_start(self, train_run_context: Any) -> None:
        os.environ[_SHUTDOWN] = str(self._seconds)


def limit_exchanges(seconds: float) -> None:
    """From the rendezvous's timeout, which Ray gave the process group, to that of training."""
    if dist.is_initialized():
        # Without an underscore PyTorch has it for new groups alone.
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))
