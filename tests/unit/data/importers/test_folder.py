"""What counts as an image of an identity, and what does not."""

from pathlib import Path

import pytest

from octoscale.data.importers.folder import ImageFolder, SourceIdentity
from octoscale.errors import OctoscaleError


def touch(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return str(root)


def test_identities_are_sorted_by_key_and_images_by_name(tmp_path: Path) -> None:
    # "a-b/" sorts before "a/" as a path, but the key "a" before "a-b".
    url = touch(tmp_path, "b/1.png", "a-b/1.webp", "a/2.jpg", "a/1.JPEG")

    assert ImageFolder(url).identities == [
        SourceIdentity("a", ("a/1.JPEG", "a/2.jpg")),
        SourceIdentity("a-b", ("a-b/1.webp",)),
        SourceIdentity("b", ("b/1.png",)),
    ]


def test_images_are_read_by_name(tmp_path: Path) -> None:
    url = touch(tmp_path, "a/1.jpg", "a/2.jpg")

    assert ImageFolder(url).read(["a/2.jpg", "a/1.jpg"]) == [b"a/2.jpg", b"a/1.jpg"]


def test_other_files_are_listed_with_the_cause_and_hidden_ones_left_out(tmp_path: Path) -> None:
    url = touch(tmp_path, "a/1.jpg", "a/notes.txt", "a/deep/2.jpg", "top.jpg", ".DS_Store", "a/.thumbs/1.jpg")

    ignored = dict(ImageFolder(url).ignored)

    assert set(ignored) == {"a/notes.txt", "a/deep/2.jpg", "top.jpg"}
    assert "not an image file" in ignored["a/notes.txt"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"there is no folder .*/absent"):
        ImageFolder(str(tmp_path / "absent"))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=f"the folder {tmp_path} is empty"):
        ImageFolder(str(tmp_path))


def test_images_without_identity_folders_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"no identity folders with images: 1.jpg is not in an identity folder"):
        ImageFolder(touch(tmp_path, "1.jpg", "2.jpg"))


def test_a_key_that_breaks_the_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="not one line of UTF-8"):
        ImageFolder(touch(tmp_path, "a\nb/1.jpg"))
