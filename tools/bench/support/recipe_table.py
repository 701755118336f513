"""The recipes of `recipes.py`, each as overrides of configs/real_faces.yaml."""

_COSINE = ["loss.metric=cosine", "loss.margin=0.3"]
_EUCLIDEAN = ["loss.metric=euclidean", "loss.margin=25"]
_FAST = "optimizer.learning_rate=1e-3"

RECIPES: dict[str, list[str]] = {
    "paper": [*_EUCLIDEAN, "optimizer.learning_rate=1e-4"],
    "cosine-1e-4": [*_COSINE, "optimizer.learning_rate=1e-4"],
    "cosine-3e-4": [*_COSINE, "optimizer.learning_rate=3e-4"],
    "cosine-1e-3": [*_COSINE, _FAST],
    "tied-1e-3": [*_COSINE, _FAST, "distillation.high=5", "distillation.low=5"],
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
}
