"""What a run's metrics are made of: each step, each commit, each evaluation, and what the ranks tell each other."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from octoscale.data.cache import caches
from octoscale.data.loader import Batch
from octoscale.data.prefetch import cache_lookups
from octoscale.data.retry import counters
from octoscale.distributed.world import World
from octoscale.heartbeat import Heartbeat
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.diagnostics import Diagnostics
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.metrics import Metrics

PHASES = ("data_wait", "degrade", "embed", "exchange", "mine", "loss", "second_pass", "optimizer")


@dataclass(frozen=True)
class StepLine:
    """One step of the run, over the global batch. `step` counts from 1."""

    step: int
    epoch: int
    batch: int
    sample_ids_crc32: int
    learning_rate: float
    step_seconds: float
    data_wait_seconds: float
    result: StepResult

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StepLine":
        result = values["result"]
        terms = {term: TermMeans(**means) for term, means in result["terms"].items()}
        found = result.get("diagnostics")
        diagnostics = None if found is None else Diagnostics(**found)
        return cls(**{**values, "result": StepResult(**{**result, "terms": terms, "diagnostics": diagnostics})})


class Measured:
    """Turns what happens on this rank into metrics.

    Args:
        ledger: of the run's wall time.
        former: the last sign of life of the attempt before; None where there is none.
        image_flops: of the model for one image, forward; None where they are not known.
        peak_flops: of this rank's device, per second.
    """

    def __init__(
        self,
        metrics: Metrics,
        ledger: WallLedger,
        world: World,
        *,
        former: Heartbeat | None = None,
        image_flops: float | None = None,
        peak_flops: float | None = None,
    ) -> None:
        self._metrics = metrics
        self._ledger = ledger
        self._world = world
        self._image_flops = image_flops
        self._peak_flops = peak_flops
        self._former = former
        self._reached = 0 if former is None else former.reached
        self.checkpoint_failures = 0
        if former is not None:
            self._fail(former.checkpoint_failures)
        # Of the step that the other ranks have not been told of: the phases, then two counts.
        self._untold = [0.0] * (len(PHASES) + 2)

    def step(self, line: StepLine, batch: Batch) -> None:
        """One step that this rank has done with `batch`."""
        metrics, result = self._metrics, line.result
        phases = {"data_wait": line.data_wait_seconds, **result.phase_seconds}
        metrics.add("octoscale_steps_total")
        metrics.add("octoscale_steps_skipped_total", result.skipped)
        metrics.add("octoscale_samples_total", len(batch.sample_ids))
        metrics.add("octoscale_quarantined_samples_total", len(batch.substitutions))
        metrics.add("octoscale_exchange_bytes_total", result.sent_bytes)
        metrics.observe("octoscale_step_seconds", line.step_seconds)
        for phase, seconds in phases.items():
            metrics.observe("octoscale_step_phase_seconds", seconds, phase=phase)
        metrics.set("octoscale_step", line.step)
        metrics.set("octoscale_epoch", line.epoch)
        metrics.set("octoscale_loader_queue_depth", batch.queue_depth)
        metrics.set("octoscale_learning_rate", line.learning_rate)
        metrics.set("octoscale_gradient_norm", result.gradient_norm)
        metrics.set("octoscale_embedding_norm", result.embedding_norm)
        metrics.set("octoscale_embedding_norm_deviation", result.embedding_norm_deviation)
        if result.loss_scale is not None:
            metrics.set("octoscale_loss_scale", result.loss_scale)
        if result.distillation is not None:
            metrics.set("octoscale_distillation_loss", result.distillation)
        for name, term in result.terms.items():
            metrics.set("octoscale_loss", term.loss, term=name)
            metrics.set("octoscale_triplet_active_ratio", term.active_fraction, term=name)
            metrics.set("octoscale_triplet_inverted_ratio", term.nearer_fraction, term=name)
            metrics.set("octoscale_positive_distance", term.positive_distance, term=name)
            metrics.set("octoscale_negative_distance", term.negative_distance, term=name)
        if "hhh" in result.terms:
            metrics.set("octoscale_suspected_label_noise_ratio", result.terms["hhh"].suspect_fraction)
        if result.diagnostics is not None:
            metrics.set("octoscale_embedding_effective_rank", result.diagnostics.effective_rank)
            for name, anchors in result.diagnostics.largest_hub.items():
                metrics.set("octoscale_largest_hub_anchors", anchors, term=name)
        self._model_flops(len(batch.sample_ids), line.step_seconds + line.data_wait_seconds)
        self._device_memory()
        self._data()
        self._after_a_restart(line.step)
        self._ledger.stopped("data_wait", line.data_wait_seconds)
        counts = (len(batch.substitutions), result.sent_bytes)
        self._untold = [*(phases.get(phase, 0.0) for phase in PHASES), *map(float, counts)]

    def together(self, flag: bool, *, step: int, global_batch_size: int) -> bool:
        """True on every rank if `flag` is true on one of them. With it travels what rank 0 tells of all ranks.

        Called by all ranks together, at the end of `step`.
        """
        size, rank = len(self._untold), self._world.rank
        told = [0.0] * (1 + size * self._world.world_size)
        told[0] = float(flag)
        told[1 + rank * size : 1 + (rank + 1) * size] = self._untold
        self._untold = [0.0] * size
        flagged, *rest = self._world.mean(told)
        if self._world.is_main:
            self._metrics.add("octoscale_job_samples_total", global_batch_size)
            # [ranks, phases and counts]; the mean is over slots of which one is this rank's own.
            ranks = torch.tensor(rest, dtype=torch.float64).view(-1, size) * self._world.world_size
            quarantined, sent_bytes = ranks[:, len(PHASES) :].sum(0).tolist()
            self._metrics.add("octoscale_job_quarantined_samples_total", round(quarantined))
            self._metrics.add("octoscale_job_exchange_bytes_total", round(sent_bytes))
            means, (most, slowest) = ranks.mean(0).tolist(), (found.tolist() for found in ranks.max(0))
            for number, phase in enumerate(PHASES):
                self._metrics.set("octoscale_job_phase_seconds_mean", means[number], phase=phase)
                self._metrics.set("octoscale_job_phase_seconds_max", most[number], phase=phase)
                self._metrics.set("octoscale_job_slowest_rank", slowest[number], phase=phase)
        self._metrics.end_step(step)
        return flagged > 0

    def stalled(self, seconds: float) -> None:
        """The training stood still so long for a commit."""
        self._metrics.observe("octoscale_step_phase_seconds", seconds, phase="checkpoint")
        self._ledger.stopped("checkpoint", seconds)

    def committed(self, seconds: float, size_bytes: int) -> None:
        """A state of so many bytes is safe, `seconds` after it was to be."""
        self._metrics.observe("octoscale_checkpoint_duration_seconds", seconds, stage="commit")
        self._metrics.set("octoscale_checkpoint_last_committed_timestamp_seconds", time.time())
        self._metrics.set("octoscale_checkpoint_size_bytes", size_bytes)

    def commit_failed(self) -> None:
        """A commit has failed."""
        self._fail(1)

    def evaluated(self, seconds: float, accuracy: Iterable[tuple[str, int, float]]) -> None:
        """An evaluation: mode, resolution and accuracy, 0–1."""
        self._metrics.observe("octoscale_step_phase_seconds", seconds, phase="evaluate")
        self._ledger.stopped("evaluate", seconds)
        for mode, resolution, value in accuracy:
            self._metrics.set("octoscale_evaluation_accuracy_ratio", value, mode=mode, resolution=str(resolution))

    def _fail(self, commits: int) -> None:
        self.checkpoint_failures += commits
        self._metrics.add("octoscale_checkpoint_failures_total", commits)

    def _after_a_restart(self, step: int) -> None:
        """What the end of the attempt before cost, known with this one's first step; then step by step."""
        self._ledger.stepped()
        if self._former is not None:
            self._metrics.add("octoscale_steps_lost_total", max(0, self._former.step - (step - 1)))
            self._former = None
        self._metrics.add("octoscale_steps_replayed_total", step <= self._reached)

    def _model_flops(self, images: int, seconds: float) -> None:
        if self._image_flops is None:
            return
        # High and low, each forward and, at twice the cost, backward. A second forward pass is overhead, not work.
        rate = 2 * images * 3 * self._image_flops / seconds
        self._metrics.set("octoscale_model_flops_per_second", rate)
        if self._peak_flops is not None:
            self._metrics.set("octoscale_mfu_ratio", rate / self._peak_flops)

    def _device_memory(self) -> None:
        device = self._world.device
        if device.type == "cuda":
            self._metrics.set("octoscale_device_memory_bytes", torch.cuda.memory_allocated(device), kind="allocated")
            self._metrics.set("octoscale_device_memory_bytes", torch.cuda.max_memory_allocated(device), kind="peak")

    def _data(self) -> None:
        """What the data path has counted in this process, other threads included."""
        metrics = self._metrics
        for result, count in list(cache_lookups.items()):
            metrics.raise_to("octoscale_cache_lookups_total", count, result=result)
        if held := list(caches):
            metrics.set("octoscale_cache_bytes", sum(cache.stored_bytes for cache in held))
        for operation, counts in counters.snapshot().items():
            metrics.raise_to("octoscale_storage_requests_total", counts.requests, operation=operation)
            metrics.raise_to("octoscale_storage_failures_total", counts.failures, operation=operation)
            metrics.raise_to("octoscale_storage_read_bytes_total", counts.bytes_read, operation=operation)
            metrics.raise_to("octoscale_storage_written_bytes_total", counts.bytes_written, operation=operation)
            for cause, retries in counts.retries.items():
                metrics.raise_to("octoscale_storage_retries_total", retries, operation=operation, cause=cause)
