"""The dashboard of a run as a whole."""

from grafana.panels import (
    GOODPUT,
    GREEN,
    LEARNING_RATE,
    PHASES,
    RANKS,
    RED,
    SINCE_COMMIT,
    WALL,
    Dashboard,
    Panel,
    job,
    quantile,
    ranks,
    rate,
    stat,
)

_NOW = (
    stat("Step", "Optimizer steps of the run, over all attempts. Good: it grows.", "none",
         job("octoscale_step")),
    stat("Epoch", "From 0. Good: it grows; where `epochs` is configured, the run ends at that number.", "none",
         job("octoscale_epoch")),
    stat("Images per second", "High-resolution images of all ranks. Good: steady, and in proportion to the "
         "ranks. 0: nothing trains.", "none", rate("octoscale_job_samples_total"), color=RED,
         thresholds=((0.001, GREEN),)),
    GOODPUT, SINCE_COMMIT, RANKS,
)  # fmt: skip

_LEARNING = (
    Panel("Loss", "Octuplet loss: the sum of its terms, mean over the global batch. Good: it falls, with noise. "
          "Bad: it rises for many steps, or stays at the margin times the number of terms, where all "
          "embeddings are one point.",
          "none", ((f"sum({job('octoscale_loss', 'term')})", "loss"),), minimum=0),
    Panel("Accuracy", "10-fold verification accuracy of the last evaluation. Good: low resolutions rise while "
          "the highest stays. Bad: the highest falls by more than a point.",
          "percentunit", ((job("octoscale_evaluation_accuracy_ratio", "mode", "resolution"),
                           "{{mode}} {{resolution}} px"),), maximum=1),
    LEARNING_RATE,
)  # fmt: skip

_SPEED = (
    Panel("Time of a step", "Over all ranks, without the wait for the batch. Good: flat, both lines near each "
          "other. Bad: 95 % far above the median: a rank or a node is slow at times.",
          "s", ((quantile(0.5, "octoscale_step_seconds"), "median"),
                (quantile(0.95, "octoscale_step_seconds"), "95 %")), minimum=0),
    PHASES, WALL,
    Panel("Images per second", "High-resolution images of all ranks. Good: flat. Bad: it sags as the run gets "
          "on, or after a restart with fewer ranks.",
          "none", ((rate("octoscale_job_samples_total"), "images / s"),), minimum=0, width=24),
)  # fmt: skip

_DEVICE = (
    Panel("Floating-point operations", "Of the model, per second and rank; recomputed passes do not count. Good: "
          "equal ranks. Bad: one that is lower than the others.",
          "flops", ((ranks("octoscale_model_flops_per_second"), "rank {{rank}}"),), minimum=0),
    Panel("Model FLOP utilisation", "Share of `telemetry.peak_flops`; empty where that is not set. Good: above "
          "40 % on a GPU in bf16. Bad: below 10 %: small micro_batch_size, or waiting.",
          "percentunit", ((ranks("octoscale_mfu_ratio"), "rank {{rank}}"),), minimum=0),
    Panel("GPU memory", "In use by PyTorch; empty on CPUs. Good: the peak is flat after the first steps, and "
          "below the device's memory. Bad: it grows from step to step.",
          "bytes", ((ranks("octoscale_device_memory_bytes", "kind"), "rank {{rank}} {{kind}}"),), minimum=0),
)  # fmt: skip

_VERSIONS = (
    Panel("Versions", "What runs on each rank. Good: one version of each. Bad: ranks that differ.", "none",
          (('count by (version, torch) (octoscale_build_info{run="$run"})', ""),), "table",
          width=24, height=4),
)  # fmt: skip

RUN = Dashboard(
    "octoscale-run",
    "octoscale: run",
    "How far a run is, how fast it goes, and how good the network has become.",
    (("Now", _NOW), ("Learning", _LEARNING), ("Speed", _SPEED), ("Device", _DEVICE), ("Versions", _VERSIONS)),
)
