"""List files: what a line means, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.importers.entries import Entries
from octoscale.data.importers.listing import open_list
from octoscale.data.importers.source import FileSource
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


def write(folder: Path, text: str) -> str:
    (folder / "faces.txt").write_text(text)
    return str(folder / "faces.txt")


def entries_of(source: FileSource) -> list[tuple[str, str]]:
    """(identity key, name) of every entry."""
    return [(source.key(int(label)), source.name(row)) for row, label in enumerate(source._labels)]


def test_fields_are_divided_by_tabs_or_else_by_spaces(tmp_path: Path) -> None:
    source = open_list(write(tmp_path, "b/2.jpg zoe\n\nb/1.jpg  zoe\r\nmy faces/1.jpg\tAnn Lee\na.jpg\tzoe"))

    assert entries_of(source) == [
        ("Ann Lee", "my faces/1.jpg"), ("zoe", "b/2.jpg"), ("zoe", "b/1.jpg"), ("zoe", "a.jpg"),
    ]  # fmt: skip


def test_paths_are_relative_to_the_list_or_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"a")
    text = f"./a.jpg x\n{tmp_path}/images/b/../a.jpg x"

    source = open_list(write(tmp_path, text), str(tmp_path / "images"))

    assert [loaded.data for loaded in source.request(np.array([0])).load() if loaded] == [b"a"]
    # The second path is the same file.
    assert [(item.name, item.cause) for item in source.ignored] == [("a.jpg", "named a second time")]
    with pytest.raises(OctoscaleError, match=r"line 2 of .* is not below"):
        open_list(write(tmp_path, text.replace(f"{tmp_path}/images", "/etc")), str(tmp_path / "images"))


@pytest.mark.parametrize(
    "path", ["../a.jpg", "a/../../b.jpg", "..", ".", "a/..", "/etc/passwd", "//etc/passwd", "a\0b.jpg"]
)
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(OctoscaleError, match=r"line 2 of .*--root"):
        open_list(write(tmp_path, f"good.jpg a\n{path}\ta\n"))


def test_a_root_beside_another_with_the_same_beginning_is_another(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="is not below"):
        open_list(write(tmp_path, f"{tmp_path}/images-secret/a.jpg x"), f"{tmp_path}/images")


@pytest.mark.parametrize("line", ["alone.jpg", "my face.jpg ann", "a.jpg 1 2 3", "a.jpg\tann\tlee"])
def test_a_line_of_another_form_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(OctoscaleError, match=r"line 2 of .* fields: .*expected PATH LABEL"):
        open_list(write(tmp_path, f"good.jpg ann\n{line}\n"))


def test_ten_numbers_are_landmarks(tmp_path: Path) -> None:
    numbers = " ".join(map(str, range(10)))
    source = open_list(write(tmp_path, f"b.jpg y {numbers}\na.jpg x 9 8 7 6 5 4 3 2 1 0.5\n"))

    first, second = source.request(np.array([0, 1])).load()

    assert first is not None
    assert first.landmarks is not None
    assert first.landmarks.tolist() == [[9, 8], [7, 6], [5, 4], [3, 2], [1, 0.5]]
    assert second is not None
    assert second.label == 1


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ("a.jpg x 1 2 3 4 5 6 7 8 9 nan", "ten numbers"),
        ("a.jpg x 1 2 3 4 5 6 7 8 9 ten", "ten numbers"),
        ("a.jpg x\nb.jpg x 1 2 3 4 5 6 7 8 9 10", "line 2 .* where the first row has none"),
        ("a.jpg x 1 2 3 4 5 6 7 8 9 10\nb.jpg x", "line 2 .* where the first row has them"),
    ],
)
def test_wrong_landmarks_are_told(tmp_path: Path, lines: str, cause: str) -> None:
    with pytest.raises(OctoscaleError, match=cause):
        open_list(write(tmp_path, lines))


def test_an_empty_list_and_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="names no images"):
        open_list(write(tmp_path, "\n\n"))
    (tmp_path / "faces.txt").write_bytes("a.jpg Zoë".encode("latin-1"))
    with pytest.raises(OctoscaleError, match=r"line 1 of .* is not UTF-8"):
        open_list(str(tmp_path / "faces.txt"))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        source = open_list(str(path))
    except OctoscaleError:
        return
    assert all(not source.name(entry).startswith(("/", "../")) for entry in range(len(source)))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1))
def test_entries_are_sorted_by_identity_and_keep_the_order_of_the_rows(rows: list[tuple[int, int]]) -> None:
    entries = Entries("list", Store("/root"))
    for image, person in rows:
        entries.add(f"{image}.jpg", f"person {person}", (), "row")

    source = entries.source()

    first: dict[int, int] = {}
    for image, person in rows:
        first.setdefault(image, person)
    expected = sorted(((f"person {person}", f"{image}.jpg") for image, person in first.items()), key=lambda row: row[0])
    assert entries_of(source) == expected
    assert len(source.ignored) == len(rows) - len(first)


def test_the_root_of_the_file_system_holds_every_absolute_path(tmp_path: Path) -> None:
    source = open_list(write(tmp_path, f"{tmp_path}/a.jpg x\n/{tmp_path}/b.jpg x"), "/")

    assert [source.name(row) for row in range(2)] == [f"{tmp_path}/a.jpg"[1:], f"{tmp_path}/b.jpg"[1:]]
