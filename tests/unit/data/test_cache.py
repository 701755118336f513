"""The node's copy of a remote data set; the remote one is fsspec's in memory."""

import fcntl
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from octoscale.data import cache
from octoscale.data.cache import local_copy
from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


@pytest.fixture
def remote(packed: Index) -> str:
    """The data set `packed` under a URL that is not local."""
    store = Store(f"memory://{uuid.uuid4().hex}/faces")
    local = Store(str(packed.directory))
    for name in local.list():
        store.write(name, local.read(name))
    return store.url


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are downloaded from now on."""
    names: list[str] = []
    download = Store.download

    def noting(self: Store, name: str, local_path: Path) -> None:
        names.append(name)
        download(self, name, local_path)

    monkeypatch.setattr(Store, "download", noting)
    return names


def test_a_local_data_set_is_used_where_it_is(packed: Index, tmp_path: Path) -> None:
    assert local_copy(str(packed.directory), tmp_path / "cache") == packed.directory
    assert not (tmp_path / "cache").exists()


def test_a_remote_data_set_is_downloaded_once(remote: str, packed: Index, tmp_path: Path, downloads: list[str]) -> None:
    directory = local_copy(remote, tmp_path / "cache")
    first = len(downloads)
    again = local_copy(remote, tmp_path / "cache")

    assert again == directory == tmp_path / "cache" / packed.fingerprint
    assert len(downloads) == first == len(packed.manifest.shards) + len(packed.manifest.index_sha256)
    assert Index.load(directory).manifest == packed.manifest


def test_an_interrupted_download_keeps_its_whole_files(
    remote: str, packed: Index, tmp_path: Path, downloads: list[str]
) -> None:
    partial = tmp_path / "cache" / f"{packed.fingerprint}.partial" / "shards"
    shutil.copytree(packed.directory / "shards", partial)
    (partial / "shard-000001.tar").write_bytes(b"half")

    directory = local_copy(remote, tmp_path / "cache")

    assert [name for name in downloads if name.endswith(".tar")] == ["shards/shard-000001.tar"]
    Index.load(directory)


def test_ranks_that_ask_at_the_same_time_download_once(
    remote: str, packed: Index, tmp_path: Path, downloads: list[str]
) -> None:
    with ThreadPoolExecutor(4) as ranks:
        directories = list(ranks.map(lambda _: local_copy(remote, tmp_path / "cache"), range(4)))

    assert len(set(directories)) == 1
    assert len(downloads) == len(set(downloads))


def test_a_rank_waits_while_another_process_downloads(remote: str, packed: Index, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / f"{packed.fingerprint}.lock").open("w") as lock, ThreadPoolExecutor(1) as rank:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = rank.submit(local_copy, remote, tmp_path / "cache")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.result(timeout=30).is_dir()


def test_a_damaged_shard_is_refused_and_not_kept(remote: str, packed: Index, tmp_path: Path) -> None:
    Store(remote).write("shards/shard-000000.tar", b"wrong")

    with pytest.raises(OctoscaleError, match=r"shard-000000.tar is damaged"):
        local_copy(remote, tmp_path / "cache")

    assert not (tmp_path / "cache" / packed.fingerprint).exists()


def test_a_full_disk_is_noticed_before_the_download(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))

    with pytest.raises(OctoscaleError, match="GiB are free; choose another cache_dir"):
        local_copy(remote, tmp_path / "cache")

    assert downloads == []


def test_an_unusable_cache_folder_is_named(remote: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"to the cache .*file"):
        local_copy(remote, tmp_path / "file")


def test_a_url_without_a_data_set_says_how_to_pack() -> None:
    with pytest.raises(OctoscaleError, match="not a packed data set"):
        local_copy(f"memory://{uuid.uuid4().hex}", "unused")
