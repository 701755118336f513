"""Where a run goes on: the newest commit that is whole, if it is the same run."""

import logging
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import octoscale
from octoscale.checkpoint import Checkpoints, DamagedError, Position
from octoscale.config import Config
from octoscale.data.index import Index, file_sha256
from octoscale.distributed.engine import Engine
from octoscale.errors import OctoscaleError
from octoscale.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


def run_record(config: Config, index: Index) -> dict[str, Any]:
    """What is committed beside the tensors. A run keeps its `identity` for life; the rest may change."""
    return {
        "identity": {
            "data fingerprint": index.fingerprint,
            "data.mode": config.data.mode,
            "data.window_fraction": config.data.window,
            "seed": config.seed,
            "global_batch_size": config.global_batch_size,
            "model.name": config.model.name,
            "optimizer.name": config.optimizer.name,
            **_teacher(config),
        },
        "config": config.model_dump(mode="json"),
        "versions": {
            "octoscale": octoscale.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def _teacher(config: Config) -> dict[str, str]:
    """Which network a distillation learns from: read anew by every attempt, it must stay the same."""
    if config.distillation is None:
        return {}
    return {
        "distillation's teacher (SHA-256)": file_sha256(Path(config.model.weights or config.model.name).expanduser())
    }


def resume(checkpoints: Checkpoints, engine: Engine, record: dict[str, Any], metrics: Metrics) -> Position:
    """Load the newest whole commit into `engine`; the start of the run where there is none.

    A damaged commit is put aside and the one before it is taken. Its ledger of wall time goes into `record`.

    Raises:
        OctoscaleError: the commits belong to another data set, geometry or network, or the storage fails.
    """
    while (commit := checkpoints.newest()) is not None:
        try:
            committed = checkpoints.record(commit)
            _check_same_run(committed["identity"], record["identity"], checkpoints.store.url)
            with checkpoints.verified(commit) as folder:
                # Not before the parts are known to be whole: asking for an optimizer's state creates it.
                state = engine.state_dict()
                checkpoints.fill(state, folder, commit)
        except DamagedError as error:
            metrics.add("octoscale_checkpoint_corrupt_total")
            checkpoints.quarantine(commit, error)
            continue
        engine.load_state_dict(state)
        record["ledger"] = committed.get("ledger")
        _say_what_changed(committed["config"], record["config"])
        logger.info("resuming after step %d from %s", commit.step, checkpoints.store.url)
        return Position(**committed["position"])
    return Position()


def _check_same_run(committed: dict[str, Any], wanted: dict[str, Any], url: str) -> None:
    different = [key for key, value in wanted.items() if key in committed and committed[key] != value]
    if different:
        changes = "; ".join(f"{key} was {committed[key]}, is {wanted[key]}" for key in different)
        raise OctoscaleError(
            f"{url} holds another run ({changes}): a run can only go on with its own data and geometry; "
            "give this one a `directory` of its own, or set these back"
        )


def _say_what_changed(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> None:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            _say_what_changed(old, new, f"{prefix}{key}.")
        elif old != new:
            logger.warning("since the commit %s%s changed from %s to %s", prefix, key, old, new)
