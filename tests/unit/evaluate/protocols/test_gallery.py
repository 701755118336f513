"""Galleries and probes: TinyFace's files, and tables."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from octoscale.errors import OctoscaleError
from octoscale.evaluate.protocols.gallery import Gallery, read_roles, read_tinyface


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def cell(names: list[str]) -> np.ndarray:
    """A column of texts, as MATLAB's cells."""
    return np.array([[name] for name in names], object)


def write_tinyface(folder: Path, *, distractors: int = 2) -> str:
    savemat(
        folder / "gallery_match_img_ID_pairs.mat",
        {"gallery_set": cell(["7_1.jpg", "9_1.jpg", "9_2.jpg"]), "gallery_ids": np.array([[7], [9], [9]])},
    )
    savemat(
        folder / "probe_img_ID_pairs.mat",
        {"probe_set": cell(["7_5.jpg", "9_6.jpg"]), "probe_ids": np.array([[7], [9]])},
    )
    for number in range(distractors):
        paint(folder / "Gallery_Distractor" / f"d{number}.png")
    return str(folder)


def test_tinyface_has_a_gallery_with_distractors(tmp_path: Path) -> None:
    folder = write_tinyface(tmp_path)

    sets = read_tinyface(folder, folder)

    assert [sets.images[row] for row in sets.gallery] == [
        "Gallery_Match/7_1", "Gallery_Match/9_1", "Gallery_Match/9_2", "Gallery_Distractor/d0", "Gallery_Distractor/d1",
    ]  # fmt: skip
    assert sets.gallery_identity.tolist() == [0, 1, 1, -1, -1]
    assert [sets.images[row] for row in sets.probes] == ["Probe/7_5", "Probe/9_6"]
    assert sets.probe_identity.tolist() == [0, 1]


def test_tinyface_without_distractors_is_refused(tmp_path: Path) -> None:
    folder = write_tinyface(tmp_path, distractors=0)

    with pytest.raises(OctoscaleError, match="has no images in Gallery_Distractor"):
        read_tinyface(folder, folder)


def roles(folder: Path, text: str) -> Gallery:
    (folder / "roles.csv").write_text(text)
    return read_roles(str(folder / "roles.csv"))


def test_a_table_says_who_is_what(tmp_path: Path) -> None:
    sets = roles(
        tmp_path, "image,identity,role\na/1.jpg,Ada,gallery\n\nx.jpg,,distractor\na/2.jpg,Ada,probe\nb.jpg,Bo,probe\n"
    )

    assert sets.images == ("a/1", "x", "a/2", "b")
    assert sets.gallery_identity.tolist() == [0, -1]
    assert sets.probe_identity.tolist() == [0, 1]


@pytest.mark.parametrize("separator", ["\t", " ", ", "])
def test_a_table_may_be_divided_otherwise_and_have_roles_in_capitals(tmp_path: Path, separator: str) -> None:
    rows = [("a/1.jpg", "Ada", "Gallery"), ("x.jpg", "-", "DISTRACTOR"), ("a/2.jpg", "Ada", "probe")]

    sets = roles(tmp_path, "".join(f"{separator.join(row)}\n" for row in rows))

    assert sets.images == ("a/1", "x", "a/2")
    assert sets.gallery_identity.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        (["1.jpg", "2.jpg"], np.array([[1.0], [np.nan]]), "entry 2 of gallery_ids in .* is nan; expected a whole"),
        (["1.jpg", "2.jpg"], cell(["1", "b"]), "entry 1 of gallery_ids in .* is '1'; expected a whole number"),
        (["1.jpg", ""], np.array([[1], [2]]), "entry 2 of gallery_set in .* expected an image's name"),
    ],
)
def test_a_malformed_matlab_file_is_refused_with_its_entry(
    tmp_path: Path, names: list[str], ids: np.ndarray, message: str
) -> None:
    folder = write_tinyface(tmp_path)
    path = tmp_path / "gallery_match_img_ID_pairs.mat"
    savemat(path, {"gallery_set": cell(names), "gallery_ids": ids})

    with pytest.raises(OctoscaleError, match=message):
        read_tinyface(folder, folder)


def test_an_image_of_tinyface_that_is_of_two_people_is_refused_with_its_entry(tmp_path: Path) -> None:
    folder = write_tinyface(tmp_path)
    savemat(
        tmp_path / "probe_img_ID_pairs.mat",
        {"probe_set": cell(["7_5.jpg", "7_5.jpg"]), "probe_ids": np.array([[7], [9]])},
    )
    with pytest.raises(OctoscaleError, match=r"entry 2 of probe_set in .* has Probe/7_5 as probe of 9, and entry 1 of"):
        read_tinyface(folder, folder)


def test_an_image_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    rows = ["a.jpg,Ada,gallery", "x.jpg,,distractor", "b.jpg,Ada,probe"]

    sets = roles(tmp_path, "\n".join([*rows, *rows, "./a.jpg,Ada,gallery"]))

    assert (sets.images, sets.gallery.tolist(), sets.probes.tolist()) == (("a", "x", "b"), [0, 1], [2])


def test_identities_may_be_cells(tmp_path: Path) -> None:
    folder = write_tinyface(tmp_path)
    ids = np.empty((3, 1), object)
    for row, number in enumerate((7, 9, 9)):
        ids[row, 0] = np.array([[number]])
    names = cell(["7_1.jpg", "9_1.jpg", "9_2.jpg"])
    savemat(tmp_path / "gallery_match_img_ID_pairs.mat", {"gallery_set": names, "gallery_ids": ids})

    assert read_tinyface(folder, folder).gallery_identity.tolist() == [0, 1, 1, -1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,Ada,galery\nb.jpg,Ada,gallery\nc.jpg,Ada,probe\n", r"line 1 of .*'a.jpg,Ada,galery'; expected IMAGE"),
        ('"a.jpg,Ada,gallery\nb.jpg,Ada,probe\n', r"line 1 of .* is no line of a table"),
        ("a.jpg,Ada,gallery\nb.jpg,Bo,witness\n", r"line 2 of .*'b.jpg,Bo,witness'; expected IMAGE, IDENTITY"),
        ("a.jpg,Ada,gallery\nb.jpg,,probe\n", r"line 2 of .*expected"),
        ("a.jpg,Ada,gallery\n", "has no probe image"),
        ("a.jpg,Ada,probe\n", "has no gallery image"),
        ("a.jpg,Ada,gallery\nb.jpg,ada,probe\n", "has no probe that shows anybody of the gallery; compare"),
        (
            "a.jpg,Ada,gallery\na.png,Ada,probe\n",
            r"line 2 of \S+ has a as probe of Ada, and line 1 of \S+ as gallery of Ada: an image has one role",
        ),
        ("a.jpg,Ada,gallery\na.jpg,Bo,gallery\nb.jpg,Bo,probe\n", "line 2 of .* has a as gallery of Bo, and line 1"),
        (
            "a.jpg,Ada,gallery\nx.jpg,Cy,distractor\nb.jpg,Ada,probe\nc.jpg,Cy,probe\n",
            "line 2 of .* has x as distractor of Cy, who is in the gallery or among the probes",
        ),
        ("a.jpg,Ada,gallery\na.jpg,,distractor\nb.jpg,Ada,probe\n", "line 2 of .* has a as distractor, and line 1"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        roles(tmp_path, text)
