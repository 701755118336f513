"""The dashboard of fault tolerance: what faults cost, and whether the next one would cost little."""

from grafana.panels import (
    COMMIT_AGE,
    GOODPUT,
    GREEN,
    ORANGE,
    RANKS,
    RED,
    SINCE_COMMIT,
    WALL,
    Dashboard,
    Panel,
    job,
    quantile,
    rate,
    stat,
)

_NOW = (
    GOODPUT, SINCE_COMMIT, RANKS,
    stat("Ranks that answer", "Whose metrics Prometheus reads now. Good: as many as there are ranks. Fewer: a rank "
         "hangs or has died, or its port cannot be reached.",
         "none", 'count(max by (rank) (octoscale_world_size{run="$run"}))'),
    stat("Attempt", "Number of this attempt, from 1. Good: one more for each fault that is known.", "none",
         job("octoscale_attempt")),
    stat("Restarts", "Times that the run was started again. Good: one for each known fault. Bad: many in a short "
         "time: the log of the last attempts says why.",
         "none", job("octoscale_restarts_total"), color=GREEN, thresholds=((1, ORANGE), (10, RED))),
)  # fmt: skip

_COST = (
    Panel("Goodput", "Good: it rises towards 1 between faults. Bad: it falls from attempt to attempt.",
          "percentunit", ((job("octoscale_goodput_ratio"), "goodput"),), minimum=0, maximum=1),
    WALL,
    Panel("Step", "Of the run, over all attempts. Good: a straight line; a fault is a step back to the last "
          "commit. Bad: a saw: the run dies before each commit.",
          "none", ((job("octoscale_step"), "step"),), minimum=0),
    Panel("Steps lost and done again", "Lost: steps that the attempt before had done beyond its commit. Done again: "
          "steps that an earlier attempt had done already. Good: at most one interval of commits for each fault.",
          "none", ((job("octoscale_steps_lost_total"), "lost"),
                   (job("octoscale_steps_replayed_total"), "done again")), minimum=0),
    Panel("Recovery", "From the last sign of the attempt before to this one's first step; empty in a first attempt. "
          "Good: a minute. Bad: longer than the interval between commits: large weights from slow storage, or nodes "
          "that are waited for.",
          "s", ((job("octoscale_recovery_seconds"), "recovery"),), minimum=0),
    Panel("Steps per second", "By rank. Good: equal. A rank at 0 has stopped.", "ops",
          ((rate("octoscale_steps_total", "rank"), "rank {{rank}}"),), minimum=0),
)  # fmt: skip

_COMMITS = (
    Panel("Age of the last commit", "Good: a saw that never grows above the configured interval and the time of a "
          "commit. Bad: it only rises: commits fail.",
          "s", ((COMMIT_AGE, "age"),), minimum=0),
    Panel("Time of a commit", "By stage, median and 95 %. Good: far below the interval between commits. Bad: as "
          "long as it: the storage is too slow for these weights.",
          "s", ((quantile(0.5, "octoscale_checkpoint_duration_seconds", "stage"), "{{stage}}, median"),
                (quantile(0.95, "octoscale_checkpoint_duration_seconds", "stage"), "{{stage}}, 95 %")), minimum=0),
    Panel("Time that commits hold the training up", "Share of the wall time. Good: below 1 %, with "
          "checkpoint.asynchronous. Bad: above 5 %: commit less often, or every_steps=auto.",
          "percentunit", ((rate("octoscale_step_phase_seconds_sum", "rank", only='phase="checkpoint"'),
                           "rank {{rank}}"),), thresholds=((0.05, RED),), minimum=0),
    Panel("Size of a commit", "Good: flat.", "bytes",
          ((job("octoscale_checkpoint_size_bytes"), "size"),), minimum=0),
    Panel("Failed commits", "Over all attempts. Good: 0. More: the run ends at the next step, and the log says "
          "why.",
          "none", ((job("octoscale_checkpoint_failures_total"), "failed"),), thresholds=((1, RED),), minimum=0),
    Panel("Damaged commits", "Found when resuming; the run then goes on from an older one. Good: 0. More: the "
          "storage loses or changes data.",
          "none", ((job("octoscale_checkpoint_corrupt_total"), "damaged"),), thresholds=((1, RED),), minimum=0),
)  # fmt: skip

_STORAGES = (
    Panel("Retries", "By operation and cause, all ranks; empty as long as there were none. Good: none, or now and "
          "then.",
          "reqps", ((rate("octoscale_storage_retries_total", "operation", "cause"),
                     "{{operation}}: {{cause}}"),), minimum=0, width=12),
    Panel("Failures", "Operations that failed for good, in a second. Good: 0 throughout.", "ops",
          ((rate("octoscale_storage_failures_total", "operation"), "{{operation}}"),), minimum=0, width=12),
)  # fmt: skip

FAULTS = Dashboard(
    "octoscale-faults",
    "octoscale: fault tolerance",
    "What faults have cost, and whether the next one would cost little.",
    (("Now", _NOW), ("What faults cost", _COST), ("Commits", _COMMITS), ("Storages", _STORAGES)),
)
