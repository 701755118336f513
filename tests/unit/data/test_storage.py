"""One interface over a local folder and an object store in memory."""

import os
import pickle
import threading
import uuid
from pathlib import Path

import pytest

from octoscale.data.objects import remaining
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


@pytest.fixture(params=["path", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    urls = {"path": str(tmp_path / "s"), "file": f"file://{tmp_path}/s", "memory": f"memory://{uuid.uuid4().hex}"}
    return Store(urls[request.param])


def test_what_is_written_is_read_back(store: Store) -> None:
    store.write("folder/name", b"0123456789")

    assert store.read("folder/name") == b"0123456789"
    assert store.read_range("folder/name", 2, 5) == b"234"
    assert store.read_many(["folder/name"] * 2) == [b"0123456789"] * 2
    assert store.size("folder/name") == 10
    assert store.child("folder").read("name") == b"0123456789"


def test_what_is_given_up_ends_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.write("name", b"0123456789")
    stop = threading.Event()
    store.download("name", tmp_path / "down", stop=stop)
    stop.set()

    with pytest.raises(OctoscaleError, match=r"/name was given up$"):
        store.download("name", tmp_path / "again", stop=stop)
    with pytest.raises(OctoscaleError, match=r"/name was given up$"):
        store.read_ranges("name", [(0, 1), (4, 5)], stop=stop)

    assert (tmp_path / "down").read_bytes() == b"0123456789"
    assert not (tmp_path / "again").exists()


def test_a_second_write_replaces_the_first(store: Store) -> None:
    store.write("name", b"first, and longer")
    store.write("name", b"second")

    assert store.read("name") == b"second"


def test_an_exclusive_write_refuses_an_existing_name(store: Store) -> None:
    store.write("name", b"first", exclusive=True)

    with pytest.raises(FileExistsError):
        store.write("name", b"second", exclusive=True)

    assert store.read("name") == b"first"
    assert store.list() == ["name"]


def test_files_go_up_and_come_down(store: Store, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"content")

    store.upload(tmp_path / "up", "folder/name")
    store.download("folder/name", tmp_path / "down")

    assert (tmp_path / "down").read_bytes() == b"content"


def test_a_listing_is_recursive_sorted_and_relative(store: Store) -> None:
    for name in ("b", "a/2", "a/1/x", "ab/y"):
        store.write(name, b"")

    assert store.list() == ["a/1/x", "a/2", "ab/y", "b"]
    assert store.list("a") == ["a/1/x", "a/2"]
    assert store.list("absent") == []


def test_existence_of_objects_and_folders(store: Store) -> None:
    assert not store.exists("folder")

    store.write("folder/name", b"")

    assert store.exists("folder/name")
    assert store.exists("folder")
    assert not store.exists("folder/name/deeper")


def test_deleting_takes_a_name_or_a_folder_and_nothing_else(store: Store) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "c"):
        store.write(name, b"")

    for name in ("a", "c", "absent"):
        store.delete(name)

    assert store.list() == ["ab/3"]


def test_a_missing_object_is_named_in_the_error(store: Store) -> None:
    for action in (store.read, store.size):
        with pytest.raises(OctoscaleError, match=r"/absent: there is no such file"):
            action("absent")


def test_the_probe_leaves_nothing_behind(store: Store) -> None:
    store.probe_writable()

    assert store.list() == []


def test_a_store_that_was_used_can_be_pickled(store: Store) -> None:
    store.write("name", b"")

    assert pickle.loads(pickle.dumps(store)) == store


def test_an_interrupted_local_write_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.write("name", b"old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OctoscaleError, match="No space left"):
        store.write("name", b"new")

    assert store.read("name") == b"old"
    assert os.listdir(tmp_path) == ["name"]  # noqa: PTH208


def test_a_url_below_a_file_fails_the_probe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"cannot write .*file.* is a file, not a folder"):
        Store(str(tmp_path / "file")).probe_writable()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="the scheme 'gopher' is not known"):
        Store("gopher://host/data").read("name")


@pytest.mark.usefixtures("without_s3fs")
def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(OctoscaleError, match=r"pip install octoscale\[s3\]"):
        Store("s3://bucket").read("name")


def test_the_requests_of_one_try_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("octoscale.data.objects.time.monotonic", lambda: now)
    left = remaining(3.0)

    now = 102.0
    assert left() == 1.0
    now = 104.0
    assert left() == 0.0
