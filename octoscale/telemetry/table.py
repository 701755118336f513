"""Every metric of a run: its kind, its name, what it means, and its labels beside `run` and `rank`.

docs/metrics.md is the same table for readers.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

# From a phase of a tiny network's step on a laptop to an evaluation of a large one.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True)
class Metric:
    """One metric. `is_job`: of all ranks together, told by rank 0."""

    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...] = ()
    is_job: bool = False


METRICS = (
    # Time.
    Metric("histogram", "octoscale_step_seconds", "Wall time of an optimizer step, without the wait for its batch"),
    Metric("histogram", "octoscale_step_phase_seconds", "Time of a step's phase", ("phase",)),
    Metric("counter", "octoscale_wall_seconds_total", "Wall time of the run, over all attempts", ("state",)),
    Metric("gauge", "octoscale_goodput_ratio", "Share of the run's wall time that advanced the training"),
    Metric("gauge", "octoscale_recovery_seconds", "From the last sign of the attempt before to this one's first step"),
    # Progress.
    Metric("counter", "octoscale_steps_total", "Optimizer steps done by this process"),
    Metric("counter", "octoscale_steps_skipped_total", "Steps skipped because fp16 gradients overflowed"),
    Metric("counter", "octoscale_samples_total", "High-resolution images this rank trained on"),
    Metric("gauge", "octoscale_step", "Optimizer step of the run, over all attempts"),
    Metric("gauge", "octoscale_epoch", "Epoch of the run, from 0"),
    Metric("gauge", "octoscale_world_size", "Ranks of this attempt"),
    Metric("gauge", "octoscale_attempt", "Number of this attempt, from 1"),
    Metric("counter", "octoscale_restarts_total", "Times that the run was started again, over all attempts"),
    Metric("counter", "octoscale_steps_lost_total", "Steps that the attempt before had done beyond its commit"),
    Metric("counter", "octoscale_steps_replayed_total", "Steps that an earlier attempt had done already"),
    # The loss and its mining.
    Metric("gauge", "octoscale_loss", "Octuplet loss by term, mean over the global batch", ("term",)),
    Metric("gauge", "octoscale_distillation_loss", "Distillation, weighted, mean over the global batch"),
    Metric("gauge", "octoscale_triplet_active_ratio", "Anchors whose triplet is inside the margin", ("term",)),
    Metric(
        "gauge", "octoscale_triplet_inverted_ratio", "Anchors whose negative is nearer than the positive", ("term",)
    ),
    Metric("gauge", "octoscale_positive_distance", "Mean distance anchor to positive", ("term",)),
    Metric("gauge", "octoscale_negative_distance", "Mean distance anchor to negative", ("term",)),
    Metric("gauge", "octoscale_largest_hub_anchors", "Anchors that share the most frequent negative", ("term",)),
    Metric("gauge", "octoscale_suspected_label_noise_ratio", "Anchors whose high triplet suggests a wrong label"),
    Metric("gauge", "octoscale_embedding_norm", "Mean norm of the embeddings of the global batch"),
    Metric("gauge", "octoscale_embedding_norm_deviation", "Standard deviation of the embeddings' norms"),
    Metric("gauge", "octoscale_embedding_effective_rank", "Directions that the embeddings use"),
    Metric("gauge", "octoscale_gradient_norm", "Global gradient norm before clipping"),
    Metric("gauge", "octoscale_learning_rate", "Learning rate of the last step"),
    Metric("gauge", "octoscale_loss_scale", "Factor that keeps fp16 gradients from vanishing"),
    Metric("counter", "octoscale_exchange_bytes_total", "Bytes this rank sent to others for the loss"),
    # Data.
    Metric("gauge", "octoscale_loader_queue_depth", "Batches ready when the last one was taken"),
    Metric("counter", "octoscale_quarantined_samples_total", "Planned images of this rank that another stood in for"),
    Metric("counter", "octoscale_cache_lookups_total", "Shards that a batch looked for in the cache", ("result",)),
    Metric("gauge", "octoscale_cache_bytes", "Bytes of shards in the cache of this rank's node"),
    Metric("counter", "octoscale_storage_requests_total", "Requests to storages, with retries", ("operation",)),
    Metric("counter", "octoscale_storage_retries_total", "Requests made again", ("operation", "cause")),
    Metric("counter", "octoscale_storage_failures_total", "Operations that failed for good", ("operation",)),
    Metric("counter", "octoscale_storage_read_bytes_total", "Bytes read from storages", ("operation",)),
    Metric("counter", "octoscale_storage_written_bytes_total", "Bytes written to storages", ("operation",)),
    # Commits and evaluations.
    Metric("histogram", "octoscale_checkpoint_duration_seconds", "Wall time of a stage of a commit", ("stage",)),
    Metric("gauge", "octoscale_checkpoint_last_committed_timestamp_seconds", "Unix time of the last commit"),
    Metric("gauge", "octoscale_checkpoint_size_bytes", "Size of the last commit"),
    Metric("counter", "octoscale_checkpoint_failures_total", "Commits that failed, over all attempts"),
    Metric("counter", "octoscale_checkpoint_corrupt_total", "Commits found damaged when resuming"),
    Metric("gauge", "octoscale_evaluation_accuracy_ratio", "10-fold verification accuracy", ("mode", "resolution")),
    # The device.
    Metric("gauge", "octoscale_device_memory_bytes", "Memory of this rank's GPU in use by PyTorch", ("kind",)),
    Metric("gauge", "octoscale_model_flops_per_second", "Floating-point operations of the model per second"),
    Metric("gauge", "octoscale_mfu_ratio", "Share of the device's peak that the model used"),
    Metric("gauge", "octoscale_build_info", "Always 1", ("version", "torch")),
    # Of all ranks, so that scraping rank 0 alone is enough.
    Metric("counter", "octoscale_job_samples_total", "High-resolution images of all ranks", is_job=True),
    Metric("counter", "octoscale_job_quarantined_samples_total", "Quarantined samples of all ranks", is_job=True),
    Metric("counter", "octoscale_job_exchange_bytes_total", "Bytes sent by all ranks for the loss", is_job=True),
    Metric("gauge", "octoscale_job_phase_seconds_mean", "Last step's phase, mean over ranks", ("phase",), is_job=True),
    Metric("gauge", "octoscale_job_phase_seconds_max", "Last step's phase, slowest rank", ("phase",), is_job=True),
    Metric("gauge", "octoscale_job_slowest_rank", "The rank slowest in the phase", ("phase",), is_job=True),
)
