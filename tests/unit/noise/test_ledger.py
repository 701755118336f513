"""Planted mislabels come out on top, told apart by kind; poor images do not."""

import numpy as np
import pytest

from tests.unit.noise.drawn import Drawn, draw


def test_planted_mistakes_are_the_top_of_the_ledger() -> None:
    drawn = draw(misfiled=12, split=8, poor=15)

    pairs = drawn.ledger(batch=120, epochs=20).pairs

    top = {(pair.identity_a, pair.identity_b) for pair in pairs[:20]}
    assert len(top & drawn.planted) >= 19, "precision in the first 20 of 20 planted"
    assert len(pairs) > 30, "poor images are suspicious too, and stand below"


@pytest.mark.parametrize("seed", range(3))
def test_two_folders_of_one_person_and_a_misfiled_image_are_told_apart(seed: int) -> None:
    drawn = draw(misfiled=10, split=10, seed=seed)

    pairs = drawn.ledger(batch=130, epochs=20).pairs

    found = {(pair.identity_a, pair.identity_b): pair for pair in pairs if pair.evidence > 0}
    assert drawn.planted <= found.keys()
    for key in drawn.same_person:
        assert (found[key].kind, found[key].culprit) == ("same person", None)
    for sample_id, true_label in drawn.misfiled.items():
        label = int(drawn.labels[sample_id])
        pair = found[min(label, true_label), max(label, true_label)]
        assert (pair.kind, pair.culprit) == ("misfiled image", sample_id)


def test_misfiled_images_are_listed_with_the_identity_they_belong_to() -> None:
    drawn = draw(misfiled=10, split=5, poor=10)

    samples = drawn.ledger(batch=120, epochs=20).samples

    suggested = {sample.sample_id: sample.suggested_identity for sample in samples[:10]}
    assert suggested == drawn.misfiled
    for sample in samples[:10]:
        assert sample.identity == drawn.labels[sample.sample_id]
        assert sample.other_distance < 0.6 < sample.own_distance
        assert sample.evidence == pytest.approx(min(sample.own_distance, 0.6) - sample.other_distance, abs=0.1)
        assert sample.triplets > 0


def test_two_swapped_images_are_two_misfiled_ones() -> None:
    drawn = draw(people=60)
    # The first images of persons 7 and 31 change places; rows are sorted by label.
    swapped = Drawn(drawn.embeddings.copy(), drawn.labels, {42: 31, 186: 7}, set())
    swapped.embeddings[[42, 186]] = drawn.embeddings[[186, 42]]

    ledger = swapped.ledger(batch=60, epochs=10)

    first = ledger.pairs[0]
    assert (first.identity_a, first.identity_b, first.kind) == (7, 31, "misfiled image")
    assert {sample.sample_id: sample.suggested_identity for sample in ledger.samples[:2]} == swapped.misfiled


def test_frontal_and_profile_views_in_two_folders_of_one_person_are_no_misfiled_image() -> None:
    # 4 frontal and 4 profile views of person 5, unlike each other, half of each in another folder: as a whole the
    # two folders are as far apart as strangers.
    drawn = draw(people=60, images=4)
    rng = np.random.default_rng(1)
    views = [centre + 0.4 * rng.standard_normal((4, 64)) for centre in rng.standard_normal((2, 64))]
    halves = [np.concatenate([view[half] for view in views]) for half in (slice(0, 2), slice(2, 4))]
    embeddings = np.concatenate([drawn.embeddings, *halves]).astype(np.float32)
    labels = np.concatenate([drawn.labels, [60] * 4, [61] * 4])

    pairs = Drawn(embeddings, labels, {}, {(60, 61)}).ledger(batch=60, epochs=20).pairs

    found = {(pair.identity_a, pair.identity_b): pair.kind for pair in pairs}
    assert found[60, 61] == "same person"


def test_a_clean_data_set_has_no_evidence() -> None:
    pairs = draw(poor=20).ledger(batch=120, epochs=20).pairs

    # One in a thousand strangers is nearer than the measure by its making: a few of the suspicious pairs may reach it.
    assert sum(pair.evidence > 0.05 for pair in pairs) == 0


def test_the_order_is_evidence_then_count() -> None:
    pairs = draw(misfiled=5, split=5, poor=20).ledger(batch=120, epochs=5).pairs

    keys = [(-max(pair.evidence, 0), -pair.triplets, pair.example.ratio) for pair in pairs]
    assert keys == sorted(keys)
    assert all(pair.identity_a < pair.identity_b for pair in pairs)
    assert all((pair.kind == "look-alike") == (pair.evidence <= 0) for pair in pairs)


def test_the_example_is_the_triplet_with_the_smallest_ratio() -> None:
    drawn = draw(misfiled=5)
    unit = drawn.embeddings / np.linalg.norm(drawn.embeddings, axis=1, keepdims=True)

    for pair in drawn.ledger(batch=120, epochs=5).pairs:
        example = pair.example
        labels = drawn.labels[[example.anchor, example.positive, example.negative]].tolist()
        assert labels[0] == labels[1]
        assert sorted((labels[0], labels[2])) == [pair.identity_a, pair.identity_b]
        for other, distance in (
            (example.positive, example.positive_distance), (example.negative, example.negative_distance),
        ):  # fmt: skip
            assert distance == pytest.approx(1 - unit[example.anchor] @ unit[other], abs=1e-5)
        assert example.ratio < 0.95


def test_nothing_suspicious_makes_an_empty_ledger() -> None:
    ledger = draw(people=10).ledger(batch=10, epochs=1, alpha=1e-6)

    assert (ledger.pairs, ledger.samples) == ((), ())
