"""What a step, a commit and an evaluation become in the metrics of a rank; several ranks: tests/distributed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from octoscale.data.loader import Batch
from octoscale.data.reader import Substitution
from octoscale.distributed.world import World
from octoscale.heartbeat import Heartbeat
from octoscale.measured import Measured, StepLine
from octoscale.step import StepResult, TermMeans
from octoscale.telemetry.diagnostics import Diagnostics
from octoscale.telemetry.goodput import WallLedger
from octoscale.telemetry.metrics import Metrics


def line_of(rank: int) -> StepLine:
    terms = {"hhh": TermMeans(0.5, 0.25, 1.0, 2.0, 0.125, 0.0625)}
    result = StepResult(
        0.5, terms, 3.0, 4.0, embedding_norm_deviation=0.5, loss_scale=1024.0, distillation=0.125,
        diagnostics=Diagnostics(7.5, {"hhh": 3}), phase_seconds={"embed": 1.0 + rank, "exchange": 2.0 - rank},
        sent_bytes=1000 * (rank + 1),
    )  # fmt: skip
    return StepLine(1, 0, 0, 5, 1e-3, step_seconds=4.0, data_wait_seconds=0.25, result=result)


def batch_of(rank: int) -> Batch:
    substitutions = tuple(Substitution(number, 9, "gone") for number in range(3 * rank))
    return Batch(torch.zeros(8, 3, 2, 2), torch.arange(8) // 2, torch.arange(8), substitutions, queue_depth=2)


def values_after_a_step(world: World) -> dict[tuple[str, str], float]:
    """Of every series, by its name and its own label."""
    metrics = Metrics(run="test", rank=world.rank)
    measured = Measured(metrics, WallLedger(metrics), world, image_flops=1e6, peak_flops=1e9)
    measured.step(line_of(world.rank), batch_of(world.rank))
    assert measured.together(world.rank == world.world_size - 1, step=1, global_batch_size=8 * world.world_size)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    own = ("term", "phase", "kind", "state", "mode", "stage")
    return {
        (s.name, "".join(s.labels.get(label, "") for label in own)): s.value for s in samples if "le" not in s.labels
    }


def test_a_step_becomes_its_metrics() -> None:
    found = values_after_a_step(World())

    for name, label, value in (
        ("octoscale_samples_total", "", 8),
        ("octoscale_loader_queue_depth", "", 2),
        ("octoscale_loss_scale", "", 1024),
        ("octoscale_distillation_loss", "", 0.125),
        ("octoscale_triplet_inverted_ratio", "hhh", 0.125),
        ("octoscale_suspected_label_noise_ratio", "", 0.0625),
        ("octoscale_embedding_norm_deviation", "", 0.5),
        ("octoscale_embedding_effective_rank", "", 7.5),
        ("octoscale_largest_hub_anchors", "hhh", 3),
        ("octoscale_exchange_bytes_total", "", 1000),
        ("octoscale_step_phase_seconds_sum", "embed", 1),
        ("octoscale_step_phase_seconds_sum", "data_wait", 0.25),
        # 8 images, high and low, forward and backward; 4.25 s.
        ("octoscale_model_flops_per_second", "", 8 * 2 * 3 * 1e6 / 4.25),
        ("octoscale_mfu_ratio", "", 8 * 2 * 3 * 1e6 / 4.25 / 1e9),
    ):
        assert found[name, label] == pytest.approx(value), name


def test_commits_and_evaluations_are_measured() -> None:
    metrics = Metrics(run="test", rank=0)
    ledger = WallLedger(metrics)
    measured = Measured(metrics, ledger, World())
    measured.stalled(0.5)
    measured.committed(2.0, 1000)
    measured.commit_failed()
    measured.evaluated(3.0, [("cross", 7, 0.875)])

    def value(name: str, **labels: str) -> Any:
        return metrics.registry.get_sample_value(name, {"run": "test", "rank": "0", **labels})

    assert value("octoscale_step_phase_seconds_sum", phase="checkpoint") == 0.5
    assert value("octoscale_step_phase_seconds_sum", phase="evaluate") == 3
    assert value("octoscale_checkpoint_duration_seconds_sum", stage="commit") == 2
    assert value("octoscale_checkpoint_last_committed_timestamp_seconds") > 0
    assert value("octoscale_checkpoint_size_bytes") == 1000
    assert value("octoscale_checkpoint_failures_total") == measured.checkpoint_failures == 1
    assert value("octoscale_evaluation_accuracy_ratio", mode="cross", resolution="7") == 0.875
    assert ledger.seconds()["checkpoint"] == 0.5


def test_a_restart_tells_what_was_lost_and_what_is_done_again() -> None:
    metrics = Metrics(run="test", rank=0)
    # An earlier attempt came to step 9; the one before this to 7; this one goes on from 4.
    former = Heartbeat(attempt=2, step=7, time=1000.0, reached=9, checkpoint_failures=1)
    measured = Measured(metrics, WallLedger(metrics), World(), former=former)
    for step in range(5, 13):
        measured.step(replace(line_of(0), step=step), batch_of(0))

    labels = {"run": "test", "rank": "0"}
    assert metrics.registry.get_sample_value("octoscale_steps_lost_total", labels) == 3
    assert metrics.registry.get_sample_value("octoscale_steps_replayed_total", labels) == 5
    assert metrics.registry.get_sample_value("octoscale_checkpoint_failures_total", labels) == 1
