"""The recipes of `recipes.py`, each as overrides of configs/real_faces.yaml."""

_COSINE = ["loss.metric=cosine", "loss.margin=0.3"]
_FAST = "optimizer.learning_rate=1e-3"

RECIPES: dict[str, list[str]] = {
    "paper": ["loss.metric=euclidean", "loss.margin=25", "optimizer.learning_rate=1e-4"],
    "paper-1e-3": ["loss.metric=euclidean", "loss.margin=25", _FAST],
    "cosine-1e-4": [*_COSINE, "optimizer.learning_rate=1e-4"],
    "cosine-3e-4": [*_COSINE, "optimizer.learning_rate=3e-4"],
    "cosine-1e-3": [*_COSINE, _FAST],
    "tied-1e-3": [*_COSINE, _FAST, "distillation.high=5", "distillation.low=5"],
}
