"""A packed data set, local or remote; the remote one is fsspec's in memory."""

import fcntl
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octoscale.data import cache
from octoscale.data.dataset import DataSet
from octoscale.data.index import Index
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are downloaded from now on."""
    names: list[str] = []
    download = Store.download

    def noting(self: Store, name: str, local_path: Path, size_bytes: int | None = None, **more: Any) -> None:
        names.append(name)
        download(self, name, local_path, size_bytes, **more)

    monkeypatch.setattr(Store, "download", noting)
    return names


def test_a_local_data_set_is_used_where_it_is(packed: Index, tmp_path: Path) -> None:
    data = DataSet.open(str(packed.directory), tmp_path / "cache")

    assert data.index.directory == packed.directory
    assert data.node_name() == ""
    data.keep_all()
    assert not (tmp_path / "cache").exists()


def test_of_a_remote_data_set_only_the_index_is_copied_and_once(
    remote: Store, packed: Index, tmp_path: Path, downloads: list[str]
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    again = DataSet.open(remote.url, tmp_path / "cache")

    assert data.index.directory == again.index.directory == tmp_path / "cache" / packed.fingerprint
    assert sorted(downloads) == sorted(packed.manifest.index_sha256)
    assert data.index.manifest == packed.manifest
    assert data.node_name() == again.node_name() != DataSet.open(remote.url, tmp_path / "other").node_name()


def test_a_single_image_needs_no_shard_on_this_node(remote: Store, packed: Index, tmp_path: Path) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")

    assert np.array_equal(data.reader[5], packed_image(packed, 5))
    assert not (data.index.directory / "shards").exists()


def packed_image(packed: Index, sample_id: int) -> np.ndarray:
    return np.asarray(DataSet.open(str(packed.directory), "unused").reader[sample_id])


def test_everything_can_be_brought_here_once(
    remote: Store, packed: Index, tmp_path: Path, downloads: list[str]
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    seen: list[tuple[int, int]] = []

    data.keep_all(lambda done, total: seen.append((done, total)))
    data.keep_all()

    shards = [shard.name for shard in packed.manifest.shards]
    assert sorted(name for name in downloads if name.endswith(".tar")) == shards
    assert seen[-1] == (len(shards), len(shards))
    for name in shards:
        assert (data.index.directory / name).read_bytes() == (packed.directory / name).read_bytes()


def test_ranks_that_ask_at_the_same_time_download_once(remote: Store, tmp_path: Path, downloads: list[str]) -> None:
    def bring(_: int) -> Path:
        data = DataSet.open(remote.url, tmp_path / "cache")
        data.keep_all()
        return data.index.directory

    with ThreadPoolExecutor(4) as ranks:
        directories = list(ranks.map(bring, range(4)))

    assert len(set(directories)) == 1
    assert len(downloads) == len(set(downloads))


def test_a_rank_waits_while_another_process_copies_the_index(remote: Store, packed: Index, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / f"{packed.fingerprint}.lock").open("w") as lock, ThreadPoolExecutor(1) as rank:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = rank.submit(DataSet.open, remote.url, tmp_path / "cache")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert len(waiting.result(timeout=30).index) == len(packed)


def test_a_damaged_index_is_refused_and_not_kept(remote: Store, packed: Index, tmp_path: Path) -> None:
    remote.write("index/sizes.npy", b"wrong")

    with pytest.raises(OctoscaleError, match=r"index/sizes.npy is damaged"):
        DataSet.open(remote.url, tmp_path / "cache")

    assert not list((tmp_path / "cache").rglob("sizes.npy*"))
    assert not list((tmp_path / "cache").rglob("manifest.json"))


def test_a_full_disk_is_noticed_before_the_download(
    remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    downloads.clear()
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))

    with pytest.raises(OctoscaleError, match=r"is full: .* GiB are free; choose another data.cache_dir"):
        data.keep_all()

    assert downloads == []


def test_an_unusable_cache_folder_is_named(remote: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"in the cache .*file"):
        DataSet.open(remote.url, tmp_path / "file")


def test_a_url_without_a_data_set_says_how_to_pack() -> None:
    with pytest.raises(OctoscaleError, match="not a packed data set"):
        DataSet.open(f"memory://{uuid.uuid4().hex}", "unused")
