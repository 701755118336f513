"""The rules on packed folders: who is left out, and the report."""

import math
from pathlib import Path

import pytest

from octoscale.data.index import Index
from octoscale.data.pack import Excluded, PackReport, Rules, pack
from octoscale.data.pack.exclusions import Exclusions
from octoscale.data.pack.rules import parse_split
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import MakeFolder


def packed_with(source: Path, folder: Path, **rules: object) -> tuple[PackReport, list[str]]:
    """The report, and the names of the packed images."""
    report = pack(str(source), str(folder), rules=Rules(**rules))  # type: ignore[arg-type]
    index = Index.load(folder)
    return report, [index.sample_name(row) for row in range(len(index))]


def test_identities_with_few_images_are_left_out(make_folder: MakeFolder, tmp_path: Path) -> None:
    report, names = packed_with(make_folder({"a": 3, "b": 4, "c": 2}), tmp_path / "packed", min_images=4)

    assert {name[0] for name in names} == {"b"}
    assert report.excluded_identities == (
        Excluded("a", "3 good of 3 images; an identity needs 4"),
        Excluded("c", "2 good of 2 images; an identity needs 4"),
    )


def test_excluded_identities_are_told(make_folder: MakeFolder, tmp_path: Path) -> None:
    exclusions = Exclusions("excluded by bad.txt", identities=("a", "nobody"))

    report, names = packed_with(make_folder({"a": 3, "b": 2}), tmp_path / "packed", exclusions=exclusions)

    assert names == ["b/000.jpg", "b/001.jpg"]
    assert report.excluded_identities == (Excluded("a", "excluded by bad.txt"),)
    assert report.unknown_exclusions == ("nobody",)


def test_excluded_images_are_found_by_name_or_by_number_among_the_good_ones(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    source = make_folder({"a": 4, "b": 4})
    (source / "b/000.jpg").write_bytes(b"damaged")
    exclusions = Exclusions("excluded", images=("a/002.jpg", "b #1", "b #9", "c #1"))

    report, names = packed_with(source, tmp_path / "packed", exclusions=exclusions)

    assert names == ["a/000.jpg", "a/001.jpg", "a/003.jpg", "b/002.jpg", "b/003.jpg"]
    assert Excluded("b/001.jpg", "excluded") in report.excluded_images
    assert report.unknown_exclusions == ("b #9", "c #1")


def test_of_one_person_the_identity_with_the_most_images_stays(make_folder: MakeFolder, tmp_path: Path) -> None:
    exclusions = Exclusions("excluded", same_person=(("a", "b", "c"), ("d", "e"), ("f", "gone")))
    source = make_folder({"a": 2, "b": 4, "c": 3, "d": 2, "e": 2, "f": 2})

    report, names = packed_with(source, tmp_path / "packed", exclusions=exclusions)

    assert {name[0] for name in names} == {"b", "d", "f"}
    assert [item.name for item in report.excluded_identities] == ["a", "c", "e"]
    assert report.unknown_exclusions == ("gone",)


def test_an_exclusion_can_leave_too_few(make_folder: MakeFolder, tmp_path: Path) -> None:
    report, _ = packed_with(
        make_folder({"a": 2, "b": 2}), tmp_path / "packed", exclusions=Exclusions("excluded", images=("a/000.jpg",))
    )

    assert report.excluded_identities == (Excluded("a", "1 good of 2 images; an identity needs 2"),)


def test_a_list_of_somebody_else_is_an_error(make_folder: MakeFolder, tmp_path: Path) -> None:
    exclusions = Exclusions("excluded by other.csv", images=("x/1.jpg", "y/1.jpg"))

    with pytest.raises(OctoscaleError, match=r"nothing is excluded by other.csv: .* none of its 2 names, such as 'x/1"):
        packed_with(make_folder({"a": 2}), tmp_path / "packed", exclusions=exclusions)


def test_a_split_without_anybody_is_an_error(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="gives no identity to 'validation'"):
        pack(str(make_folder({"a": 2, "b": 2})), str(tmp_path / "p"), rules=Rules(held_out=("validation", 0.0001)))


def test_a_split_is_a_name_and_a_share() -> None:
    assert parse_split("validation=0.01") == ("validation", 0.01)
    for text in ("validation", "validation=", "0.01", "=x"):
        with pytest.raises(OctoscaleError, match="is not NAME=SHARE"):
            parse_split(text)
    wrong = [("../x", 0.1), ("train", 0.1), ("shards", 0.1), ("", 0.1), ("v", 0.0), ("v", 1.0), ("v", math.nan)]
    for held_out in wrong:
        with pytest.raises(OctoscaleError, match="held-out"):
            Rules(held_out=held_out)


def test_one_image_is_too_few_for_pairs() -> None:
    with pytest.raises(OctoscaleError, match="min_images is 1"):
        Rules(min_images=1)
