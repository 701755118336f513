"""Verification of templates against a loop over them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import TemplateConfig
from octoscale.evaluate.protocols.ijb import Templates
from octoscale.evaluate.templates import TemplateEvaluation, TemplateVerification, evaluate_templates, pool
from octoscale.models import FaceNetwork

SETTINGS: Any = {"protocol": "ijbc", "pairs": "-", "images": "-"}


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

    config = TemplateConfig(**SETTINGS, far=(0.1, 0.001), flip=flip)
    found = evaluate_templates(network, templates, images, config, World(), name="faces", step=3)

    (score,) = found.scores.values()
    assert score.area_under_curve == pytest.approx(roc_auc_score(templates.same, similarity), abs=1e-12)
    assert (found.templates, found.images, found.genuine_pairs + found.impostor_pairs) == (12, 40, 60)
    assert score.tar_at_far[0.1] is not None
    assert score.tar_at_far[0.001] is None
    assert list(score.rates) == ["EER", "AUC", "TAR at FAR 0.1", "TAR at FAR 0.001"]
    values = json.loads(found.to_json())
    assert (values["kind"], values["name"], values["protocol"], values["step"]) == ("templates", "faces", "ijbc", 3)
    assert (values["flip"], values["weighted"], values["scores"][0]["resolution"]) == (flip, False, None)


def test_every_resolution_has_its_scores_and_json_keeps_them(network: FaceNetwork) -> None:
    templates = drawn()
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def evaluated(*resolutions: int) -> TemplateEvaluation:
        config = TemplateConfig(**SETTINGS, resolutions=resolutions, far=(0.1, 0.001))
        return evaluate_templates(network, templates, images, config, World())

    found = evaluated(8, 32)

    # Their own size means no degradation.
    assert list(found.scores) == [8, 32]
    assert found.scores[32] == evaluated().scores[None] != found.scores[8]
    assert found.scores[8] == evaluated(8).scores[8]
    assert TemplateEvaluation.from_json(found.to_json()) == found


def write_ijbc(folder: Path) -> None:
    """Four images of two templates, without landmarks."""
    for number in range(1, 5):
        Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "ijbc_face_tid_mid.txt").write_text("1.jpg 1 1\n2.jpg 1 2\n3.jpg 2 3\n4.jpg 2 4\n")
    (folder / "ijbc_template_pair_label.txt").write_text("1 1 1\n1 2 0\n")


def test_a_set_is_read_and_says_what_goes_through_the_network(network: FaceNetwork, tmp_path: Path) -> None:
    write_ijbc(tmp_path)
    settings = {"protocol": "ijbc", "pairs": str(tmp_path), "images": str(tmp_path)}

    read = TemplateVerification.load(TemplateConfig(**settings, resolutions=(7, 14), flip=True))
    assert read.passes == 4 * 2 * 2
    assert TemplateVerification.load(TemplateConfig(**settings)).passes == 4

    with pytest.raises(OctoscaleError, match="resolutions has 32 px, but the images have 16 px; leave out"):
        TemplateVerification.load(TemplateConfig(**settings, resolutions=(7, 32)))
    with pytest.raises(OctoscaleError, match=r"align takes ijbc_name_5pts_score\.txt in "):
        TemplateVerification.load(TemplateConfig(**settings, align=True))
