"""A packed data set searched for mislabels, some of which are known."""

import numpy as np
import pytest
import torch

from octoscale.data.index import Index
from octoscale.data.reader import ImageReader
from octoscale.errors import OctoscaleError
from octoscale.models.network import FaceNetwork
from octoscale.noise.survey import Survey, embed_all, survey

CPU = torch.device("cpu")


def test_two_folders_of_one_person_and_a_misfiled_image_are_on_top(
    found: Survey, mislabelled: tuple[Index, ImageReader]
) -> None:
    index, _ = mislabelled
    keys = index.identity_keys

    named = {
        tuple(sorted((keys[pair.identity_a], keys[pair.identity_b]))): (pair.kind, pair.culprit)
        for pair in found.ledger.pairs[:2]
    }
    # The misfiled image's name sorts first in its new folder.
    moved = int(index.identity_offsets[keys.index("person_03")])
    assert named == {
        ("again", "person_01"): ("same person", None),
        ("person_02", "person_03"): ("misfiled image", moved),
    }
    assert found.ledger.samples[0].sample_id == moved
    assert keys[found.ledger.samples[0].suggested_identity] == "person_02"


def test_what_was_searched_is_counted(found: Survey) -> None:
    assert (found.global_batch_size, found.epochs, found.alpha) == (30, 20, 0.95)
    assert found.anchors == 30 * found.batches
    # 15 of 31 identities meet in a batch.
    assert found.meetings == pytest.approx(found.batches * (15 * 14) / (31 * 30))


def test_half_of_the_identities_meet_in_a_batch_unless_told_otherwise(
    network: FaceNetwork, mislabelled: tuple[Index, ImageReader]
) -> None:
    assert survey(network, *mislabelled, device=CPU, epochs=1).global_batch_size == 30


def test_every_image_is_embedded_once_in_the_order_of_sample_ids(
    network: FaceNetwork, mislabelled: tuple[Index, ImageReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octoscale.noise.survey._EMBED_AT_ONCE", 50)
    _, reader = mislabelled
    seen: list[tuple[str, int, int]] = []

    table = embed_all(network, reader, CPU, lambda *done: seen.append(done))

    expected = network(reader.__getitems__(np.arange(180)))
    np.testing.assert_allclose(table, expected.numpy(), rtol=1e-6)
    assert seen == [("embed", done, 180) for done in (50, 100, 150, 180)]


@pytest.mark.parametrize("alpha", [0.0, 1.01, float("nan")])
def test_an_alpha_without_a_meaning_is_refused(
    network: FaceNetwork, mislabelled: tuple[Index, ImageReader], alpha: float
) -> None:
    with pytest.raises(OctoscaleError, match="alpha is"):
        survey(network, *mislabelled, device=CPU, alpha=alpha)


def test_a_batch_that_does_not_fit_is_refused_before_the_work(
    network: FaceNetwork, mislabelled: tuple[Index, ImageReader]
) -> None:
    def embedding(*done: object) -> None:
        raise AssertionError("it began to embed")

    with pytest.raises(OctoscaleError, match="needs 32 identities"):
        survey(network, *mislabelled, device=CPU, global_batch_size=64, progress=embedding)
