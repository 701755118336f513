"""CSV and Parquet tables: columns, rows, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.importers.table import LANDMARK_COLUMNS, Columns, open_table
from octoscale.errors import OctoscaleError
from tests.unit.data.importers.test_listing import entries_of


def csv_table(folder: Path, text: str, name: str = "faces.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def parquet_table(folder: Path, **columns: list[object]) -> str:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), folder / "faces.parquet")
    return str(folder / "faces.parquet")


def test_a_csv_table_is_read_by_its_columns(tmp_path: Path) -> None:
    url = csv_table(tmp_path, 'note,path,identity\n1,"b, c/1.jpg",zoe\n2,a.jpg,"Lee, Ann"\n')

    assert entries_of(open_table(url, Columns(), parquet=False)) == [("Lee, Ann", "a.jpg"), ("zoe", "b, c/1.jpg")]


def test_columns_can_be_chosen_and_tabs_divide_a_tsv(tmp_path: Path) -> None:
    url = csv_table(tmp_path, "who\tfile\n7\ta.jpg\n", "faces.tsv")

    assert entries_of(open_table(url, Columns("file", "who"), parquet=False)) == [("7", "a.jpg")]


def test_landmarks_are_ten_columns(tmp_path: Path) -> None:
    numbers = ",".join(map(str, range(10)))
    url = csv_table(tmp_path, f"path,identity,{','.join(LANDMARK_COLUMNS)}\na.jpg,x,{numbers}\n")

    (loaded,) = open_table(url, Columns(), parquet=False).request(np.array([0])).load()

    assert loaded is not None
    assert loaded.landmarks is not None
    assert loaded.landmarks.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_parquet_table_gives_the_same(tmp_path: Path) -> None:
    landmarks = {name: [float(number), 1.0] for number, name in enumerate(LANDMARK_COLUMNS)}
    url = parquet_table(tmp_path, path=["b.jpg", "a.jpg"], identity=[12, 3], other=[None, None], **landmarks)

    source = open_table(url, Columns(), parquet=True)

    assert entries_of(source) == [("12", "b.jpg"), ("3", "a.jpg")]
    (loaded,) = source.request(np.array([0])).load()
    assert loaded is not None
    assert loaded.landmarks is not None
    assert loaded.landmarks.ravel().tolist() == list(range(10))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("file,identity\na.jpg,x\n", "has no column 'path', only 'file', 'identity'; choose with --path-column"),
        ("", "has no column 'path' and no column 'identity'"),
        ("path,identity\na.jpg\n", "line 2 of .* has 1 fields, its first line 2"),
        ('path,identity\n"a.jpg,x\n', "not readable as CSV"),
        ("path,identity,x1\na.jpg,x,3\n", "only some of the landmark columns"),
        ("path,identity\n../a.jpg,x\n", r"line 2 of .* leads out of"),
        ("path,identity\na.jpg,\n", "line 2 of .* identity '' is not one line"),
        ('path,identity\na.jpg,"two\nlines"\n', "is not one line"),
        ("path,identity\n", "names no images"),
    ],
)
def test_a_csv_table_of_another_form_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(OctoscaleError, match=cause):
        open_table(csv_table(tmp_path, text), Columns(), parquet=False)


def test_a_parquet_table_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"row 2 of .* has an empty 'path' or 'identity'"):
        open_table(parquet_table(tmp_path, path=["a", "b"], identity=["x", None]), Columns(), parquet=True)
    with pytest.raises(OctoscaleError, match="has no column 'path'"):
        open_table(parquet_table(tmp_path, identity=["x"]), Columns(), parquet=True)
    (tmp_path / "no.parquet").write_bytes(b"path,identity\n")
    with pytest.raises(OctoscaleError, match="not readable as Parquet"):
        open_table(str(tmp_path / "no.parquet"), Columns(), parquet=True)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "faces.parquet").write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"pip install octoscale\[parquet\]"):
        open_table(str(tmp_path / "faces.parquet"), Columns(), parquet=True)


@given(st.binary(max_size=80).map(lambda tail: b"path,identity\n" + tail))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        source = open_table(str(path), Columns(), parquet=False)
    except OctoscaleError:
        return
    assert all(not source.name(entry).startswith(("/", "../")) for entry in range(len(source)))
