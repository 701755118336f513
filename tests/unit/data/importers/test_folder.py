"""What counts as an image of an identity, and what does not."""

from pathlib import Path

import numpy as np
import pytest

from octoscale.data.importers.folder import open_folder
from octoscale.data.importers.source import FileSource
from octoscale.errors import OctoscaleError


def touch(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return str(root)


def entries_of(source: FileSource) -> list[tuple[str, str]]:
    """(identity key, name) of every entry."""
    labels = [loaded.label for loaded in source.request(np.arange(len(source))).load() if loaded]
    return [(source.key(label), source.name(entry)) for entry, label in enumerate(labels)]


def test_identities_are_sorted_by_key_and_images_by_name(tmp_path: Path) -> None:
    # "a-b/" sorts before "a/" as a path, but the key "a" before "a-b".
    url = touch(tmp_path, "b/1.png", "a-b/1.webp", "a/2.jpg", "a/1.JPEG")

    source = open_folder(url)

    assert entries_of(source) == [("a", "a/1.JPEG"), ("a", "a/2.jpg"), ("a-b", "a-b/1.webp"), ("b", "b/1.png")]


def test_entries_are_read_with_their_label(tmp_path: Path) -> None:
    source = open_folder(touch(tmp_path, "a/1.jpg", "b/2.jpg"))

    loaded = source.request(np.array([1, 0])).load()

    assert [(item.label, item.data) for item in loaded if item] == [(1, b"b/2.jpg"), (0, b"a/1.jpg")]


def test_a_file_that_is_gone_is_the_fault_of_its_entry_alone(tmp_path: Path) -> None:
    source = open_folder(touch(tmp_path, "a/1.jpg", "b/2.jpg"))
    (tmp_path / "a/1.jpg").unlink()

    loaded = source.request(np.array([0, 1])).load()

    assert [(item.data, item.cause) for item in loaded if item] == [
        (b"", "there is no such file"), (b"b/2.jpg", ""),
    ]  # fmt: skip


def test_other_files_are_listed_with_the_cause_and_hidden_ones_left_out(tmp_path: Path) -> None:
    url = touch(tmp_path, "a/1.jpg", "a/notes.txt", "a/deep/2.jpg", "top.jpg", ".DS_Store", "a/.thumbs/1.jpg")

    ignored = {item.name: item.cause for item in open_folder(url).ignored}

    assert set(ignored) == {"a/notes.txt", "a/deep/2.jpg", "top.jpg"}
    assert "not an image file" in ignored["a/notes.txt"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"there is no folder .*/absent"):
        open_folder(str(tmp_path / "absent"))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=f"the folder {tmp_path} is empty"):
        open_folder(str(tmp_path))


def test_images_without_identity_folders_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"no identity folders with images: 1.jpg is not in an identity folder"):
        open_folder(touch(tmp_path, "1.jpg", "2.jpg"))


def test_a_key_that_breaks_the_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="not one line of UTF-8"):
        open_folder(touch(tmp_path, "a\nb/1.jpg"))
