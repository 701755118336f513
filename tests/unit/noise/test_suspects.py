"""The triplets whose negative is suspiciously near, on embeddings that can be checked by hand."""

import numpy as np
import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.noise.suspects import find_suspects
from tests.unit.noise.drawn import draw


def on_circle(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    # Lengths differ, and say nothing.
    lengths = torch.linspace(1, 9, len(degrees), dtype=torch.float64)[:, None]
    return (lengths * torch.stack([angles.cos(), angles.sin()], 1)).float()


def cosine_distance(degrees: float) -> float:
    return 1 - float(np.cos(np.radians(degrees)))


def test_a_negative_nearer_than_the_positive_is_found() -> None:
    # Sample 1 is at 80 degrees: nearer to the stranger at 90 than to its own person at 0.
    embeddings = on_circle(0, 80, 90, 95)

    found = find_suspects(embeddings, np.array([0, 0, 1, 1]), [np.arange(4)], alpha=1.0)

    assert found.anchors.tolist() == [1]
    assert found.positives.tolist() == [0]
    assert found.negatives.tolist() == [2]
    assert found.positive_distances == pytest.approx([cosine_distance(80)], rel=1e-5)
    assert found.negative_distances == pytest.approx([cosine_distance(10)], rel=1e-5)
    assert found.anchor_count == 4


def test_alpha_asks_for_a_distinctly_nearer_negative() -> None:
    # d(a,n) / d(a,p) of sample 1: (1 − cos 10°) / (1 − cos 80°).
    ratio = cosine_distance(10) / cosine_distance(80)
    for alpha, count in ((1.01 * ratio, 1), (0.99 * ratio, 0)):
        found = find_suspects(on_circle(0, 80, 90, 95), np.array([0, 0, 1, 1]), [np.arange(4)], alpha=alpha)
        assert len(found.anchors) == count


def test_sample_ids_are_those_of_the_batch_and_batches_add_up() -> None:
    embeddings = on_circle(95, 90, 80, 0)
    labels = np.array([1, 1, 0, 0])
    batch = np.array([3, 2, 1, 0])

    found = find_suspects(embeddings, labels, [batch, batch[[2, 3, 0, 1]]], alpha=1.0)

    assert found.anchors.tolist() == [2, 2]
    assert found.positives.tolist() == [3, 3]
    assert found.negatives.tolist() == [1, 1]
    assert found.anchor_count == 8


def test_one_in_a_thousand_strangers_is_nearer_than_the_stranger_distance() -> None:
    drawn = draw(people=1000, images=2)

    found = find_suspects(torch.from_numpy(drawn.embeddings), drawn.labels, [np.arange(2000)], alpha=1.0)

    unit = drawn.embeddings / np.linalg.norm(drawn.embeddings, axis=1, keepdims=True)
    distances = 1 - unit[0::2] @ unit[0::2].T
    nearer = distances[~np.eye(1000, dtype=bool)] < found.stranger_distance
    # From 1,000 of the 499,500 distances, whose spread is then known to a few per cent.
    assert 0.0003 < nearer.mean() < 0.003


def test_mislabels_do_not_move_the_stranger_distance() -> None:
    # Of 30 people two have two labels: two in 496 pairs of labels, more often than one in a thousand.
    clean, dirty = (draw(people=30, images=6, split=split).suspects(batch=30, epochs=10) for split in (0, 2))

    assert dirty.stranger_distance == pytest.approx(clean.stranger_distance, abs=0.08)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(OctoscaleError, match="NaN or infinite"):
        find_suspects(torch.full((4, 3), torch.nan), np.array([0, 0, 1, 1]), [np.arange(4)], alpha=1.0)
