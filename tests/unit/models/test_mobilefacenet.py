"""MobileFaceNet against the published weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, load
from octoscale.models.mobilefacenet import MobileFaceNet

WEIGHTS = "weights/mobilefacenet_112_128d.pt"


@pytest.fixture(scope="module")
def pretrained(real_data: Path) -> FaceNetwork:
    return load("mobilefacenet", weights=real_data / WEIGHTS).eval().to(memory_format=torch.channels_last)


def _embed_files(network: FaceNetwork, paths: list[Path]) -> torch.Tensor:
    images = torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths]))
    with torch.no_grad():
        return torch.cat([network(chunk.permute(0, 3, 1, 2)) for chunk in images.split(32)])


def test_published_weights_have_the_same_keys_and_shapes(real_data: Path) -> None:
    published = torch.load(real_data / WEIGHTS, map_location="cpu", weights_only=True)
    ours = MobileFaceNet().state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in published.items()}
    assert len(ours) == 307


def test_has_the_papers_one_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in MobileFaceNet().parameters()) == 999_936


def test_one_fold_of_real_pairs_is_told_apart(real_data: Path, pretrained: FaceNetwork) -> None:
    """The first of the ten folds: 30 genuine pairs, then 30 impostor pairs."""
    verify = real_data / "faces" / "verify"
    pairs = []
    for line in (real_data / "faces" / "pairs.txt").read_text().splitlines()[1:61]:
        *names, first, second = line.split() if len(line.split()) == 3 else (line.split()[i] for i in (0, 2, 1, 3))
        pairs += [verify / name / f"{name}_{int(n):04d}.jpg" for name, n in ((names[0], first), (names[-1], second))]
    unit = torch.nn.functional.normalize(_embed_files(pretrained, pairs))
    distances = 1 - (unit[0::2] * unit[1::2]).sum(dim=1)
    # Over all 600 pairs 0.6 to 0.75 is the best threshold.
    assert ((distances < 0.67) == (torch.arange(60) < 30)).all()


def test_embeddings_of_real_faces_have_the_expected_norm(real_data: Path, pretrained: FaceNetwork) -> None:
    """Every twelfth of the 764 verification images, whose mean norm over all is 17.76 (published: 17.8)."""
    paths = sorted((real_data / "faces" / "verify").glob("*/*.jpg"))[::12]
    norms = _embed_files(pretrained, paths).norm(dim=1)
    # ReLU for ReLU6 gives 18.24, one ReLU6 less in dw_conv 17.79.
    assert norms.mean().item() == pytest.approx(18.04, abs=0.05)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"112×112 px images, got \(2, 3, 96, 112\)"):
        MobileFaceNet()(torch.zeros(2, 3, 96, 112))
