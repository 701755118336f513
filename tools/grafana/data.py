"""The dashboard of the data plane: from the storage to the batch on the device."""

from grafana.panels import GREEN, ORANGE, RED, Dashboard, Panel, grown, job, ranks, rate, stat

_CHOSEN = 'rank=~"$rank"'
_WAITED = rate("octoscale_step_phase_seconds_sum", only='phase="data_wait"')
_STEPPED = rate("octoscale_step_seconds_sum")
_HITS = rate("octoscale_cache_lookups_total", only='result="hit"')

_NOW = (
    stat("Waiting for data", "Share of the training's time in which it waited for a batch. Good: below 5 %. Bad: "
         "above 20 %: more data.workers, a cache that holds the shards, or storage that is nearer.",
         "percentunit", f"{_WAITED} / ({_STEPPED} + {_WAITED})", color=GREEN,
         thresholds=((0.05, ORANGE), (0.2, RED))),
    stat("Batches ready", "On the rank that has fewest. Good: above 0. 0 for long: the loader is the bottleneck.",
         "none", f"min({ranks('octoscale_loader_queue_depth')})", color=ORANGE, thresholds=((1, GREEN),)),
    stat("Quarantined", "Planned images of all ranks, in the time shown, that another of the same identity stood "
         "in for. Good: 0. More: damaged shards; the log names the samples.",
         "none", grown("octoscale_job_quarantined_samples_total"), color=GREEN, thresholds=((1, RED),)),
    stat("Failed requests", "Operations of the storages, in the time shown, that failed for good. Good: 0.",
         "none", f"sum({grown('octoscale_storage_failures_total', 'operation')})", color=GREEN,
         thresholds=((1, RED),)),
    stat("Read", "From the storages by all ranks, in a second; the processes of data.workers count apart. "
         "Good: near 0 once the shards are on the nodes.", "Bps",
         f"sum({rate('octoscale_storage_read_bytes_total', 'operation')})"),
    stat("Shards in the cache", "Share of the lookups that found the shard on the node's disk; empty where the "
         "data set is local. Good: near 100 % after the first epoch.",
         "percentunit", f"{_HITS} / {rate('octoscale_cache_lookups_total')}", color=RED,
         thresholds=((0.5, ORANGE), (0.9, GREEN))),
)  # fmt: skip

_BATCHES = (
    Panel("Wait for the batch", "Mean time of it in a step, by rank. Good: near 0 on every rank. Bad: on one "
          "rank: its node's disk or network; on all: storage or decoding.",
          "s", ((rate("octoscale_step_phase_seconds_sum", "rank", only=f'phase="data_wait", {_CHOSEN}') + " / "
                 + rate("octoscale_step_phase_seconds_count", "rank",
                        only=f'phase="data_wait", {_CHOSEN}'), "rank {{rank}}"),), minimum=0),
    Panel("Batches ready", "When the last one was taken. Good: above 0. Bad: 0 for long.", "none",
          ((ranks("octoscale_loader_queue_depth"), "rank {{rank}}"),), minimum=0),
    Panel("Images per second", "By rank. Good: equal, since all ranks wait for each other.", "none",
          ((rate("octoscale_samples_total", "rank", only=_CHOSEN), "rank {{rank}}"),), minimum=0),
    Panel("Phases of a step by rank", "Mean time of each phase on each rank. Good: embed equal on all. Bad: a rank "
          "slower in embed lets all others wait in exchange.",
          "s", ((rate("octoscale_step_phase_seconds_sum", "rank", "phase", only=_CHOSEN) + " / "
                 + rate("octoscale_step_phase_seconds_count", "rank", "phase", only=_CHOSEN),
                 "rank {{rank}} {{phase}}"),), minimum=0),
    Panel("Slowest rank", "Which rank that was in the last step, by phase. Good: it changes. Bad: one rank "
          "throughout: look at its node.",
          "none", ((job("octoscale_job_slowest_rank", "phase"), "{{phase}}"),), minimum=0),
    Panel("Slowest rank behind the mean", "By phase, of the last step. Good: small beside the step. Bad: large in "
          "data_wait or embed.",
          "s", ((f"{job('octoscale_job_phase_seconds_max', 'phase')} - "
                 f"{job('octoscale_job_phase_seconds_mean', 'phase')}", "{{phase}}"),), minimum=0),
)  # fmt: skip

_CACHE = (
    Panel("Lookups in the cache", "Shards that a batch found on the node's disk (hit) or waited for (miss), in a "
          "second; empty where the data set is local. Good: misses near 0 after the first epoch.",
          "ops", ((rate("octoscale_cache_lookups_total", "result"), "{{result}}"),), stack="normal", minimum=0),
    Panel("Size of the cache", "On the node of each rank; empty where the data set is local. Good: flat, at most "
          "data.cache_bytes. Bad: it falls and rises all the time: the cache is too small for the window.",
          "bytes", ((ranks("octoscale_cache_bytes"), "rank {{rank}}"),), minimum=0),
    Panel("Quarantined samples", "By rank, in the time shown. Good: 0. Bad: on one rank: its node's disk; on all: "
          "the data set.",
          "none", ((f'sum by (rank) (increase(octoscale_quarantined_samples_total{{run="$run", {_CHOSEN}}}'
                    "[$__range]))", "rank {{rank}}"),), minimum=0),
)  # fmt: skip

_STORAGES = (
    Panel("Requests", "By operation, retries among them. Good: few large ones.", "reqps",
          ((rate("octoscale_storage_requests_total", "operation"), "{{operation}}"),), minimum=0),
    Panel("Retries", "By operation and cause; empty as long as there were none. Good: none, or now and then. Bad: "
          "busy (too many requests for the storage), timeout, damaged.",
          "reqps", ((rate("octoscale_storage_retries_total", "operation", "cause"),
                     "{{operation}}: {{cause}}"),), minimum=0),
    Panel("Failures", "Operations that failed for good, by operation, in a second. Good: 0 throughout.", "ops",
          ((rate("octoscale_storage_failures_total", "operation"), "{{operation}}"),), minimum=0),
    Panel("Read", "Bytes by operation. Good: it falls once the shards are in the cache.", "Bps",
          ((rate("octoscale_storage_read_bytes_total", "operation"), "{{operation}}"),), minimum=0),
    Panel("Written", "Bytes by operation: commits, and what is written beside them. Good: bursts at the commits.",
          "Bps", ((rate("octoscale_storage_written_bytes_total", "operation"), "{{operation}}"),), minimum=0),
    Panel("Sent for the loss", "By rank, to the other ranks. Good: equal. 0 with one rank.", "Bps",
          ((rate("octoscale_exchange_bytes_total", "rank", only=_CHOSEN), "rank {{rank}}"),), minimum=0),
)  # fmt: skip

DATA = Dashboard(
    "octoscale-data",
    "octoscale: data plane",
    "Whether the ranks get their images in time, and from where.",
    (("Now", _NOW), ("Batches", _BATCHES), ("Shards and cache", _CACHE), ("Storages", _STORAGES)),
)
