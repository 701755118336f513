"""The form of a source follows from its name and from what is there, unless it is said."""

from pathlib import Path

import pytest

from octoscale.data.importers.open import open_source
from octoscale.data.importers.record_source import RecordSource
from octoscale.data.importers.source import FileSource
from octoscale.data.importers.table import Columns
from octoscale.errors import OctoscaleError
from tests.unit.data.importers.record_writer import payload, write_records


def test_folders_lists_tables_and_records_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.txt/ann").mkdir(parents=True)
    (tmp_path / "folder.txt/ann/1.jpg").write_bytes(b"")
    (tmp_path / "list.LST").write_text("a.jpg ann")
    (tmp_path / "table.csv").write_text("path,identity\na.jpg,ann\n")
    write_records(tmp_path / "records", [payload(0, b"x")], name="faces")

    sources = [open_source(str(tmp_path / name)) for name in ("folder.txt", "list.LST", "table.csv", "records")]

    assert [type(source) for source in sources] == [FileSource, FileSource, FileSource, RecordSource]
    assert [source.name(0) for source in sources] == ["ann/1.jpg", "a.jpg", "a.jpg", "record 0"]


def test_the_form_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "faces").write_text("name,who\na.jpg,ann\n")

    source = open_source(str(tmp_path / "faces"), form="csv", columns=Columns("name", "who"))

    assert source.key(0) == "ann"
    with pytest.raises(OctoscaleError, match="'pickle' is not known; it is one of folder, list"):
        open_source(str(tmp_path / "faces"), form="pickle")


def test_a_root_belongs_to_lists_and_tables(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/1.jpg").write_bytes(b"")

    with pytest.raises(OctoscaleError, match="is a folder"):
        open_source(str(tmp_path), root=str(tmp_path))


@pytest.mark.parametrize("name", ["absent", "absent.txt", "absent.csv", "absent.parquet", "absent.rec"])
def test_what_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OctoscaleError, match=name):
        open_source(str(tmp_path / name))
