"""The made-up faces: their layout, their determinism, and that a person keeps their looks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from octoscale.data.importers.synthetic import FOLDS, write_synthetic_faces
from octoscale.errors import OctoscaleError

TRAIN, TRAIN_IMAGES, VERIFY, VERIFY_IMAGES, PAIRS = 4, 3, 20, 2, 2


def write(directory: Path, **changes: int) -> Path:
    sizes = {"identities": TRAIN, "images_per_identity": TRAIN_IMAGES, "verify_identities": VERIFY}
    sizes |= {"verify_images_per_identity": VERIFY_IMAGES, "verify_pairs": PAIRS, "image_size": 48}
    write_synthetic_faces(directory, **(sizes | changes))
    return directory


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic"))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def pixels(path: Path) -> NDArray[np.float64]:
    return np.asarray(Image.open(path), np.float64)


def folds_of_pairs(faces: Path) -> Iterator[list[list[str]]]:
    lines = (faces / "verify" / "pairs.txt").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    for start in range(0, len(rows), 2 * PAIRS):
        yield rows[start : start + 2 * PAIRS]


def test_both_sets_have_every_image_of_every_identity(faces: Path) -> None:
    found = {name for name in contents(faces) if name.endswith(".jpg")}

    train = {f"synthetic_{i:04d}": TRAIN_IMAGES for i in range(1, TRAIN + 1)}
    verify = {f"synthetic_{i:04d}": VERIFY_IMAGES for i in range(TRAIN + 1, TRAIN + VERIFY + 1)}
    assert found == {
        f"{part}/{name}/{name}_{image:04d}.jpg"
        for part, people in (("train", train), ("verify", verify))
        for name, images in people.items()
        for image in range(1, images + 1)
    }


def test_the_directory_says_that_it_is_synthetic(faces: Path) -> None:
    assert "synthetic" in (faces / "SYNTHETIC.txt").read_text()


def test_the_same_arguments_give_the_same_bytes(faces: Path, tmp_path: Path) -> None:
    assert contents(write(tmp_path)) == contents(faces)


def test_another_seed_gives_other_images_and_other_pairs(faces: Path, tmp_path: Path) -> None:
    other, known = contents(write(tmp_path, seed=1)), contents(faces)

    assert other.keys() == known.keys()
    assert not [name for name in known if other[name] == known[name]]


def test_a_persons_images_do_not_depend_on_how_many_there_are(faces: Path, tmp_path: Path) -> None:
    write(tmp_path, identities=2, images_per_identity=1, verify_identities=0)

    few, many = contents(tmp_path / "train"), contents(faces / "train")
    assert few == {name: many[name] for name in few}


def test_images_are_rgb_jpegs_of_the_default_size(tmp_path: Path) -> None:
    write_synthetic_faces(tmp_path, identities=1, images_per_identity=1)

    with Image.open(tmp_path / "train" / "synthetic_0001" / "synthetic_0001_0001.jpg") as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112))


def test_no_two_images_are_alike(faces: Path) -> None:
    images = [pixels(path) for path in sorted(faces.glob("train/*/*.jpg"))]

    differences = [np.abs(a - b).mean() for row, a in enumerate(images) for b in images[:row]]
    # Noise alone changes a level by at most 8 on average.
    assert min(differences) > 10


def test_overall_colour_says_little_about_who_it_is(tmp_path: Path) -> None:
    people, images = 12, 8
    write(tmp_path, identities=people, images_per_identity=images, verify_identities=0)
    colours = np.array([pixels(path).mean((0, 1)) for path in sorted(tmp_path.glob("train/*/*.jpg"))])

    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    who = np.arange(people * images) // images
    recognised = (who[distances.argmin(1)] == who).mean()
    # Chance is 7 / 95; a third leaves most of the work to shape and detail.
    assert recognised < 1 / 3


def test_pairs_are_ten_folds_of_genuine_then_impostor_pairs_of_existing_images(faces: Path) -> None:
    lines = (faces / "verify" / "pairs.txt").read_text().splitlines()
    assert lines[0] == f"{FOLDS}\t{PAIRS}"
    assert len(lines) == 1 + FOLDS * 2 * PAIRS

    for fold in folds_of_pairs(faces):
        for name, first, second in fold[:PAIRS]:
            assert first != second
            images = [(name, first), (name, second)]
            assert all((faces / "verify" / n / f"{n}_{int(i):04d}.jpg").is_file() for n, i in images)
        for name, first, other, second in fold[PAIRS:]:
            assert name != other
            images = [(name, first), (other, second)]
            assert all((faces / "verify" / n / f"{n}_{int(i):04d}.jpg").is_file() for n, i in images)


def test_no_pair_comes_twice_and_no_identity_is_in_two_folds(faces: Path) -> None:
    folds = list(folds_of_pairs(faces))
    people = [{value for row in fold for value in row if value.startswith("synthetic")} for fold in folds]

    assert sum(map(len, people)) == len(set().union(*people))
    assert len({tuple(row) for fold in folds for row in fold}) == FOLDS * 2 * PAIRS


def test_training_and_verification_share_no_identity(faces: Path) -> None:
    train, verify = ({path.name for path in (faces / part).iterdir() if path.is_dir()} for part in ("train", "verify"))
    assert not train & verify


def test_without_verification_identities_there_is_no_verification_set(tmp_path: Path) -> None:
    write(tmp_path, identities=1, verify_identities=0)
    assert not (tmp_path / "verify").exists()


def test_more_pairs_than_the_set_has_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="2 genuine and 4 impostor pairs, not 3 of each"):
        write(tmp_path, verify_pairs=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"identities": 0}, {"images_per_identity": 0}, {"seed": -1}, {"image_size": 0}])
def test_numbers_that_make_no_data_set_are_refused(change: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=f"{next(iter(change))}.* {next(iter(change.values()))}"):
        write(tmp_path, **change)


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OctoscaleError, match="not empty"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
