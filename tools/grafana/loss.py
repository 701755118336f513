"""The dashboard of the loss and its mining."""

from grafana.panels import GREEN, LEARNING_RATE, RED, Dashboard, Panel, grown, job, rate

_COSTS = 'phase=~"mine|exchange|loss"'

_TRIPLETS = (
    Panel("Loss by term", "Mean over the anchors of the global batch. Good: all terms fall. Bad: a term at "
          "the margin, and flat.",
          "none", ((job("octoscale_loss", "term"), "{{term}}"),), minimum=0),
    Panel("Distillation", "Weighted distance to the embeddings of the network before the run. Good: it falls, or stays "
          "small. Bad: it rises while the terms fall: the network unlearns; a larger weight.",
          "none", ((job("octoscale_distillation_loss"), "distillation"),), minimum=0),
    Panel("Active triplets", "Share of the anchors whose triplet is inside the margin. Good: it falls slowly. "
          "Near 0 nothing is learnt any more: a larger margin or global_batch_size. Near 1 for long: the "
          "learning rate is too low, or the embeddings collapse.",
          "percentunit", ((job("octoscale_triplet_active_ratio", "term"), "{{term}}"),),
          thresholds=((0.05, GREEN),), color=RED, minimum=0, maximum=1),
    Panel("Inverted triplets", "Share of the anchors whose hardest negative is nearer than the positive. Good: "
          "it falls. Bad: above a half and not falling.",
          "percentunit", ((job("octoscale_triplet_inverted_ratio", "term"), "{{term}}"),),
          thresholds=((0.5, RED),), minimum=0, maximum=1),
    Panel("Distance to the positive", "Mean over the anchors. Good: it falls, and lhh and hll come near hhh. "
          "Bad: it falls together with the distance to the negative: a collapse.",
          "none", ((job("octoscale_positive_distance", "term"), "{{term}}"),), minimum=0),
    Panel("Distance to the negative", "Mean over the anchors, hardest negatives. Good: it stays or grows. Bad: "
          "it falls towards 0.",
          "none", ((job("octoscale_negative_distance", "term"), "{{term}}"),), minimum=0),
    Panel("Gap", "Distance to the negative less that to the positive. Good: it grows towards the margin. Bad: "
          "below 0 and not rising.",
          "none", ((f"{job('octoscale_negative_distance', 'term')} - "
                    f"{job('octoscale_positive_distance', 'term')}", "{{term}}"),)),
)  # fmt: skip

_HEALTH = (
    Panel("Effective rank", "Directions that the embeddings use, of embedding_dim. Good: it stays. Bad: it falls "
          "towards 1: a collapse. Measured every telemetry.diagnose_every_steps steps.",
          "none", ((job("octoscale_embedding_effective_rank"), "effective rank"),), minimum=0),
    Panel("Norm of the embeddings", "Mean and standard deviation, before any normalisation. Good: steady. Bad: "
          "falling to 0, or growing without end.",
          "none", ((job("octoscale_embedding_norm"), "mean"),
                   (job("octoscale_embedding_norm_deviation"), "deviation")), minimum=0),
    Panel("Largest hub", "Anchors that share the most frequent negative. Good: a few. Bad: a large part of the "
          "global batch, which often comes before a collapse.",
          "none", ((job("octoscale_largest_hub_anchors", "term"), "{{term}}"),), minimum=0),
    Panel("Suspected label noise", "Anchors whose high-resolution triplet suggests a wrong label. Good: near 0, "
          "flat. Bad: some per cent that do not fall: run `octoscale noise`.",
          "percentunit", ((job("octoscale_suspected_label_noise_ratio"), "suspected"),),
          thresholds=((0.05, RED),), minimum=0),
)  # fmt: skip

_OPTIMIZER = (
    Panel("Gradient norm", "Before clipping. Good: the same order of magnitude throughout. Bad: spikes of ten "
          "times and more: a lower learning rate, or optimizer.max_gradient_norm.",
          "none", ((job("octoscale_gradient_norm"), "gradient norm"),), minimum=0),
    LEARNING_RATE,
    Panel("Loss scale", "With precision=fp16 alone. Good: it doubles now and then. Bad: it falls again and "
          "again: bf16 or fp32 suits this run better.",
          "none", ((job("octoscale_loss_scale"), "loss scale"),), minimum=0),
    Panel("Skipped steps", "Steps in the time shown that were skipped because fp16 gradients overflowed. Good: "
          "a few at the start. Bad: more all the time.",
          "none", ((grown("octoscale_steps_skipped_total"), "skipped"),), minimum=0),
    Panel("Cost of the loss", "Mean time of its phases. Good: mine and loss are small beside embed. Bad: exchange "
          "grows with the ranks: the network between them is slow.",
          "s", ((rate("octoscale_step_phase_seconds_sum", "phase", only=_COSTS) + " / "
                 + rate("octoscale_step_phase_seconds_count", "phase", only=_COSTS),
                 "{{phase}}"),), minimum=0),
    Panel("Sent for the loss", "By all ranks together, in a second. Good: in proportion to the images. 0 with one "
          "rank.",
          "Bps", ((rate("octoscale_job_exchange_bytes_total"), "all ranks"),), minimum=0),
)  # fmt: skip

LOSS = Dashboard(
    "octoscale-loss",
    "octoscale: loss and mining",
    "Whether the triplets still teach the network something, and signs of a collapse.",
    (("Triplets", _TRIPLETS), ("Health of the embeddings", _HEALTH), ("Optimizer", _OPTIMIZER)),
)
