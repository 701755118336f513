"""A worker group whose size follows the cluster, and always divides the batch.

Ray's own elastic policy counts the workers that fit; here that count is rounded down to a world size that the batch
allows. Ray 2.60 has no public setting for a policy, hence the two private names of it that this module uses.
"""

import logging
import time
from types import SimpleNamespace
from typing import Any

import ray
import ray.train.torch
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState

from octoscale.orchestrate.bell import ring
from octoscale.telemetry.logging import set_up_logging

logger = logging.getLogger(__name__)

# A busy node may take seconds.
_ANSWER_SECONDS = 5.0


class ElasticTrainer(ray.train.torch.TorchTrainer):
    """Ray's trainer, with a worker group of one of `sizes`; `run`: the same for all attempts, another for others."""

    def __init__(self, *arguments: Any, sizes: list[int], bell: str, run: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._sizes, self._bell, self._run = sizes, bell, run

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        policy = DividingPolicy(self.scaling_config, self._sizes, self._bell, self._run)
        return super()._initialize_and_run_controller(**{**parts, "scaling_policy": policy})


class DividingPolicy(ElasticScalingPolicy):
    """In Ray's controller: as many workers as the nodes that stay can hold and the batch allows."""

    def __init__(self, scaling_config: ray.train.ScalingConfig, sizes: list[int], bell: str, run: str) -> None:
        super().__init__(scaling_config)
        self._sizes, self._bell, self._run = sizes, bell, run
        self._said: tuple[int, int] | None = None
        self._asked_at = float("-inf")
        self._reserved: dict[str, dict[str, float]] | None = None

    def after_controller_start(self, train_run_context: Any) -> None:
        # Under a name of its own, what a killed driver had asked for would be kept for it for three minutes.
        super().after_controller_start(SimpleNamespace(run_id=self._run))

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        decision = super().make_decision_for_non_running_worker_group()
        if isinstance(decision, NoopDecision):
            # Ray would ask again at once, for as long as there are too few nodes.
            time.sleep(0.5)
        return decision

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        # A node that leaves is known by its notice, or by its death.
        if isinstance(decision, ResizeDecision) and decision.num_workers > worker_group_state.num_workers:
            # Ray would end them in the middle of a step. They commit and leave, and the next group is larger.
            ring(self._bell, f"there is room for {decision.num_workers} workers")
        return NoopDecision()

    def _get_reserved_resources(self) -> dict[str, dict[str, float]] | None:
        """What the cluster has for this run, by node; None where it cannot be told now."""
        now = time.monotonic()
        if now - self._asked_at >= self.GET_RESERVED_RESOURCES_INTERVAL_S:
            # Without `recompute` the answer is up to 20 s old: a run would start without a node that has just come.
            answer = self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
            self._reserved = None
            try:
                self._reserved = ray.get(answer, timeout=_ANSWER_SECONDS)
            except ray.exceptions.RayError as error:
                logger.warning("the cluster does not tell what it has, asking again: %s", error)
            self._asked_at = time.monotonic()
        return self._reserved

    def _count_possible_workers(self, reserved_resources: dict[str, dict[str, float]]) -> int:
        # Among them are nodes that are about to be taken away.
        leaving = ray._private.state.state.get_draining_nodes()
        staying = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - leaving.keys()
        there = {node: resources for node, resources in reserved_resources.items() if node in staying}
        offered = super()._count_possible_workers(there)
        chosen = nearest_size(self._sizes, offered)
        if (offered, chosen) != self._said:
            self._said = offered, chosen
            set_up_logging()
            wanted = self._sizes[-1]
            if chosen == 0:
                logger.warning("the cluster has room for %d workers: waiting for %d", offered, self._sizes[0])
            elif chosen < offered:
                logger.warning(
                    "the cluster has room for %d workers, the batch divides on %d: taking these", offered, chosen
                )
            elif chosen < wanted:
                logger.warning("the cluster has room for %d of at most %d workers: taking them", chosen, wanted)
        return chosen


def nearest_size(sizes: list[int], offered: int) -> int:
    """The largest of `sizes` (ascending) that is at most `offered`; 0 where there is none."""
    return max((size for size in sizes if size <= offered), default=0)
