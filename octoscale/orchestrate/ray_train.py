"""The train function under Ray Train: Ray places and restarts the workers, the run resumes itself."""

import logging
import os
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ray
import ray.train
import ray.train.torch

from octoscale.config import Config, parse_config
from octoscale.data.plan import rank_batch_size
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.evaluation import Evaluation
from octoscale.telemetry.logging import set_up_logging
from octoscale.train import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LaunchResult:
    """How the run ended, as rank 0 told it."""

    status: Literal["finished", "interrupted"]
    step: int
    baseline: Evaluation | None
    final: Evaluation | None


def launch(
    config: Config, *, workers: int, address: str | None = None, max_failures: int = 3, quiet: bool = False
) -> LaunchResult:
    """Train with `workers` processes under Ray Train.

    A worker that dies takes its group down; Ray starts the group again, and the run goes on from its
    newest whole commit. Ray itself keeps no state of the run.

    Args:
        config: the run. Local paths are made absolute here, since workers have a directory of their own; on
            several nodes they must be URLs, or paths that all nodes see.
        workers: ranks, one GPU each where the cluster has GPUs, else one CPU each.
        address: an existing cluster (``auto``, ``host:port``); None starts one on this machine for the run.
        max_failures: how often a failed worker group is started again.
        quiet: only warnings from the workers.

    Raises:
        OctoscaleError: the batch does not divide, the cluster is too small or out of reach, or the run
            itself met something that the user can mend.
    """
    rank_batch_size(config.global_batch_size, workers)
    config = config.with_absolute_paths()
    with (
        _signals_restored(),
        _connected(address, workers),
        tempfile.TemporaryDirectory(prefix="octoscale-ray-") as scratch,
    ):
        gpus = _check_resources(workers)
        trainer = ray.train.torch.TorchTrainer(
            _train_worker,
            train_loop_config={"config": config.model_dump(mode="json"), "quiet": quiet},
            # Longer than a worker takes to import torch on a busy node: a failed rendezvous is not retried.
            torch_config=ray.train.torch.TorchConfig(timeout_s=max(60, int(config.process_group_timeout_seconds))),
            scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=ray.train.RunConfig(
                # Never used twice: a damaged snapshot of an earlier attempt would stop Ray's controller.
                name=f"octoscale-{uuid.uuid4().hex[:8]}",
                storage_path=scratch if address is None else f"{config.directory.rstrip('/')}/ray",
                failure_config=ray.train.FailureConfig(max_failures=max_failures),
                callbacks=[_Failures()],
                # What went wrong is told by the callback and by this function: once, and without Ray's own frames.
                logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
            ),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            cause = error.controller_failure if isinstance(error, ray.train.ControllerError) else None
            if isinstance(cause, OctoscaleError):
                raise OctoscaleError(str(cause)) from error
            raise OctoscaleError(
                f"the workers were started again up to {max_failures} times in vain; the last cause:\n{error}\n"
                f"what was committed is in {config.directory}; launch again to go on from there"
            ) from error
        except SystemExit as end:
            # Ray's answer to Ctrl-C is the exit code of success.
            if end.code:
                raise
            raise KeyboardInterrupt from end
    told: dict[str, Any] = result.return_value
    baseline, final = (None if text is None else Evaluation.from_json(text) for text in told["evaluations"])
    return LaunchResult(told["status"], told["step"], baseline, final)


def _train_worker(arguments: dict[str, Any]) -> dict[str, Any]:
    """One rank. What it returns on rank 0 reaches `launch`."""
    context = ray.train.get_context()
    world = World(
        rank=context.get_world_rank(),
        local_rank=context.get_local_rank(),
        world_size=context.get_world_size(),
        local_world_size=context.get_local_world_size(),
        device=ray.train.torch.get_device(),
    )
    set_up_logging(rank=world.rank, world_size=world.world_size, quiet=arguments["quiet"])
    summary = train(parse_config(arguments["config"], source="sent to the workers"), world, quiet=True)
    evaluations = [None if it is None else it.to_json() for it in (summary.baseline, summary.final)]
    return {"status": summary.status, "step": summary.position.step, "evaluations": evaluations}


class _Failures(ray.train.UserCallback):
    """In Ray's controller: says which worker failed, and ends the run where no new start would mend it."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        set_up_logging()
        for rank, error in sorted(worker_exceptions.items()):
            if isinstance(error, OctoscaleError):
                # An error of the controller: Ray does not try again, and hands it to `launch`.
                raise error
            cause = (str(error).strip().splitlines() or [""])[0]
            logger.warning("rank %d failed: %s: %s", rank, type(error).__name__, cause)


@contextmanager
def _connected(address: str | None, workers: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or a cluster on this machine for the time.

    A connection that the caller already has is used and left alone.
    """
    if ray.is_initialized():
        yield
        return
    # Ray's own lines only where something is wrong, and the workers' without its prefix.
    calm = {"logging_level": logging.ERROR, "logging_config": ray.LoggingConfig(log_level="ERROR")}
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **calm)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            # Something listens there. Ray sends its token to an address only where it is told to.
            raise OctoscaleError(
                f"cannot join a Ray cluster at {address}: {error}; if the cluster asks for a token (Ray's default), "
                "set RAY_AUTH_MODE=token"
            ) from error
    else:
        # The machine's threads belong to the ranks: Ray would give each one thread.
        threads = max(1, (os.cpu_count() or 1) // workers)
        variables = {
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": str(threads),
            # Nobody takes the machine away from a cluster of one.
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
            # There is no dashboard, and a helper of Ray Train's is not to look for one: it ends with a traceback
            # where several clusters run on the machine.
            "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9",
        }
        ray.init(
            address="local",
            num_cpus=max(workers, os.cpu_count() or 1),
            include_dashboard=False,
            runtime_env={"env_vars": variables},
            **calm,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray would try for minutes."""
    if address == "auto":
        return
    host, separator, port = address.rpartition(":")
    if not separator or "/" in host or not port.isdecimal():
        raise OctoscaleError(f"a Ray address is auto or host:port, not {address!r}; run this on a node of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise OctoscaleError(f"no Ray cluster at {address}: {error}; start one, or leave the address out") from error


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Ray sets handlers for its run and leaves them behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)


def _check_resources(workers: int) -> bool:
    """Whether the workers get GPUs. Ray would wait for ever for what the cluster does not have."""
    total, free = ray.cluster_resources(), ray.available_resources()
    gpus = bool(total.get("GPU", 0) >= 1)
    # Ray Train gives each worker a CPU beside its GPU.
    for kind in ("GPU", "CPU") if gpus else ("CPU",):
        count = int(total.get(kind, 0))
        if count < workers:
            raise OctoscaleError(f"the cluster has {count} {kind}s for {workers} workers; ask for at most {count}")
        if free.get(kind, 0) < workers:
            logger.warning(
                "%d of the cluster's %d %ss are free: waiting for %d", free.get(kind, 0), count, kind, workers
            )
    return gpus
