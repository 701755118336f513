"""The train function under Ray Train: Ray places and restarts the workers, the run resumes itself."""

import logging
import os
import tempfile
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

    Raises:
        OctoscaleError: the batch does not divide, the cluster is too small or out of reach, or the run
            itself met something that the user can mend.
    """
    rank_batch_size(config.global_batch_size, workers)
    config = config.with_absolute_paths()
    with _connected(address, workers), tempfile.TemporaryDirectory(prefix="octoscale-ray-") as scratch:
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
            ),
        )
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise OctoscaleError(
                f"the workers failed more than {max_failures} times; the last cause:\n{error}\n"
                f"what was committed is in {config.directory}; launch again to go on from there"
            ) from error
    told: dict[str, Any] = result.return_value
    if "error" in told:
        raise OctoscaleError(told["error"])
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
    try:
        summary = train(parse_config(arguments["config"], source="sent to the workers"), world, quiet=True)
    except OctoscaleError as error:
        if not world.is_main:
            raise
        # As a value: an exception would be retried, and no retry mends it.
        return {"error": str(error)}
    evaluations = [None if it is None else it.to_json() for it in (summary.baseline, summary.final)]
    return {"status": summary.status, "step": summary.position.step, "evaluations": evaluations}


@contextmanager
def _connected(address: str | None, workers: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or a cluster on this machine's loopback for the time."""
    if address is not None:
        try:
            ray.init(address=address, log_to_driver=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise OctoscaleError(
                f"no Ray cluster at {address}: {error}; start one, or leave the address out"
            ) from error
    else:
        # The machine's threads belong to the ranks: Ray would give each one thread.
        threads = max(1, (os.cpu_count() or 1) // workers)
        ray.init(
            address="local",
            num_cpus=max(workers, os.cpu_count() or 1),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            runtime_env={"env_vars": {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": str(threads)}},
        )
    try:
        yield
    finally:
        ray.shutdown()


def _check_resources(workers: int) -> bool:
    """Whether the workers get GPUs. Ray would wait for ever for what the cluster does not have."""
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    if gpus:
        if gpus < workers:
            raise OctoscaleError(f"the cluster has {gpus} GPUs for {workers} workers; ask for at most {gpus}")
        return True
    if cpus < workers:
        raise OctoscaleError(f"the cluster has {cpus} CPUs for {workers} workers; ask for at most {cpus}")
    return False
