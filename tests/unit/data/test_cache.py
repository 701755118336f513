"""The shards of a remote data set on this node; the remote one is fsspec's in memory."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octoscale.data import cache as cache_module
from octoscale.data.cache import ShardCache
from octoscale.data.index import Index
from octoscale.data.pack import pack
from octoscale.data.schedule import EpochUses
from octoscale.data.shard_files import ShardFiles
from octoscale.data.storage import Store
from octoscale.data.verified import VerifiedStore
from octoscale.errors import OctoscaleError
from tests.unit.data.conftest import MakeFolder


@pytest.fixture
def packed(make_folder: MakeFolder, tmp_path: Path) -> Index:
    """Twenty identities of eight images, a run of eight in each of twenty shards."""
    source = make_folder({f"{number:02d}": 8 for number in range(20)})
    pack(str(source), str(tmp_path / "packed"), shard_bytes=1000)
    return Index.load(tmp_path / "packed")


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> "Counter[str]":
    """How many bytes of each object are fetched from now on."""
    counts: Counter[str] = Counter()
    download, read_ranges = Store.download, Store.read_ranges

    def noting_download(self: Store, name: str, path: Path, size_bytes: int | None = None, **more: Any) -> None:
        download(self, name, path, size_bytes, **more)
        counts[name] += path.stat().st_size

    def noting_ranges(self: Store, name: str, ranges: list[tuple[int, int]], **more: Any) -> list[bytes]:
        counts[name] += sum(end - start for start, end in ranges)
        return read_ranges(self, name, ranges, **more)

    monkeypatch.setattr(Store, "download", noting_download)
    monkeypatch.setattr(Store, "read_ranges", noting_ranges)
    return counts


def make_cache(remote: Store, packed: Index, folder: Path, budget: int | None = None) -> ShardCache:
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    return ShardCache(VerifiedStore(remote, packed), packed, ShardFiles(packed, folder), budget)


def follow(cache: ShardCache, packed: Index, plan: np.ndarray, *, now: int = 0) -> int:
    """Train through `plan`: fetch what is due, check that it is there; the most bytes that were stored at a time."""
    cache.timeline.append(EpochUses(packed, plan, cache.timeline.end))
    most = 0
    for time_, rows in enumerate(plan[now:], start=now):
        while (task := cache.take_most_urgent(time_)) is not None:
            if not cache.fetch(*task, time_):
                assert task[1] > time_, cache.too_small(time_, time_)
                break
        for row in rows:
            assert cache.files.holds(int(packed.shard_ids[row]), np.array([row]))
        most = max(most, sum(cache.files.stored_bytes(shard) for shard in range(len(packed.manifest.shards))))
    return most


def windowed(packed: Index, *, seed: int, window: int) -> np.ndarray:
    """Batches of two out of a window of so many identities (each has a shard of its own)."""
    rng = np.random.default_rng(seed)
    waiting = rng.permutation(packed.identity_count).tolist()
    alive = {identity: rng.permutation(8).tolist() for identity in waiting[:window]}
    waiting = waiting[window:]
    plan = []
    while alive:
        identity = int(rng.choice(list(alive)))
        plan.append([8 * identity + alive[identity].pop() for _ in range(2)])
        if not alive[identity]:
            del alive[identity]
            if waiting:
                following = waiting.pop()
                alive[following] = rng.permutation(8).tolist()
    return np.array(plan)


def test_everything_is_fetched_once_and_kept_where_there_is_room(
    remote: Store, packed: Index, tmp_path: Path, read_bytes: "Counter[str]"
) -> None:
    cache = make_cache(remote, packed, tmp_path / "cache")
    plan = windowed(packed, seed=0, window=20)

    follow(cache, packed, plan)
    follow(cache, packed, plan[::-1])

    assert read_bytes == {shard.name: shard.size_bytes for shard in packed.manifest.shards}
    for shard in range(len(packed.manifest.shards)):
        path = Path(packed.manifest.shards[shard].name)
        assert (tmp_path / "cache" / path).read_bytes() == (packed.directory / path).read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_a_window_passes_through_a_small_cache_with_one_reading(
    remote: Store, packed: Index, tmp_path: Path, read_bytes: "Counter[str]", seed: int
) -> None:
    total = sum(shard.size_bytes for shard in packed.manifest.shards)
    budget = total // 2
    cache = make_cache(remote, packed, tmp_path / "cache", budget)

    most = follow(cache, packed, windowed(packed, seed=seed, window=5))

    assert most <= budget
    assert sum(read_bytes.values()) <= total


def test_a_cache_that_is_too_small_for_the_window_reads_again_but_goes_on(
    remote: Store, packed: Index, tmp_path: Path, read_bytes: "Counter[str]"
) -> None:
    total = sum(shard.size_bytes for shard in packed.manifest.shards)
    cache = make_cache(remote, packed, tmp_path / "cache", total // 8)

    most = follow(cache, packed, windowed(packed, seed=0, window=15))

    assert most <= total // 8
    assert sum(read_bytes.values()) > total


def test_the_farthest_next_use_goes_first(remote: Store, packed: Index, tmp_path: Path) -> None:
    size = packed.manifest.shards[0].size_bytes
    cache = make_cache(remote, packed, tmp_path / "cache", 3 * size)
    one_of = [int(np.flatnonzero(packed.shard_ids == shard)[0]) for shard in range(4)]
    all_of = [np.flatnonzero(packed.shard_ids == shard) for shard in range(4)]
    # Shards 0, 1, 2 are used whole at first; then 3 is due, and 1 is wanted again after 0 and 2.
    plan = np.array([*all_of[:3], np.resize(all_of[3], 8), [one_of[0]] * 8, [one_of[2]] * 8, [one_of[1]] * 8])
    cache.timeline.append(EpochUses(packed, plan, 0))
    for _ in range(3):
        task = cache.take_most_urgent(0)
        assert task is not None
        assert cache.fetch(*task, 0)

    task = cache.take_most_urgent(5)
    assert task is None  # Nothing that is there lacks anything.
    task = cache.take_most_urgent(3)
    assert task == (3, 3)
    assert cache.fetch(3, 3, 5)

    assert cache.files.holds(3, all_of[3])
    assert cache.files.holds(2, np.array([one_of[2]]))


def test_a_later_use_never_drives_out_a_sooner_one(remote: Store, packed: Index, tmp_path: Path) -> None:
    size = max(shard.size_bytes for shard in packed.manifest.shards)
    cache = make_cache(remote, packed, tmp_path / "cache", size)
    plan = np.array([np.flatnonzero(packed.shard_ids == shard) for shard in range(2)])
    cache.timeline.append(EpochUses(packed, plan, 0))

    assert cache.take_most_urgent(0) == (0, 0)
    assert cache.fetch(0, 0, 0)
    later = cache.take_most_urgent(0)
    assert later == (1, 1)
    assert not cache.fetch(*later, 0)

    assert cache.files.holds(0, plan[0])


def test_a_run_that_goes_on_uses_what_the_last_one_left(
    remote: Store, packed: Index, tmp_path: Path, read_bytes: "Counter[str]"
) -> None:
    total = sum(shard.size_bytes for shard in packed.manifest.shards)
    plan = windowed(packed, seed=1, window=5)
    follow(make_cache(remote, packed, tmp_path / "cache", total // 2), packed, plan[:40])
    before = sum(read_bytes.values())

    again = make_cache(remote, packed, tmp_path / "cache", total // 2)
    again.timeline.append(EpochUses(packed, plan, 0))
    again.recover_parts(40)
    assert sum(read_bytes.values()) == before
    again.timeline.forget_before(again.timeline.end)
    follow(again, packed, plan, now=40)

    assert sum(read_bytes.values()) <= 1.1 * total


@pytest.mark.parametrize("budget", [None, 10**6])
def test_a_damaged_shard_is_refused_by_shard_and_offset_and_not_kept(
    remote: Store, packed: Index, tmp_path: Path, budget: int | None
) -> None:
    name = packed.manifest.shards[0].name
    content = bytearray(remote.read(name))
    rows = np.flatnonzero(packed.shard_ids == 0)
    row = rows[packed.offsets[rows].argsort()][3]
    content[packed.offsets[row] + 5] ^= 1
    remote.write(name, bytes(content))
    cache = make_cache(remote, packed, tmp_path / "cache", budget)
    plan = np.array([rows if budget is None else [row, row]])
    cache.timeline.append(EpochUses(packed, plan, 0))

    where = rf"{name} .*first in sample {row} at byte {packed.offsets[row]}|sample {row} at byte .*{name}"
    with pytest.raises(OctoscaleError, match=where):
        cache.fetch(0, 0, 0)

    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_bytes_that_were_spoilt_on_the_way_are_fetched_again(
    remote: Store, packed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = []
    download = Store.download

    def spoil_once(self: Store, name: str, path: Path, size_bytes: int | None = None, **more: Any) -> None:
        download(self, name, path, size_bytes, **more)
        if name not in spoilt:
            spoilt.append(name)
            path.write_bytes(b"x" + path.read_bytes()[1:])

    monkeypatch.setattr(Store, "download", spoil_once)
    cache = make_cache(remote, packed, tmp_path / "cache")

    cache.keep_whole(0)

    assert len(spoilt) == 1
    assert (tmp_path / "cache" / spoilt[0]).read_bytes() == (packed.directory / spoilt[0]).read_bytes()


def test_a_full_disk_is_said_before_anything_is_fetched(
    remote: Store, packed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(remote, packed, tmp_path / "cache")
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))

    with pytest.raises(OctoscaleError, match=r"is full: .* GiB are free; choose another data.cache_dir"):
        cache.check_room()
