"""The specification of the loss: plain loops over anchors, straight from the paper's equations."""

import math

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

TERMS = {"hhh": ("high", "high"), "hll": ("high", "low"), "lhh": ("low", "high"), "lll": ("low", "low")}


def distance(a: Vector, b: Vector, metric: str) -> float:
    if metric == "cosine":  # Eq. 2
        return 1 - float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))
    euclidean = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))  # Eq. 3
    return euclidean**2 if metric == "euclidean_squared" else euclidean  # Eq. 4


def octuplet(
    high: Vector,
    low: Vector,
    identities: list[int],
    *,
    margin: float,
    metric: str,
    normalize: bool,
    terms: tuple[str, ...],
) -> tuple[float, dict[str, list[tuple[int, int, int]]]]:
    """The loss (Eq. 11), and the chosen (anchor, positive, negative) of each term."""
    images = {"high": high, "low": low}
    if normalize:
        images = {kind: np.stack([v / math.sqrt(v @ v) for v in vectors]) for kind, vectors in images.items()}
    rows = range(len(identities))
    loss, chosen = 0.0, {}
    for term in terms:
        anchors, others = images[TERMS[term][0]], images[TERMS[term][1]]
        triplets, hinges = [], []
        for a in rows:
            positives = [p for p in rows if identities[p] == identities[a] and p != a]  # Eq. 1
            negatives = [n for n in rows if identities[n] != identities[a]]
            if not positives or not negatives:
                continue
            to = [distance(anchors[a], others[i], metric) for i in rows]
            positive = max(positives, key=lambda i: (to[i], -i))
            negative = min(negatives, key=lambda i: (to[i], i))  # Eq. 6
            triplets.append((a, positive, negative))
            hinges.append(max(0.0, to[positive] - to[negative] + margin))  # Eq. 5
        loss += sum(hinges) / len(hinges)
        chosen[term] = triplets
    return loss, chosen
