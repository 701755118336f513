"""The metrics of a rank with everything that reads them: endpoint, target file, recorders."""

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

import octoscale
from octoscale.errors import OctoscaleError
from octoscale.telemetry.config import TelemetryConfig
from octoscale.telemetry.metrics import Metrics, served
from octoscale.telemetry.recorders import JsonLines, Recorder, TensorBoard
from octoscale.telemetry.targets import registered
from octoscale.telemetry.trackers import mlflow_tracker, wandb_tracker

logger = logging.getLogger(__name__)

_WILDCARDS = ("0.0.0.0", "::", "")


@contextmanager
def exported(
    config: TelemetryConfig,
    *,
    run: str,
    run_folder: Path | None,
    rank: int,
    world_size: int,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Metrics]:
    """The metrics of this rank, to be seen while the block runs.

    Args:
        run_folder: the run's directory; None where it is not on a local disk.
        settings: the run's whole configuration, for the trackers.

    Raises:
        OctoscaleError: a recorder's package is missing, or a folder cannot be written.
    """
    folder = Path(config.folder).expanduser() if config.folder else run_folder and run_folder / "telemetry"
    with ExitStack() as stack:
        recorders = _recorders(config, folder, run, settings or {}) if rank == 0 else []
        for recorder in recorders:
            stack.callback(recorder.close)
        metrics = Metrics(run=run, rank=rank, recorders=recorders)
        metrics.set("octoscale_build_info", 1, version=octoscale.__version__, torch=torch.__version__)
        metrics.set("octoscale_world_size", world_size)
        if "prometheus" in config.recorders:
            port = config.metrics_port + rank if config.metrics_port else 0
            port = stack.enter_context(served(metrics, host=config.metrics_host, port=port))
            host = socket.gethostname() if config.metrics_host in _WILDCARDS else config.metrics_host
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            logger.info("metrics   http://%s/metrics", address)
            if folder is not None:
                targets = folder / "targets"
                stack.enter_context(registered(targets, run=run, rank=rank, world_size=world_size, address=address))
                logger.info("targets   %s/*.json", targets)
        stack.callback(metrics.conclude)
        yield metrics


def _recorders(config: TelemetryConfig, folder: Path | None, run: str, settings: Mapping[str, Any]) -> list[Recorder]:
    kinds: dict[str, Callable[[Path], Recorder]] = {
        "jsonl": JsonLines,
        "tensorboard": TensorBoard,
        "wandb": partial(wandb_tracker, run=run, settings=settings),
        "mlflow": partial(mlflow_tracker, run=run, settings=settings),
    }
    names = [name for name in config.recorders if name in kinds]
    if not names:
        return []
    if folder is None:
        raise OctoscaleError(
            f"telemetry.recorders has {names[0]}, which writes to a local folder, and the run's directory is remote: "
            "set telemetry.folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [kinds[name](folder) for name in names]
    except OSError as error:
        raise OctoscaleError(
            f"cannot write the metrics to {folder}: {error.strerror}; set telemetry.folder to a local folder"
        ) from error
