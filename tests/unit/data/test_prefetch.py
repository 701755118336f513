"""Two ranks of a node: one fetches for both."""

import errno
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from octoscale.data import lease
from octoscale.data.cache import ShardCache
from octoscale.data.config import DataConfig
from octoscale.data.dataset import DataSet
from octoscale.data.index import Index
from octoscale.data.loader import load_batches
from octoscale.data.plan import epoch_plan, rank_rows
from octoscale.data.prefetch import _THREADS, Arrivals
from octoscale.data.reader import ImageReader
from octoscale.data.shard_files import ShardFiles
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError


@pytest.fixture
def plan(packed: Index) -> np.ndarray:
    return epoch_plan(packed.images_per_identity, global_batch_size=4, seed=0, epoch=0)


def arrivals_of(data: DataSet, rank: int, *, world_size: int = 2, attempt: str = "a", **config: object) -> Arrivals:
    values = DataConfig.model_validate({"url": "memory://", **config})
    nodes = [data.node_name()] * world_size
    return data.arrivals(values, global_batch_size=4, rank=rank, nodes=nodes, start=0, attempt=attempt)


@pytest.mark.parametrize("budget", [None, 60_000])
@pytest.mark.parametrize("workers", [0, 1])
def test_both_ranks_read_what_a_local_data_set_gives(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path, budget: int | None, workers: int
) -> None:
    config = {} if budget is None else {"mode": "windowed", "cache_bytes": budget}
    local = ImageReader(packed, packed.directory)
    expected = [[local.__getitems__(row) for row in rank_rows(plan, rank, 2)] for rank in range(2)]
    read: list[list[torch.Tensor]] = [[], []]
    started = threading.Barrier(2)

    def run(rank: int) -> None:
        data = DataSet.open(remote.url, tmp_path / "cache")
        if rank == 1:
            started.wait()
        arrivals = arrivals_of(data, rank, **config)
        if rank == 0:
            started.wait()
        arrivals.plan(plan, 0)
        for number, batch in enumerate(
            load_batches(data.reader, rank_rows(plan, rank, 2), workers=workers if rank == 0 else 0, arrivals=arrivals)
        ):
            arrivals.consumed(number)
            read[rank].append(batch.high)
        done.wait()
        arrivals.close()

    done = threading.Barrier(2)
    ranks = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=60)

    for mine, theirs in zip(read, expected, strict=True):
        assert len(mine) == len(theirs) == len(plan)
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    left = {path.name for path in (tmp_path / "cache").rglob("*") if path.suffix in (".partial", ".lock")}
    assert left == {f"{packed.fingerprint}.lock", "in-use.lock"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("fetch", "loader"))]


def test_a_shard_that_cannot_be_had_ends_the_reading_with_its_name(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    name = packed.manifest.shards[packed.shard_ids[plan[-1, 0]]].name
    remote.delete(name)
    arrivals = arrivals_of(data, 0, world_size=1)
    arrivals.plan(plan, 0)

    with pytest.raises(OctoscaleError, match=f"{name}.*no such file"):
        list(load_batches(data.reader, plan, workers=0, arrivals=arrivals))

    arrivals.close()
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_cache_that_cannot_hold_one_batch_says_what_to_raise(remote: Store, plan: np.ndarray, tmp_path: Path) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    arrivals = arrivals_of(data, 0, world_size=1, mode="windowed", cache_bytes=1000)
    arrivals.plan(plan, 0)

    with pytest.raises(OctoscaleError, match=r"data.cache_bytes 1000 .* is too small: the next \d+ batches need"):
        list(load_batches(data.reader, plan, workers=0, arrivals=arrivals))

    arrivals.close()


def test_waiting_ends_when_the_reading_is_given_up(
    remote: Store, plan: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    release = threading.Event()
    monkeypatch.setattr(Store, "download", lambda *arguments, **more: release.wait(120))
    arrivals = arrivals_of(data, 0, world_size=1)
    arrivals.plan(plan, 0)
    given_up = threading.Event()
    waiting = threading.Thread(target=arrivals.wait_for, args=(plan[0], given_up.is_set))
    waiting.start()
    assert waiting.is_alive()

    given_up.set()
    waiting.join(timeout=60)

    assert not waiting.is_alive()
    release.set()
    arrivals.close()


def test_a_rank_notices_that_the_fetching_process_died(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    lock = packed_lock(data, "a")
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(lock,))
    holder.start()
    while not lock.exists():
        time.sleep(0.02)
    time.sleep(0.2)
    follower = arrivals_of(data, 1)
    threading.Timer(0.5, holder.kill).start()

    with pytest.raises(OctoscaleError, match="the process that fetches shards for this node has ended"):
        follower.wait_for(plan[0], lambda: False)

    holder.join()


def test_a_run_that_drops_shards_wants_the_cache_for_itself(
    remote: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_TAKE_OVER_SECONDS", 0.1)
    data = DataSet.open(remote.url, tmp_path / "cache")
    first, second = (arrivals_of(data, 0, world_size=1, attempt=attempt) for attempt in "ab")

    with pytest.raises(OctoscaleError, match=r"another run uses the cache .* data.cache_dir of its own"):
        arrivals_of(data, 0, world_size=1, attempt="c", mode="windowed", cache_bytes=10**6)

    first.close()
    second.close()
    arrivals_of(data, 0, world_size=1, attempt="c", mode="windowed", cache_bytes=10**6).close()


def packed_lock(data: DataSet, attempt: str) -> Path:
    return data.index.directory / f"fetching-{attempt}.lock"


def _hold(lock: Path) -> None:
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        time.sleep(60)


def test_processes_that_start_together_agree_on_the_name_of_the_node(remote: Store, tmp_path: Path) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")

    with ThreadPoolExecutor(8) as ranks:
        names = list(ranks.map(lambda _: data.node_name(), range(8)))

    assert len(set(names)) == 1
    assert not list((tmp_path / "cache").rglob(".node-*"))


def test_a_restarted_run_looks_at_the_cache_when_the_old_one_has_left_it(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path
) -> None:
    config = {"mode": "windowed", "cache_bytes": 10**6}
    data = DataSet.open(remote.url, tmp_path / "cache")
    old = arrivals_of(data, 0, world_size=1, attempt="old", **config)
    old.plan(plan, 0)
    old.wait_for(plan[0], lambda: False)
    files = ShardFiles(packed, data.index.directory)

    def drop_everything_and_end() -> None:
        time.sleep(0.5)
        for shard in range(len(packed.manifest.shards)):
            files.delete(shard)
        old.close()

    ending = threading.Thread(target=drop_everything_and_end)
    ending.start()
    new = arrivals_of(data, 0, world_size=1, attempt="new", **config)
    ending.join()
    new.plan(plan, 0)

    for rows in plan:
        new.wait_for(rows, lambda: False)
    new.close()


def test_an_error_of_the_fetching_is_what_a_later_plan_and_the_other_ranks_meet(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    remote.delete(packed.manifest.shards[packed.shard_ids[plan[0, 0]]].name)
    arrivals, follower = arrivals_of(data, 0), arrivals_of(data, 1)
    arrivals.plan(plan, 0)

    with pytest.raises(OctoscaleError, match="no such file"):
        arrivals.wait_for(plan[0], lambda: False)
    with pytest.raises(OctoscaleError, match="no such file"):
        arrivals.plan(plan, len(plan))
    with pytest.raises(OctoscaleError, match=r"has ended: .* no such file"):
        follower.wait_for(plan[0], lambda: False)
    arrivals.close()


def test_of_errors_at_once_one_is_told_to_all_ranks_and_stays(
    remote: Store, plan: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    arrivals, follower = arrivals_of(data, 0), arrivals_of(data, 1)
    together = threading.Barrier(_THREADS)
    written: list[str] = []
    write_text = Path.write_text

    def fail(*_: object) -> bool:
        together.wait(60)
        raise OctoscaleError(f"{threading.current_thread().name} fails")

    def noted(self: Path, text: str) -> int:
        written.append(text)
        return write_text(self, text)

    monkeypatch.setattr(ShardCache, "take_most_urgent", lambda self, now: (0, 0))
    monkeypatch.setattr(ShardCache, "fetch", fail)
    monkeypatch.setattr(Path, "write_text", noted)
    arrivals.plan(plan, 0)

    with pytest.raises(OctoscaleError, match=r"has ended: fetch-\d fails") as told:
        follower.wait_for(plan[0], lambda: False)
    arrivals.close()
    assert len(written) == 1
    with pytest.raises(OctoscaleError, match=written[0]):
        arrivals.wait_for(plan[0], lambda: False)
    assert str(told.value).endswith(written[0])


def test_the_other_ranks_meet_an_error_that_cannot_be_written_down_too(
    remote: Store, packed: Index, plan: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataSet.open(remote.url, tmp_path / "cache")
    remote.delete(packed.manifest.shards[packed.shard_ids[plan[0, 0]]].name)
    arrivals, follower = arrivals_of(data, 0), arrivals_of(data, 1)
    monkeypatch.setattr(Path, "write_text", full)
    arrivals.plan(plan, 0)

    with pytest.raises(OctoscaleError, match="the process that fetches shards for this node has ended"):
        follower.wait_for(plan[0], lambda: False)
    arrivals.close()


def full(path: Path, text: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
