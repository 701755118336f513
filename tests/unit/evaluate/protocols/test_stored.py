"""Images that are read when they are asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octoscale.data.align import TEMPLATE, align
from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.stored import StoredImages


def paint(path: Path, level: int, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (level, level, level)).save(path)


def test_only_the_rows_asked_for_are_read(tmp_path: Path) -> None:
    for row in range(3):
        paint(tmp_path / f"a/{row}.png", 10 * row)
    images = StoredImages.named(["a/0", "a/1", "a/2"], str(tmp_path))
    (tmp_path / "a/1.png").write_bytes(b"damaged")

    assert len(images) == 3
    assert images.shape == (3, 3, 8, 8)
    assert images[torch.tensor([2, 0, 2])][:, 0, 0, 0].tolist() == [20, 0, 20]
    with pytest.raises(OctoscaleError, match=r"cannot decode a/1\.png"):
        images[torch.tensor([1])]


def test_images_are_aligned_by_their_landmarks(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    landmarks = (TEMPLATE / 2 + 3)[None]

    images = StoredImages.named(["1"], str(tmp_path), landmarks)

    assert images.shape == (1, 3, 112, 112)
    np.testing.assert_array_equal(images[torch.tensor([0])][0].permute(1, 2, 0), align(pixels, landmarks[0]))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_an_image_of_another_size_than_the_first_is_refused_in_whatever_batch(tmp_path: Path, batch: int) -> None:
    for row, size in enumerate((8, 8, 12, 12)):
        paint(tmp_path / f"{row}.png", 0, size)
    images = StoredImages.named(["0", "1", "2", "3"], str(tmp_path))

    def read() -> list[torch.Tensor]:
        return [images[rows] for rows in torch.arange(4).split(batch)]

    with pytest.raises(OctoscaleError, match=r"2\.png in .* is 12×12 px; .* as 0\.png, which is 8 px high"):
        read()


def test_missing_images_are_counted(tmp_path: Path) -> None:
    paint(tmp_path / "1.png", 0)

    with pytest.raises(OctoscaleError, match="lacks 2 of 3 images; the first: 2"):
        StoredImages.named(["1", "2", "3"], str(tmp_path))


def test_an_image_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        paint(tmp_path / name, 0)
    (tmp_path / "b.png").symlink_to(tmp_path / "moved" / "b.png")

    with pytest.raises(OctoscaleError, match=r"cannot read \S+/b\.png: there is no such file"):
        StoredImages.named(["a", "b", "c"], str(tmp_path))[torch.arange(3)]


def test_what_cannot_be_aligned_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "good.png", 0, 90)
    (tmp_path / "empty.png").write_bytes(b"")
    images = StoredImages.named(["good", "empty"], str(tmp_path), np.stack([TEMPLATE / 2] * 2))

    with pytest.raises(OctoscaleError, match=r"cannot align empty\.png in .*not a JPEG"):
        images[torch.tensor([0, 1])]
