"""The train function under Ray Train: Ray places and restarts the workers, the run resumes itself."""

import logging
import os
import tempfile
import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import ray
import ray.train
import ray.train.torch
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from octoscale.config import Config, parse_config
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.evaluation import Evaluation
from octoscale.geometry import possible_geometries
from octoscale.interruption import Interruption, interruption
from octoscale.orchestrate import bell
from octoscale.orchestrate.cluster import check_resources, connected, signals_restored
from octoscale.orchestrate.elastic import ElasticTrainer
from octoscale.orchestrate.news import heard, telling
from octoscale.orchestrate.notices import CatchSigterm, watch_for_preemption, watch_for_the_bell, wish
from octoscale.orchestrate.timeouts import ShutdownTimeout, limit_exchanges, ray_timeouts
from octoscale.resilience import Workers, possible_world_sizes
from octoscale.telemetry.logging import set_up_logging
from octoscale.telemetry.output import Tell, silent
from octoscale.train import train

logger = logging.getLogger(__name__)

# How Ray tells of a rank whose process has ended or does not answer.
_GONE = (WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError)


@dataclass(frozen=True)
class LaunchResult:
    """How the run ended, as rank 0 told it."""

    status: Literal["finished", "interrupted"]
    step: int
    baseline: Evaluation | None
    final: Evaluation | None


def launch(config: Config, *, address: str | None = None, quiet: bool = False, tell: Tell = silent) -> LaunchResult:
    """Train under Ray Train, with the workers and the timeouts of `config.resilience`.

    A worker or a node that dies takes the worker group down; Ray starts the group again, with fewer or more workers
    where the run is elastic, and the run goes on from its newest whole commit. Ray itself keeps no state of the run.
    Workers whose node will be taken away commit first. So do all of them at SIGTERM, which ends the run.

    Args:
        config: the run. Local paths are made absolute here, since workers have a directory of their own; on
            several nodes they must be URLs, or paths that all nodes see.
        address: an existing cluster (``auto``, ``host:port``); None starts one on this machine for the run.
        quiet: only warnings from the workers.
        tell: told the events of `train`, from rank 0.

    Raises:
        OctoscaleError: the batch does not divide, the cluster is too small or out of reach, or the run
            itself met something that the user can mend.
    """
    sizes = possible_world_sizes(config.global_batch_size, config.resilience.world)
    workers = Workers(sizes[0], sizes[-1])
    if workers != config.resilience.world:
        logger.warning("the batch divides into whole pairs on %s workers: these are used", " or ".join(map(str, sizes)))
    config = config.with_absolute_paths()
    *others, largest = possible_geometries(config)
    for line in largest.lines(config, others):
        logger.info("%s", line)
    with (
        signals_restored(),
        ray_timeouts(config.resilience),
        connected(address, workers.maximum),
        tempfile.TemporaryDirectory(prefix="octoscale-ray-") as scratch,
        interruption() as stop,
        heard(tell) as ear,
    ):
        settings = config.resilience
        gpus = check_resources(workers, gpus=settings.gpus, wait_seconds=settings.node_wait_seconds)
        storage = scratch if address is None else f"{config.directory.rstrip('/')}/ray"
        while True:
            told = _attempts(config, sizes, stop, gpus=gpus, storage=storage, quiet=quiet, ear=ear)
            if told["status"] == "finished" or stop.asked:
                break
            # Asked to leave, not failed: it counts as no failure, and Ray looks for new places.
            logger.warning("the workers left after step %d was committed; starting them again", told["step"])
    baseline, final = (None if text is None else Evaluation.from_json(text) for text in told["evaluations"])
    return LaunchResult(told["status"], told["step"], baseline, final)


def _attempts(
    config: Config, sizes: list[int], stop: Interruption, *, gpus: bool, storage: str, quiet: bool, ear: str
) -> dict[str, Any]:
    """Ray's attempts, until the run is finished or its workers are asked to leave; what rank 0 returned."""
    with bell.hung_up(stop) as bell_name:
        arguments = {"config": config.model_dump(mode="json"), "quiet": quiet, "bell": bell_name, "ear": ear}
        trainer = _trainer(config, sizes, arguments, gpus=gpus, storage=storage)
        try:
            result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            cause = error.controller_failure if isinstance(error, ray.train.ControllerError) else None
            if isinstance(cause, OctoscaleError):
                raise OctoscaleError(str(cause)) from error
            raise OctoscaleError(
                f"the workers were started again up to {config.resilience.max_failures} times in vain; the last cause:"
                f"\n{error}\nwhat was committed is in {config.directory}; launch again to go on from there"
            ) from error
        except SystemExit as end:
            # Ray's answer to Ctrl-C is the exit code of success.
            if end.code:
                raise
            raise KeyboardInterrupt from end
    told: dict[str, Any] = result.return_value
    return told


def _trainer(
    config: Config, sizes: list[int], arguments: dict[str, Any], *, gpus: bool, storage: str
) -> ray.train.torch.TorchTrainer:
    settings = config.resilience
    elastic = len(sizes) > 1
    following = partial(ElasticTrainer, sizes=sizes, bell=arguments["bell"], run=config.directory)
    return (following if elastic else ray.train.torch.TorchTrainer)(
        _train_worker,
        train_loop_config=arguments,
        torch_config=ray.train.torch.TorchConfig(timeout_s=int(settings.rendezvous_timeout_seconds)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(sizes[0], sizes[-1]) if elastic else sizes[0],
            use_gpu=gpus,
            elastic_resize_monitor_interval_s=settings.resize_seconds,
        ),
        run_config=ray.train.RunConfig(
            # Never used twice: a damaged snapshot of an earlier attempt would stop Ray's controller.
            name=f"octoscale-{uuid.uuid4().hex[:8]}",
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            callbacks=[_Failures(), CatchSigterm(), ShutdownTimeout(settings.shutdown_timeout_seconds)],
            # What went wrong is told by the callback and by this function: once, and without Ray's own frames.
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),
        ),
    )


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
    config = parse_config(arguments["config"], source="sent to the workers")
    limit_exchanges(config.resilience.process_group_timeout_seconds)
    watch_for_the_bell(arguments["bell"])
    if os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") != "0":
        watch_for_preemption(config.resilience.preemption_poll_seconds)
    with telling(arguments["ear"]) as tell:
        summary = train(config, world, quiet=True, wish=wish, tell=tell)
    evaluations = [None if it is None else it.to_json() for it in (summary.baseline, summary.final)]
    return {"status": summary.status, "step": summary.position.step, "evaluations": evaluations}


class _Failures(ray.train.UserCallback):
    """In Ray's controller: says which worker failed, and ends the run where no new start would mend it."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        set_up_logging()
        # Where a rank died, the others may say so in an error that else is the user's: their commit failed.
        all_alive = not any(isinstance(error, _GONE) for error in worker_exceptions.values())
        for rank, error in sorted(worker_exceptions.items()):
            if isinstance(error, OctoscaleError) and all_alive:
                # An error of the controller: Ray does not try again, and hands it to `launch`.
                raise error
            cause = (str(error).strip().splitlines() or [""])[0]
            logger.warning("rank %d failed: %s: %s", rank, type(error).__name__, cause)
