"""The storage of a run, well and broken."""

from pathlib import Path
from typing import Any

import pytest

from octoscale.config import Config, parse_config
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.doctor.places import data_set, files, writable
from octoscale.errors import OctoscaleError
from tests.conftest import SmallRun

SETTINGS = StorageConfig()


@pytest.fixture
def config(small_run: SmallRun) -> Any:
    def make(**changes: Any) -> Config:
        return parse_config(small_run("run", **changes), source="of the test")

    return make


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check = writable("directory", str(tmp_path), SETTINGS)

    assert check.status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    check = writable("directory", str(tmp_path / "runs/new"), SETTINGS)

    assert (check.status, "not there yet" in check.found) == ("ok", True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_fails_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = writable("directory", str(tmp_path / "file/run"), SETTINGS)

    assert check.status == "failed"
    assert check.found.startswith(f"cannot write {tmp_path}/file/run/.octoscale-doctor-")


def test_a_scheme_that_is_not_known_fails(tmp_path: Path) -> None:
    check = writable("checkpoint.url", "ftpx://server/folder", SETTINGS)

    assert (check.status, check.name) == ("failed", "checkpoint.url")
    assert "ftpx" in check.found
    assert check.advice


def test_a_cleaning_up_that_fails_does_not_hide_why_writing_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Store, name: str) -> None:
        raise OctoscaleError(f"cannot delete {name}: permission denied; check the bucket's policy")

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Store, "delete", refused)

    check = writable("directory", str(tmp_path / "file/run"), SETTINGS)
    assert check.found.startswith("cannot write ")
    assert "delete" not in check.found

    check = writable("directory", str(tmp_path), SETTINGS)
    assert check.status == "failed"
    assert check.found.startswith("can be written, but cannot delete .octoscale-doctor-")
    assert check.advice is not None
    assert "by hand" in check.advice


def test_a_store_that_gives_other_bytes_back_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "read", lambda self, name: b"of before")

    check = writable("directory", str(tmp_path), SETTINGS)

    assert check.status == "failed"
    assert "reads back other bytes than were written" in check.found


def test_a_data_set_is_counted_and_one_that_is_none_fails(config: Any, packed_faces: Path, tmp_path: Path) -> None:
    check, manifest = data_set(config())
    assert (check.status, check.name) == ("ok", "data.url")
    assert check.found.startswith(f"{packed_faces}: 96 images, ")
    assert manifest is not None
    assert manifest.identities == 24

    check, manifest = data_set(config(data={"url": str(tmp_path)}))
    assert (check.status, manifest) == ("failed", None)
    assert "is not a packed data set" in check.found
    assert "octoscale pack" in (check.advice or "")


def test_files_that_the_configuration_names_must_be_there(config: Any, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_text("")
    settings = config(
        model={"weights": str(tmp_path / "weights.pt")},
        evaluate={"pairs": str(tmp_path / "pairs.txt"), "images": str(tmp_path)},
    )

    assert {check.name: check.status for check in files(settings)} == {
        "model.weights": "ok", "evaluate.pairs": "failed", "evaluate.images": "ok",
    }  # fmt: skip
