"""Cases of pytorch-metric-learning's tests for batch-hard mining and the triplet margin loss, as numbers of our own.

Its tests (``tests/miners/test_batch_hard_miner.py`` and ``tests/losses/test_triplet_margin_loss.py``) mine one set
of embeddings; `batch_hard` maps that onto the hhh term. What the two define differently is in `batch_hard`'s text.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.loss import Octuplet, octuplet

PeerDistance = Literal["lp", "lp_unit", "lp_unit_squared", "cosine"]

# Its distances in our words. Its default distance puts embeddings on the unit sphere; ours does when asked to.
OPTIONS: dict[PeerDistance, dict[str, Any]] = {
    "lp": {"metric": "euclidean"},
    "lp_unit": {"metric": "euclidean", "normalize": True},
    "lp_unit_squared": {"metric": "euclidean_squared", "normalize": True},
    "cosine": {"metric": "cosine"},
}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Mined:
    """What its miner returns, and what its loss makes of that with a MeanReducer."""

    triplets: list[tuple[int, int, int]]
    loss: Tensor
    positive_distance: float
    negative_distance: float


def batch_hard(
    embeddings: Tensor,
    labels: Tensor,
    distance: PeerDistance = "lp",
    *,
    margin: float = 0.2,
    reference: Tensor | None = None,
) -> Mined:
    """Its ``BatchHardMiner`` and ``TripletMarginLoss(reducer=MeanReducer())`` by our loss, of one term.

    One set of embeddings is hhh with that set as high and as low resolution. A reference set of the same images
    is hll, with the reference set as low resolution.

    What differs, and how it is mapped:

    - An anchor without a positive or without a negative: both leave it out, of the triplets and of the mean.
    - No triplet at all: its miner returns nothing and its loss is 0; ours refuses the batch, since a training step on
      it would teach nothing. The adapter gives the empty result.
    - Cosine: it compares similarities, ours distances 1 − similarity: the margins mean the same.
    - Its default reducer takes the mean over the active triplets; ours is its MeanReducer: inactive ones count as 0.
    - All triplets instead of the hardest, and a reference set of other images than the batch's: see `all_triplets`.
    - Its smooth loss and its swap have no counterpart here.
    """
    low = embeddings if reference is None else reference
    term = "hhh" if reference is None else "hll"
    try:
        found: Octuplet = octuplet(embeddings, low, labels, margin=margin, terms=(term,), **OPTIONS[distance])
    except OctoscaleError as error:
        if "no positive exists" not in str(error) and "no negative exists" not in str(error):
            raise
        return Mined([], embeddings.sum() * 0, 0.0, 0.0)
    part = found.terms[term]
    rows = torch.stack([part.triplets.anchors, part.triplets.positives, part.triplets.negatives], 1).tolist()
    return Mined(
        [(a, p, n) for a, p, n in rows], found.loss, float(part.positive_distance), float(part.negative_distance)
    )


def all_triplets(
    embeddings: Tensor, labels: Tensor, reference: Tensor, reference_labels: Tensor, distance: PeerDistance
) -> tuple[Tensor, Tensor]:
    """Its loss without a miner, by ours: the mean over all triplets, and over the active ones alone.

    Each triplet is a batch of its own: twice the anchor at high resolution, twice the positive and once the negative
    at low resolution. Both anchors of hll then see that positive and that negative.
    """
    same_set = reference is embeddings
    hinges = []
    for a, label in enumerate(labels):
        positives = [p for p in (reference_labels == label).nonzero()[:, 0] if not (same_set and int(p) == a)]
        for p in positives:
            for n in (reference_labels != label).nonzero()[:, 0]:
                high = embeddings[[a, a, a]]
                low = torch.stack([reference[p], reference[p], reference[n]])
                options = OPTIONS[distance]
                hinges.append(octuplet(high, low, torch.tensor([0, 0, 1]), margin=0.2, terms=("hll",), **options).loss)
    losses = torch.stack(hinges)
    return losses.mean(), losses[losses > 0].mean()


# Nine points in a row, of identities 0, 0, 1, 1, 0, 2, 1, 1, 1: point 5 is alone.
LABELS = torch.tensor([0, 0, 1, 1, 0, 2, 1, 1, 1])
ANCHORS = [0, 1, 2, 3, 4, 6, 7, 8]
FARTHEST = [4, 4, 8, 8, 0, 2, 2, 2]
# Anchor 4 has a stranger on either side; a tie goes to the lower row here, to either one there.
NEAREST = [2, 2, 1, 4, 3, 5, 5, 5]
EXPECTED = list(zip(ANCHORS, FARTHEST, NEAREST, strict=True))


def on_circle(degrees: list[float], dtype: torch.dtype, radius: float = 1.0) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return (radius * torch.stack([angles.cos(), angles.sin()], 1)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_points_on_a_line_give_the_peers_triplets(dtype: torch.dtype) -> None:
    mined = batch_hard(torch.arange(9, dtype=dtype)[:, None], LABELS, margin=10.0)

    assert mined.triplets == EXPECTED
    # Distances to the positives: 4 3 6 5 4 4 5 6; to the negatives: 2 1 1 1 1 1 2 3.
    assert mined.positive_distance == pytest.approx(37 / 8)
    assert mined.negative_distance == pytest.approx(12 / 8)
    assert float(mined.loss) == pytest.approx((37 - 12) / 8 + 10)


@pytest.mark.parametrize("distance", ["lp_unit", "lp_unit_squared", "cosine"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_points_on_a_circle_give_the_peers_triplets(dtype: torch.dtype, distance: PeerDistance) -> None:
    # Radius 3: only the direction counts.
    embeddings = on_circle([0, 20, 40, 60, 80, 100, 120, 140, 160], dtype, radius=3.0)

    mined = batch_hard(embeddings, LABELS, distance)

    # Rounded angles decide the tie of anchor 4.
    assert mined.triplets in (EXPECTED, [(4, 0, 5) if row[0] == 4 else row for row in EXPECTED])

    def chord(degrees: float) -> float:
        length = 2 * math.sin(math.radians(degrees) / 2)
        return {"lp_unit": length, "lp_unit_squared": length**2, "cosine": length**2 / 2}[distance]

    # 20 degrees between neighbours. The tolerance is the rounding of the coordinates, at most 2⁻⁸ in bfloat16.
    tolerance = 4 * torch.finfo(dtype).eps + 1e-6
    positives = sum(chord(20 * steps) for steps in (4, 3, 6, 5, 4, 4, 5, 6)) / 8
    negatives = sum(chord(20 * steps) for steps in (2, 1, 1, 1, 1, 1, 2, 3)) / 8
    assert mined.positive_distance == pytest.approx(positives, rel=tolerance)
    assert mined.negative_distance == pytest.approx(negatives, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("distance", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_batch_in_which_everyone_is_alone_gives_nothing(dtype: torch.dtype, distance: PeerDistance) -> None:
    embeddings = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()

    mined = batch_hard(embeddings, torch.arange(32), distance)

    assert mined.triplets == []
    assert float(mined.loss.detach()) == 0
    mined.loss.backward()
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_a_batch_of_one_identity_gives_nothing() -> None:
    assert batch_hard(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)).triplets == []


@pytest.mark.parametrize("distance", ["lp_unit", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_margin_loss_is_the_mean_over_all_anchors_with_a_positive(
    dtype: torch.dtype, distance: PeerDistance
) -> None:
    # Five images, identities 0 0 1 1 and one who is alone: she is a negative and no anchor.
    embeddings = on_circle([0, 10, 35, 95, 45], dtype)
    # (positive, negative) angles of the anchors 0, 10, 35 and 95 degrees.
    angles = [(10, 35), (10, 25), (60, 10), (60, 50)]

    def apart(degrees: float) -> float:
        length = 2 * math.sin(math.radians(degrees) / 2)
        return length if distance == "lp_unit" else length**2 / 2

    expected = sum(max(0.0, apart(p) - apart(n) + 0.2) for p, n in angles) / 4

    mined = batch_hard(embeddings, torch.tensor([0, 0, 1, 1, 2]), distance, margin=0.2)

    assert mined.triplets == [(0, 1, 2), (1, 0, 2), (2, 3, 4), (3, 2, 4)]
    assert float(mined.loss) == pytest.approx(expected, rel=1e-5)


def test_a_reference_set_gives_positives_and_negatives() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    reference = torch.tensor([[-1.0], [3.0], [8.0], [7.0]])

    mined = batch_hard(embeddings, torch.tensor([0, 0, 1, 1]), margin=1.0, reference=reference)

    assert mined.triplets == [(0, 1, 3), (1, 0, 3), (2, 3, 1), (3, 2, 1)]
    # 3 − 7, 2 − 6, 3 − 7, 4 − 9, each + 1: all inactive.
    assert float(mined.loss) == 0
    mined = batch_hard(embeddings, torch.tensor([0, 0, 1, 1]), margin=6.0, reference=reference)
    assert float(mined.loss) == pytest.approx((2 + 2 + 2 + 1) / 4)


@pytest.mark.parametrize("distance", ["lp_unit", "cosine"])
@pytest.mark.parametrize("with_reference", [False, True], ids=["one_set", "reference"])
def test_the_mean_over_all_triplets_is_that_of_a_plain_loop_and_of_the_peer(
    distance: PeerDistance, with_reference: bool
) -> None:
    embeddings = torch.randn(5, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 2])
    reference, reference_labels = embeddings, labels
    if with_reference:
        reference = torch.randn(3, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        reference_labels = torch.tensor([0, 1, 2])

    mean, mean_of_active = all_triplets(embeddings, labels, reference, reference_labels, distance)

    unit, unit_reference = (torch.nn.functional.normalize(rows) for rows in (embeddings, reference))

    def apart(a: int, b: int) -> float:
        squared = float((unit[a] - unit_reference[b]).square().sum())
        return squared / 2 if distance == "cosine" else math.sqrt(squared)

    hinges = [
        max(0.0, apart(a, p) - apart(a, n) + 0.2)
        for a in range(5)
        for p in range(len(reference))
        for n in range(len(reference))
        if labels[a] == reference_labels[p] != reference_labels[n] and (with_reference or a != p)
    ]
    assert len(hinges) == (10 if with_reference else 12)
    assert float(mean) == pytest.approx(sum(hinges) / len(hinges), rel=1e-9)
    assert float(mean_of_active) == pytest.approx(sum(hinges) / sum(hinge > 0 for hinge in hinges), rel=1e-9)
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    measure = peer_distance(distance)
    given = {"ref_emb": reference, "ref_labels": reference_labels} if with_reference else {}
    theirs = losses.TripletMarginLoss(margin=0.2, distance=measure)(embeddings, labels, **given)
    assert float(mean_of_active) == pytest.approx(float(theirs), rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_embedding_type_gets_a_gradient(dtype: torch.dtype) -> None:
    embeddings = on_circle([0, 20, 40, 60, 80], dtype).requires_grad_()

    batch_hard(embeddings, torch.tensor([0, 0, 1, 1, 2]), "lp_unit").loss.backward()

    assert embeddings.grad is not None
    assert embeddings.grad.dtype == dtype
    assert bool(torch.isfinite(embeddings.grad).all())
    # Anchor 0 is inactive, its stranger being twice as far as its positive; the other three reach every image.
    assert bool((embeddings.grad.abs().sum(1) > 0).all())


def peer_distance(distance: PeerDistance) -> Any:
    """pytorch-metric-learning's own; skips where it is not installed."""
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    made: dict[PeerDistance, Any] = {
        "lp": distances.LpDistance(normalize_embeddings=False),
        "lp_unit": distances.LpDistance(),
        "lp_unit_squared": distances.LpDistance(power=2),
        "cosine": distances.CosineSimilarity(),
    }
    return made[distance]


def peer(distance: PeerDistance, margin: float) -> tuple[Any, Any]:
    """Its batch-hard miner and its triplet loss that counts inactive triplets as 0."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    measure = peer_distance(distance)
    loss = losses.TripletMarginLoss(margin=margin, distance=measure, reducer=reducers.MeanReducer())
    return miners.BatchHardMiner(distance=measure), loss


@pytest.mark.parametrize("distance", OPTIONS)
@pytest.mark.parametrize("with_reference", [False, True], ids=["one_set", "reference"])
def test_random_batches_agree_with_the_installed_peer(distance: PeerDistance, with_reference: bool) -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        # One to six images per identity, shuffled.
        images = torch.randint(1, 7, (9,), generator=generator)
        labels = torch.arange(9).repeat_interleave(images)
        labels = labels[torch.randperm(len(labels), generator=generator)]
        centres = torch.randn(9, 8, generator=generator, dtype=torch.float64)[labels]
        ours, theirs = (
            [
                (centres + torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(100 * seed + kind),
                                       dtype=torch.float64)).requires_grad_()
                for kind in range(2)
            ]
            for _ in range(2)
        )  # fmt: skip
        margin = 0.2 if distance != "lp" else 1.0

        mined = batch_hard(ours[0], labels, distance, margin=margin, reference=ours[1] if with_reference else None)
        mined.loss.backward()

        miner, loss = peer(distance, margin)
        # The very same labels: without that it would take an image as a positive of itself in the reference set.
        reference = {"ref_emb": theirs[1], "ref_labels": labels} if with_reference else {}
        triplets = miner(theirs[0], labels, **reference)
        value = loss(theirs[0], labels, triplets, **reference)
        value.backward()

        assert mined.triplets == list(zip(*(part.tolist() for part in triplets), strict=True))
        assert float(mined.loss.detach()) == pytest.approx(float(value.detach()), rel=1e-9)
        for mine, other in zip(ours[: 1 + with_reference], theirs, strict=False):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-12)
