"""Verification of templates against a loop over them."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from octoscale.distributed.world import World
from octoscale.evaluate.protocols.ijb import Templates
from octoscale.evaluate.templates import evaluate_templates, pool
from octoscale.models import FaceNetwork


def drawn(*, scores: bool = False, count: int = 12, size: int = 40) -> Templates:
    generator = np.random.default_rng(3)
    # Every template has a medium, every medium an image.
    template = np.concatenate([np.arange(count), generator.integers(0, count, 8)])
    media = np.concatenate([np.arange(len(template)), generator.integers(0, len(template), size - len(template))])
    first, second = generator.integers(0, count, (2, 60))
    return Templates(
        tuple(map(str, range(size))), media, template, first, second, generator.random(60) < 0.5, None,
        generator.random(size) if scores else None,
    )  # fmt: skip


def slow_pool(embeddings: Tensor, templates: Templates) -> Tensor:
    """The specification."""
    pooled = []
    for template in range(templates.count):
        media = np.flatnonzero(templates.template == template)
        means = []
        for medium in media:
            rows = np.flatnonzero(templates.media == medium)
            weighted = [
                embeddings[row].double() * (1 if templates.scores is None else templates.scores[row]) for row in rows
            ]
            means.append(sum(weighted) / len(rows))
        total = sum(means)
        assert isinstance(total, Tensor)
        pooled.append(total / total.norm())
    return torch.stack(pooled)


@pytest.mark.parametrize("scores", [False, True])
def test_media_are_averaged_and_summed_to_templates(scores: bool) -> None:
    templates = drawn(scores=scores)
    embeddings = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(pool(embeddings, templates), slow_pool(embeddings, templates), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
def test_scores_are_those_of_the_pooled_embeddings(network: FaceNetwork, flip: bool) -> None:
    templates = drawn()
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    network.eval()
    with torch.no_grad():
        embeddings = network(images) + network(images.flip(-1)) if flip else network(images)
    pooled = slow_pool(embeddings, templates)
    similarity = (pooled[templates.first] * pooled[templates.second]).sum(1).numpy()

    found = evaluate_templates(network, templates, images, World(), far=(0.1, 0.001), flip=flip, name="ijbc", step=3)

    assert found.area_under_curve == pytest.approx(roc_auc_score(templates.same, similarity), abs=1e-12)
    assert (found.templates, found.images, found.genuine_pairs + found.impostor_pairs) == (12, 40, 60)
    assert found.tar_at_far[0.1] is not None
    assert found.tar_at_far[0.001] is None
    values = json.loads(found.to_json())
    assert (values["name"], values["step"], values["flip"], values["weighted"]) == ("ijbc", 3, flip, False)
