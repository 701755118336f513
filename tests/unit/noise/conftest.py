"""Pictures of 30 people, some in the wrong folder, packed; a network that knows them; and what a survey finds."""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from octoscale.data.index import Index
from octoscale.data.pack import pack
from octoscale.data.reader import ImageReader
from octoscale.models.network import FaceNetwork, Preprocessing
from octoscale.noise.survey import Survey, survey


class Pixels(nn.Module):
    """Tells the pictures apart without training: 8 × 8 cells without their mean."""

    def forward(self, images: Tensor) -> Tensor:
        cells = nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)
        return cells - cells.mean(1, keepdim=True)


@pytest.fixture(scope="session")
def network() -> FaceNetwork:
    return FaceNetwork(Pixels(), Preprocessing())


@pytest.fixture(scope="session")
def mislabelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, ImageReader]]:
    """People of 6 images, each a pattern of their own with noise on it.

    Number 1 has half of the images in a folder ``again``; one image of number 2 is with number 3.
    """
    folder = tmp_path_factory.mktemp("mislabelled")
    train, rng = folder / "train", np.random.default_rng(0)
    for person in range(1, 31):
        (train / f"person_{person:02d}").mkdir(parents=True)
        pattern = rng.uniform(70, 180, (8, 8, 3))
        for image in range(1, 7):
            cells = (pattern + rng.normal(0, 25, (8, 8, 3))).clip(0, 255).astype(np.uint8)
            name = f"person_{person:02d}/{person:02d}_{image}.png"
            Image.fromarray(cells).resize((32, 32), Image.Resampling.NEAREST).save(train / name)
    (train / "again").mkdir()
    for image in (1, 2, 3):
        shutil.move(train / f"person_01/01_{image}.png", train / "again")
    shutil.move(train / "person_02/02_4.png", train / "person_03")
    pack(str(train), str(folder / "packed"))
    index = Index.load(folder / "packed")
    reader = ImageReader(index, folder / "packed")
    yield index, reader
    reader.close()


@pytest.fixture(scope="session")
def found(network: FaceNetwork, mislabelled: tuple[Index, ImageReader]) -> Survey:
    index, reader = mislabelled
    return survey(network, index, reader, device=torch.device("cpu"), global_batch_size=30, epochs=20)
