"""Weights & Biases and MLflow: told of rank 0's metrics by a thread, so that no server holds the training up.

Where they are is their own packages' matter: WANDB_PROJECT, WANDB_API_KEY, WANDB_MODE and so on, MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME and so on.
"""

import hashlib
import importlib.util
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple, Protocol

from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)

# Steps that wait to be told; what comes when they are as many is left out.
QUEUE_STEPS = 1000
# For the start, and at the end for what is still untold.
TIMEOUT_SECONDS = 30.0
# Told at a time. MLflow's limits for one request: 1000 metrics, 100 parameters of 6000 characters.
_STEPS, _MLFLOW_METRICS, _MLFLOW_PARAMETERS, _MLFLOW_CHARACTERS = 10, 1000, 100, 6000
_TAG = "octoscale.run"


class Entry(NamedTuple):
    """What has changed in a step, and when (Unix time)."""

    step: int
    seconds: float
    values: Mapping[str, float]


class Sink(Protocol):
    """One run at a tracker. It may block and raise whatever its package does."""

    def log(self, entries: Sequence[Entry]) -> None:
        """Tell of these steps."""

    def close(self) -> None:
        """Nothing more will come."""


class Tracker:
    """A recorder that hands everything to a sink in a thread of its own."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Sink],
        *,
        queue_steps: int = QUEUE_STEPS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """`connect` opens the sink, in the thread; where it fails the run goes on without."""
        self._name = name
        self._timeout_seconds = timeout_seconds
        # None comes last.
        self._queue: Queue[Entry | None] = Queue(queue_steps)
        self._left_out = self._refused = 0
        # A daemon: the process does not wait for it when it ends.
        self._thread = threading.Thread(target=self._tell, args=(connect,), name=f"octoscale-{name}", daemon=True)
        self._thread.start()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        if not self._thread.is_alive():
            return
        try:
            self._queue.put_nowait(Entry(step, time.time(), values))
        except Full:
            if not self._left_out:
                logger.warning("%s does not keep up: from step %d on, steps are left out", self._name, step)
            self._left_out += 1

    def close(self) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        if self._thread.is_alive():
            with suppress(Full):
                self._queue.put(None, timeout=self._timeout_seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        waiting = sum(entry is not None for entry in list(self._queue.queue))
        untold = self._left_out + self._refused + waiting
        if self._thread.is_alive():
            logger.warning(
                "%s has not ended within %g s, and is left alone; %d steps or more are missing there",
                self._name, self._timeout_seconds, untold,
            )  # fmt: skip
        elif untold:
            logger.warning("%s: %d steps are missing there", self._name, untold)

    def _tell(self, connect: Callable[[], Sink]) -> None:
        try:
            sink, is_open = connect(), True
            while is_open:
                waiting = [self._queue.get()]
                with suppress(Empty):
                    while len(waiting) < _STEPS:
                        waiting.append(self._queue.get_nowait())
                is_open = waiting[-1] is not None
                if entries := [entry for entry in waiting if entry is not None]:
                    self._log(sink, entries)
            sink.close()
        except Exception as error:
            # Whatever a tracker's package raises, it is not worth the training.
            logger.warning("%s ends here, and the run goes on without it: %s", self._name, _first_line(error))

    def _log(self, sink: Sink, entries: Sequence[Entry]) -> None:
        try:
            sink.log(entries)
        except Exception as error:
            # The next ones may be taken again.
            if not self._refused:
                logger.warning("%s did not take step %d: %s", self._name, entries[0].step, _first_line(error))
            self._refused += len(entries)


def wandb_tracker(
    folder: Path, *, run: str, settings: Mapping[str, Any], timeout_seconds: float = TIMEOUT_SECONDS
) -> Tracker:
    """Weights & Biases. A later attempt goes on with the same run there.

    Raises:
        OctoscaleError: wandb is not installed.
    """
    _check_installed("wandb", "wandb")
    return Tracker("wandb", lambda: _Wandb(folder, run, settings, timeout_seconds), timeout_seconds=timeout_seconds)


def mlflow_tracker(
    folder: Path, *, run: str, settings: Mapping[str, Any], timeout_seconds: float = TIMEOUT_SECONDS
) -> Tracker:
    """MLflow. A later attempt goes on with the same run there. Without MLFLOW_TRACKING_URI: ``mlflow.db`` in `folder`.

    Raises:
        OctoscaleError: mlflow is not installed.
    """
    _check_installed("mlflow", "mlflow")
    return Tracker("mlflow", lambda: _Mlflow(folder, run, settings), timeout_seconds=timeout_seconds)


class _Wandb:
    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any], timeout_seconds: float) -> None:
        import wandb

        limits = {"init_timeout": timeout_seconds, "finish_timeout": timeout_seconds}
        self._run = wandb.init(
            id=run_id(run, folder), resume="allow", name=Path(run).name, dir=str(folder), config=dict(settings),
            allow_val_change=True, settings=wandb.Settings(console="off", silent=True, **limits),
        )  # fmt: skip
        # Not W&B's own step, which cannot go back: a step that is done again after a fault would be dropped.
        self._run.define_metric("*", step_metric="step")

    def log(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._run.log({"step": entry.step, **entry.values})

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]) -> None:
        import mlflow
        from mlflow.entities import Param

        uri = None if mlflow.is_tracking_uri_set() else f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "octoscale")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        tag = run_id(run, folder)
        found = self._client.search_runs([experiment], filter_string=f"tags.`{_TAG}` = '{tag}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, tags={_TAG: tag}, run_name=Path(run).name).info.run_id
        parameters = [Param(key, str(value)[:_MLFLOW_CHARACTERS]) for key, value in _flat(settings).items()]
        for few in _parts(parameters, _MLFLOW_PARAMETERS):
            self._client.log_batch(self._run, params=few)

    def log(self, entries: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(re.sub(r"[^\w\-./ ]", "_", name), value, round(entry.seconds * 1000), entry.step)
            for entry in entries
            for name, value in entry.values.items()
        ]
        for few in _parts(metrics, _MLFLOW_METRICS):
            self._client.log_batch(self._run, metrics=few)

    def close(self) -> None:
        self._client.set_terminated(self._run)


def run_id(run: str, folder: Path) -> str:
    """What a tracker knows the run in directory `run` by, the same for all of its attempts.

    That of a remote directory follows from its URL; a local one may be moved, and keeps its own in `folder`.
    """
    if "://" in run:
        return hashlib.sha256(run.encode()).hexdigest()[:32]
    path = folder / "tracker_id"
    if not path.exists():
        temporary = path.with_suffix(".partial")
        temporary.write_text(uuid.uuid4().hex)
        temporary.replace(path)
    return path.read_text()


def _check_installed(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise OctoscaleError(
            f"telemetry.recorders has {extra}, which needs {package}: pip install 'octoscale[{extra}]', or leave it out"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Blocks inside blocks as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _parts(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
