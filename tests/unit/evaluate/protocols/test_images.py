"""The images that a list of pairs names."""

import io
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols import Pairs
from octoscale.evaluate.protocols.images import load_images, without_suffix
from octoscale.evaluate.protocols.lfw import read_lfw

TWO_FOLDS = "2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nBob\t3\t12\nAda\t2\tCy\t1\n"


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    (tmp_path / "pairs.txt").write_text(TWO_FOLDS)
    return read_lfw(str(tmp_path / "pairs.txt"))


def paint(path: Path, level: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 0, 255 - level)).save(path)


def test_images_come_in_the_order_of_the_list_whatever_their_suffix(pairs: Pairs, tmp_path: Path) -> None:
    suffixes = (".png", ".PNG", ".png", ".webp", ".png")
    for level, (image, suffix) in enumerate(zip(pairs.images, suffixes, strict=True)):
        paint(tmp_path / f"{image}{suffix}", 40 * level)
    (tmp_path / "Ada" / "Ada_0001.txt").write_text("a note, not an image")

    images = load_images(pairs, str(tmp_path))

    assert images.shape == (5, 3, 8, 8)
    # WebP is lossy: a few levels off.
    np.testing.assert_allclose(images[:, 0].float().mean((1, 2)), [0, 40, 80, 120, 160], atol=4)


def test_a_missing_image_names_the_line_that_needs_it(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9)
    (tmp_path / "Bob/Bob_0012.png").unlink()

    with pytest.raises(OctoscaleError, match=r"no Bob/Bob_0012 .*line 4 .*: Bob/Bob_0003 and Bob/Bob_0012"):
        load_images(pairs, str(tmp_path))


def test_two_files_of_one_name_are_refused_where_a_pair_needs_it(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9)
    paint(tmp_path / "Di/Di_0001.png", 9)
    paint(tmp_path / "Di/Di_0001.jpg", 9)
    assert len(load_images(pairs, str(tmp_path))) == 5

    paint(tmp_path / "Cy/Cy_0001.jpg", 99)

    with pytest.raises(OctoscaleError, match=r"Cy/Cy_0001\.jpg and Cy/Cy_0001\.png: two images for Cy/Cy_0001"):
        load_images(pairs, str(tmp_path))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_composed_or_not(tmp_path: Path, form: Literal["NFC", "NFD"]) -> None:
    for number in (1, 2):
        paint(tmp_path / unicodedata.normalize(form, f"José/José_000{number}.png"), 9)
        paint(tmp_path / f"Bo/Bo_000{number}.png", 9)
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    (tmp_path / "pairs.txt").write_text(
        unicodedata.normalize(other, "2\t1\nJosé\t1\t2\nJosé\t1\tBo\t1\nBo\t1\t2\nBo\t1\tJosé\t1\n")
    )

    assert len(load_images(read_lfw(str(tmp_path / "pairs.txt")), str(tmp_path))) == 4


@pytest.mark.parametrize("odd", ["Ada/Ada_0001", "Cy/Cy_0001"])
@pytest.mark.parametrize("size", [(9, 8), (8, 9)])
def test_images_that_are_not_square_are_refused(pairs: Pairs, tmp_path: Path, odd: str, size: tuple[int, int]) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9, size if image == odd else (8, 8))

    with pytest.raises(OctoscaleError, match=rf"{odd}.png .* is {size[0]}×{size[1]} px; all images must be square"):
        load_images(pairs, str(tmp_path))


def test_images_of_mixed_sizes_are_refused(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9, (12, 12) if image == "Bob/Bob_0003" else (8, 8))

    with pytest.raises(OctoscaleError, match=r"Bob_0003.png .* is 12×12 px.*as Ada/Ada_0001.png, which is 8 px"):
        load_images(pairs, str(tmp_path))


def test_a_damaged_image_is_named(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9)
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "Cy/Cy_0001.png").write_bytes(whole.getvalue()[:200])

    with pytest.raises(OctoscaleError, match=r"cannot decode Cy/Cy_0001.png in .*damaged"):
        load_images(pairs, str(tmp_path))


def test_the_official_pairs_of_people_set_9_are_600_of_764_images(real_data: Path) -> None:
    pairs = read_lfw(str(real_data / "faces" / "pairs.txt"))

    images = load_images(pairs, str(real_data / "faces" / "verify"))

    assert (pairs.folds, len(pairs), pairs.same.sum()) == (10, 600, 300)
    assert images.shape == (764, 3, 112, 112)


def test_only_suffixes_of_images_are_taken_off() -> None:
    assert without_suffix("St. Ann/St. Ann_0001.JPG") == "St. Ann/St. Ann_0001"
    assert without_suffix("St. Ann/St. Ann_0001") == "St. Ann/St. Ann_0001"
