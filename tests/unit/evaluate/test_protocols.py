"""Lists of pairs in LFW's form, and their images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols import Pairs, load_images, read_pairs

TWO_FOLDS = "2\t1\nAda\t1\t2\nAda\t1\tBob\t3\nBob\t3\t12\nAda\t2\tCy\t1\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "pairs.txt"
    path.write_text(text)
    return path


def paint(path: Path, level: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 0, 255 - level)).save(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return read_pairs(written(tmp_path, TWO_FOLDS))


def test_folds_alternate_genuine_and_impostor_pairs(pairs: Pairs) -> None:
    assert pairs.folds == 2
    assert pairs.same.tolist() == [True, False, True, False]
    assert [(pairs.images[a], pairs.images[b]) for a, b in zip(pairs.first, pairs.second, strict=True)] == [
        ("Ada/Ada_0001", "Ada/Ada_0002"),
        ("Ada/Ada_0001", "Bob/Bob_0003"),
        ("Bob/Bob_0003", "Bob/Bob_0012"),
        ("Ada/Ada_0002", "Cy/Cy_0001"),
    ]


def test_each_image_is_listed_once(pairs: Pairs) -> None:
    assert pairs.images == ("Ada/Ada_0001", "Ada/Ada_0002", "Bob/Bob_0003", "Bob/Bob_0012", "Cy/Cy_0001")


def test_a_header_of_one_number_is_one_fold(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, "2\nAda\t1\t2\nBob\t1\t2\nAda\t1\tBob\t1\nAda\t2\tBob\t2\n"))

    assert pairs.folds == 1
    assert pairs.same.tolist() == [True, True, False, False]


def test_windows_line_ends_and_a_relative_path_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.txt").write_bytes(TWO_FOLDS.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)

    assert len(read_pairs("pairs.txt")) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 of .*pairs.txt is ''; expected 'FOLDS<tab>PAIRS'"),
        ("ten\t300\n", r"line 1 of .*'ten\\t300'; expected"),
        ("2\t0\n", r"line 1 of .*expected"),
        (TWO_FOLDS.replace("Ada\t1\tBob\t3", "Ada\t1\t3"), r"line 3 of .*'Ada\\t1\\t3'; expected the impostor pair"),
        (TWO_FOLDS.replace("Bob\t3\t12", "Bob\t3\tx"), r"line 4 of .*expected the genuine pair 'NAME<tab>i<tab>j'"),
        (TWO_FOLDS.replace("Bob\t3\t12", "Bob 3 12"), r"line 4 of .*expected the genuine pair"),
        (TWO_FOLDS + "Cy\t1\t2\n", r"has 5 lines after the first; .*'2\\t1' promises 4"),
        ("10\t300\nAda\t1\t2\n", r"has 1 lines after the first; .*promises 6000"),
    ],
)
def test_a_malformed_list_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        read_pairs(written(tmp_path, text))


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(OctoscaleError, match="is not UTF-8 text"):
        read_pairs(tmp_path / "pairs.txt")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"absent\.txt"):
        read_pairs(tmp_path / "absent.txt")


def test_images_come_in_the_order_of_the_list_whatever_their_suffix(pairs: Pairs, tmp_path: Path) -> None:
    suffixes = (".png", ".PNG", ".png", ".webp", ".png")
    for level, (image, suffix) in enumerate(zip(pairs.images, suffixes, strict=True)):
        paint(tmp_path / f"{image}{suffix}", 40 * level)
    (tmp_path / "Ada" / "Ada_0001.txt").write_text("a note, not an image")

    images = load_images(pairs, tmp_path)

    assert images.shape == (5, 3, 8, 8)
    # WebP is lossy: a few levels off.
    np.testing.assert_allclose(images[:, 0].float().mean((1, 2)), [0, 40, 80, 120, 160], atol=4)


def test_a_missing_image_names_the_line_that_needs_it(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9)
    (tmp_path / "Bob/Bob_0012.png").unlink()

    with pytest.raises(OctoscaleError, match=r"no Bob/Bob_0012 .*line 4 .*: Bob/Bob_0003 and Bob/Bob_0012"):
        load_images(pairs, tmp_path)


@pytest.mark.parametrize("odd", ["Ada/Ada_0001", "Cy/Cy_0001"])
@pytest.mark.parametrize("size", [(9, 8), (8, 9)])
def test_images_that_are_not_square_are_refused(pairs: Pairs, tmp_path: Path, odd: str, size: tuple[int, int]) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9, size if image == odd else (8, 8))

    with pytest.raises(OctoscaleError, match=rf"{odd}.png .* is {size[0]}×{size[1]} px; all images must be square"):
        load_images(pairs, tmp_path)


def test_images_of_mixed_sizes_are_refused(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9, (12, 12) if image == "Bob/Bob_0003" else (8, 8))

    with pytest.raises(OctoscaleError, match=r"Bob_0003.png .* is 12×12 px.*as Ada/Ada_0001.png, which is 8 px"):
        load_images(pairs, tmp_path)


def test_a_damaged_image_is_named(pairs: Pairs, tmp_path: Path) -> None:
    for image in pairs.images:
        paint(tmp_path / f"{image}.png", 9)
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "Cy/Cy_0001.png").write_bytes(whole.getvalue()[:200])

    with pytest.raises(OctoscaleError, match=r"cannot decode Cy/Cy_0001.png in .*damaged"):
        load_images(pairs, tmp_path)


def test_the_official_pairs_of_people_set_9_are_600_of_764_images(real_data: Path) -> None:
    pairs = read_pairs(real_data / "faces" / "pairs.txt")

    images = load_images(pairs, real_data / "faces" / "verify")

    assert (pairs.folds, len(pairs), pairs.same.sum()) == (10, 600, 300)
    assert images.shape == (764, 3, 112, 112)
