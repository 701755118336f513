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
    negatives: str = "hardest",
) -> tuple[float, dict[str, list[tuple[int, ...]]]]:
    """The loss (Eq. 11), and the chosen (anchor, positive, negative …) of each term."""
    rule, _, argument = negatives.rstrip(")").partition("(")
    images = {"high": high, "low": low}
    if normalize:
        images = {kind: np.stack([v / math.sqrt(v @ v) for v in vectors]) for kind, vectors in images.items()}
    rows = range(len(identities))
    loss, chosen = 0.0, {}
    for term in terms:
        anchors, others = images[TERMS[term][0]], images[TERMS[term][1]]
        triplets: list[tuple[int, ...]] = []
        hinges = []
        for a in rows:
            positives = [p for p in rows if identities[p] == identities[a] and p != a]  # Eq. 1
            others_of_a = [n for n in rows if identities[n] != identities[a]]
            if not positives or not others_of_a:
                continue
            to = [distance(anchors[a], others[i], metric) for i in rows]
            positive = max(positives, key=lambda i: (to[i], -i))
            allowed = [n for n in others_of_a if is_allowed(to[n], to[positive], rule, argument)]
            nearest = sorted(allowed, key=lambda i: (to[i], i))
            count = int(argument) if rule in ("rank", "top_k_mean") else 1
            chosen_ones = nearest[:count] if rule == "top_k_mean" else nearest[count - 1 : count]  # Eq. 6: the first
            if not chosen_ones:
                hinges.append(0.0)
                continue
            triplets.append((a, positive, *chosen_ones))
            to_negative = sum(to[n] for n in chosen_ones) / len(chosen_ones)
            hinges.append(max(0.0, to[positive] - to_negative + margin))  # Eq. 5
        loss += sum(hinges) / len(hinges)
        chosen[term] = triplets
    return loss, chosen


def is_allowed(to_negative: float, to_positive: float, rule: str, argument: str) -> bool:
    if rule == "semihard":
        return to_negative > to_positive
    return rule != "positive_aware" or to_negative >= float(argument) * to_positive
