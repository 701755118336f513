"""Files of what to leave out: what their columns mean."""

from pathlib import Path

import pytest

from octoscale.data.pack.exclusions import read_exclusions
from octoscale.errors import OctoscaleError


def write(folder: Path, text: str, name: str = "file.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_identity_keys_are_lines(tmp_path: Path) -> None:
    found = read_exclusions(write(tmp_path, "Ann Lee\n\nbob, the\r\nbob, the\n", "bad.txt"))

    assert found.identities == ("Ann Lee", "bob, the")
    assert found.cause == "excluded by bad.txt"


def test_of_pairs_the_misfiled_images_and_the_same_people_count(tmp_path: Path) -> None:
    lines = ["rank,kind,identity_a,identity_b,culprit", "1,misfiled image,a,b,b/3.jpg", "2,same person,c,d,"]
    lines += ["3,look-alike,e,f,", "4,same person,d,g,", '5,same person,"x, y",z,']

    found = read_exclusions(write(tmp_path, "\n".join(lines)))

    assert found.images == ("b/3.jpg",)
    # c is d, d is g: one person.
    assert set(found.same_person) == {("c", "d", "g"), ("x, y", "z")}
    assert found.identities == ()


def test_of_samples_every_image_counts(tmp_path: Path) -> None:
    text = "rank,image,sample_id,identity,suggested_identity\n1,a/1.jpg,7,a,b\n2,b #3,9,b,c\n"

    assert read_exclusions(write(tmp_path, text)).images == ("a/1.jpg", "b #3")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("\n\n", "are empty"),
        ("kind,identity_a,identity_b,culprit\nsame person,a\n", "other columns than its first line"),
        ('kind,identity_a,identity_b,culprit\n"same', "not a readable CSV"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(OctoscaleError, match=cause):
        read_exclusions(write(tmp_path, text))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"absent.txt: there is no such file"):
        read_exclusions(str(tmp_path / "absent.txt"))
