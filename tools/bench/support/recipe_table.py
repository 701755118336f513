"""The recipes of `recipes.py`, each as overrides of configs/real_faces.yaml."""

_COSINE = ["loss.metric=cosine", "loss.margin=0.3"]
_EUCLIDEAN = ["loss.metric=euclidean", "loss.margin=25"]
_FAST = "optimizer.learning_rate=1e-3"
_TIED = [*_COSINE, _FAST, "distillation.high=5", "distillation.low=5"]

RECIPES: dict[str, list[str]] = {
    "paper": [*_EUCLIDEAN, "optimizer.learning_rate=1e-4"],
    "cosine-1e-4": [*_COSINE, "optimizer.learning_rate=1e-4"],
    "cosine-3e-4": [*_COSINE, "optimizer.learning_rate=3e-4"],
    "cosine-1e-3": [*_COSINE, _FAST],
    "tied-1e-3": _TIED,
    "tied-2-1e-3": [*_COSINE, _FAST, "distillation.high=2", "distillation.low=2"],
    "tied-high-1e-3": [*_COSINE, _FAST, "distillation.high=5"],
    "tied-7-twice-1e-3": [*_TIED, "degrade.resolutions=[7, 7, 14, 28]"],
    "tied-semihard-1e-3": [*_TIED, "loss.negatives=semihard"],
    "tied-positive-aware-1e-3": [*_TIED, "loss.negatives=positive_aware(0.95)"],
    "tied-margin-0.6-1e-3": ["loss.metric=cosine", "loss.margin=0.6", *_TIED[2:]],
    "tied-seed-1-1e-3": [*_TIED, "seed=1"],
    # The same learning rate at a larger batch, whose hardest negatives are harder.
    "batch-256-3e-4": [
        *_COSINE,
        "optimizer.learning_rate=3e-4",
        "global_batch_size=256",
        "micro_batch_size=64",
    ],
    # What holds the norms, where the margin is euclidean: the pre-trained network's is 17.8, and 25 / 17.8 is 1.4.
    "paper-1e-3": [*_EUCLIDEAN, _FAST],
    "paper-held-1e-3": [*_EUCLIDEAN, _FAST, "distillation.metric=euclidean", "distillation.high=1"],
    "euclidean-5-1e-3": ["loss.metric=euclidean", "loss.margin=5", _FAST],
    "normalized-1e-3": ["loss.metric=euclidean", "loss.normalize=true", "loss.margin=0.3", _FAST],
    "semihard-1e-3": [*_EUCLIDEAN, _FAST, "loss.negatives=semihard"],
    # cosine-1e-3 with one change each.
    "cosine-seed-1": [*_COSINE, _FAST, "seed=1"],
    "cosine-margin-0.1": ["loss.metric=cosine", "loss.margin=0.1", _FAST],
    "cosine-margin-0.6": ["loss.metric=cosine", "loss.margin=0.6", _FAST],
    "cosine-margin-1": ["loss.metric=cosine", "loss.margin=1", _FAST],
    "cosine-chunk": [*_COSINE, _FAST, "model.batch_norm=chunk"],
    "cosine-semihard": [*_COSINE, _FAST, "loss.negatives=semihard"],
    "cosine-rank-4": [*_COSINE, _FAST, "loss.negatives=rank(4)"],
    "cosine-positive-aware": [*_COSINE, _FAST, "loss.negatives=positive_aware(0.95)"],
    "cosine-7-twice": [*_COSINE, _FAST, "degrade.resolutions=[7, 7, 14, 28]"],
    "cosine-to-56": [*_COSINE, _FAST, "degrade.resolutions=[7, 14, 28, 56]"],
    "cosine-low-only": [*_COSINE, _FAST, "loss.terms=[hll, lhh, lll]"],
    "cosine-3e-3": [*_COSINE, "optimizer.learning_rate=3e-3"],
}
