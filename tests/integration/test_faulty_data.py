"""The batches of a run whose data set is behind an unreliable network, beside those of the local data set."""

import logging
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch

from octoscale.checkpoint import Position
from octoscale.config import Config
from octoscale.data.index import Index
from octoscale.data.pack import pack
from octoscale.data.retry import OperationCounts, counters
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.feed import feed, open_data
from octoscale.train import train
from tests.conftest import SmallRun
from tests.data_sets import upload
from tests.distributed.ranks import on_ranks
from tests.integration.fault_proxy import (
    EXPIRED_TOKEN,
    SLOW_DOWN,
    Fault,
    FaultProxy,
    Flip,
    Reset,
    Rule,
    Stall,
    Truncate,
)

SHARD = r"shard-\d+\.tar"
STEPS = 40
StartProxy = Callable[..., FaultProxy]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """60 identities of 8 images (about 5 kB), in 60 shards of one identity."""
    folder = tmp_path_factory.mktemp("faulty")
    rng = np.random.default_rng(0)
    for identity in range(60):
        (folder / "source" / f"{identity:03d}").mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            path = folder / "source" / f"{identity:03d}" / f"{number}.jpg"
            path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=90, colorspace="RGB"))
    pack(str(folder / "source"), str(folder / "packed"), shard_bytes=10_000)
    index = Index.load(folder / "packed")
    assert len(index.manifest.shards) == 60
    return index


@pytest.fixture(scope="module")
def bucket(packed: Index, _s3_endpoint: str) -> str:
    """A bucket with the data set, uploaded once for all tests; not to be changed."""
    s3fs = pytest.importorskip("s3fs")
    keys = {"key": "testing", "secret": "testing", "endpoint_url": _s3_endpoint}
    client = s3fs.S3FileSystem(**keys, skip_instance_cache=True)
    client.mkdir("faulty-data")
    client.put(f"{packed.directory}/", "faulty-data/faces/", recursive=True)
    return "s3://faulty-data"


@pytest.fixture
def remote(bucket: str, s3_server: str) -> Store:
    """The data set in the bucket; not to be changed."""
    return Store(f"{bucket}/faces")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("fetch", "loader"))]


def config_of(
    small_run: SmallRun, tmp_path: Path, url: str, endpoint: str | None = None, *, timeout_seconds: float = 1.0,
    **data: Any,
) -> Config:  # fmt: skip
    storage = {"endpoint_url": endpoint, "timeout_seconds": timeout_seconds, "deadline_seconds": 20.0}
    values = small_run(tmp_path / "run", data={"url": url, "cache_dir": str(tmp_path / "cache"), **data})
    return Config.model_validate({**values, "steps": 10_000, "global_batch_size": 8, "storage": storage})


def batches_of(config: Config, steps: int = STEPS) -> list[tuple[list[int], torch.Tensor]]:
    with feed(config, open_data(config), World(), Position()) as batches:
        return [(planned.batch.sample_ids.tolist(), planned.batch.high) for planned in islice(batches, steps)]


def assert_same(found: list[tuple[list[int], torch.Tensor]], expected: list[tuple[list[int], torch.Tensor]]) -> None:
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    assert all(torch.equal(images, others) for (_, images), (_, others) in zip(found, expected, strict=True))


MODES: dict[str, dict[str, Any]] = {
    "resident": {},
    "windowed": {"mode": "windowed", "window_fraction": 0.2, "cache_bytes": 1_200_000},
}
TRANSIENT: dict[str, list[Rule]] = {
    "overloaded": [Rule(SLOW_DOWN, key=SHARD, probability=0.3)],
    "resets": [Rule(Reset(), key=SHARD, probability=0.2), Rule(Reset(after_the_work=True), key=SHARD, nth=[3])],
    "stalls": [Rule(Stall(), key=SHARD, nth=[2]), Rule(Stall(after_bytes=20_000), key=SHARD, nth=[5])],
    "truncated bodies": [Rule(Truncate(5_000), key=SHARD, probability=0.2)],
    "wrong bytes": [Rule(Flip(20_000), key=SHARD, probability=0.1)],
    "a credential that expires and is renewed": [Rule(EXPIRED_TOKEN, key=SHARD, nth=[4])],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("faults", TRANSIENT)
def test_faults_that_pass_change_nothing_in_the_batches(
    faults: str, mode: str, small_run: SmallRun, packed: Index, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(*TRANSIENT[faults])
    window = {key: value for key, value in MODES[mode].items() if key != "cache_bytes"}
    expected = batches_of(config_of(small_run, tmp_path, str(packed.directory), **window))

    found = batches_of(config_of(small_run, tmp_path, remote.url, proxy.url, **MODES[mode]))

    assert proxy.count(faulty=True) >= 1
    assert_same(found, expected)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_workers_that_read_see_the_same_through_faults(
    small_run: SmallRun, packed: Index, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(Rule(SLOW_DOWN, key=SHARD, probability=0.3))
    expected = batches_of(config_of(small_run, tmp_path, str(packed.directory), mode="windowed", window_fraction=0.2))

    found = batches_of(config_of(small_run, tmp_path, remote.url, proxy.url, workers=1, **MODES["windowed"]))

    assert_same(found, expected)


def test_epochs_in_a_window_read_the_data_set_once_each_with_a_cache_of_a_quarter(
    small_run: SmallRun, packed: Index, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy()
    total = sum(shard.size_bytes for shard in packed.manifest.shards)
    cache = {"mode": "windowed", "window_fraction": 0.1, "cache_bytes": total // 4}
    config = config_of(small_run, tmp_path, remote.url, proxy.url, **cache)
    data = open_data(config)
    shards = tmp_path / "cache" / packed.fingerprint / "shards"
    # Bytes that arrived: a request that this machine was too busy for in time is made again.
    before, stored = downloaded_bytes(), 0
    with feed(config, data, World(), Position()) as batches:
        for planned in batches:
            stored = max(stored, kept_bytes(shards))
            if planned.epoch == 3:
                break
    read = downloaded_bytes() - before

    assert stored <= total // 4
    # What was fetched for the fourth epoch is in the cache.
    assert read <= 3 * 1.05 * total + total // 4


def kept_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            total += 0 if path.suffix == ".partial" else path.stat().st_size
    return total


def downloaded_bytes() -> int:
    return counters.snapshot().get("download", OperationCounts()).bytes_read


def test_a_resident_run_reads_every_shard_once_in_two_epochs(
    small_run: SmallRun, packed: Index, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy()
    before = downloaded_bytes()
    config = config_of(small_run, tmp_path, remote.url, proxy.url, timeout_seconds=20.0)

    batches_of(config, steps=100)

    # Bytes that arrived, not requests: even a server without faults breaks a connection now and then.
    read = downloaded_bytes() - before
    index = sum(path.stat().st_size for path in (packed.directory / "index").iterdir())
    assert read - index == sum(shard.size_bytes for shard in packed.manifest.shards)
    requests, shard_requests = proxy.requests, proxy.count("GET", SHARD)
    batches_of(config, steps=10)
    assert proxy.count("GET", SHARD) == shard_requests
    assert proxy.requests - requests <= 3  # the manifest


# The fault, what is told of it, and how long a try may take: little where the fault is a silence.
LASTING: dict[str, tuple[Fault, str, float]] = {
    "overloaded": (SLOW_DOWN, r"cannot read s3://.*shard-000\d+.tar: .*gave up after \d+ tries", 3.0),
    "silent": (Stall(), r"cannot read s3://.*shard-000\d+.tar: .*gave up after", 1.0),
    "wrong bytes": (Flip(20_000), r"cannot read s3://.*shard-000\d+.tar: .*checksum", 3.0),
    "expired": (EXPIRED_TOKEN, r"cannot read s3://.*shard-000\d+.tar: the credentials have expired", 20.0),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_stays_ends_the_run_with_shard_and_cause(
    fault: str, small_run: SmallRun, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    what, message, seconds = LASTING[fault]
    proxy = fault_proxy(Rule(what, key=SHARD))
    config = config_of(small_run, tmp_path, remote.url, proxy.url)
    limits = {"timeout_seconds": seconds, "deadline_seconds": max(seconds, 3.0)}
    config = config.model_copy(update={"storage": config.storage.model_copy(update=limits)})

    with pytest.raises(OctoscaleError, match=message):
        batches_of(config)

    assert not list((tmp_path / "cache").rglob("*.partial"))
    assert not list((tmp_path / "cache").rglob("*.tar"))


@pytest.fixture
def copied(packed: Index, s3_url: str) -> Store:
    """Another copy of the data set, for tests that spoil it."""
    store = Store(f"{s3_url}/faces")
    upload(packed, store)
    return store


def test_a_shard_damaged_in_the_bucket_is_named_with_its_first_damaged_sample(
    small_run: SmallRun, packed: Index, copied: Store, tmp_path: Path, s3_server: str
) -> None:
    shard = packed.manifest.shards[7].name
    rows = np.flatnonzero(packed.shard_ids == 7)
    row = rows[packed.offsets[rows].argsort()][5]
    content = bytearray(copied.read(shard))
    content[packed.offsets[row] + 9] ^= 1
    copied.write(shard, bytes(content))

    where = rf"{shard} is damaged .* first in sample {row} at byte {packed.offsets[row]}"
    with pytest.raises(OctoscaleError, match=where):
        batches_of(config_of(small_run, tmp_path, copied.url, s3_server), steps=60)

    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_shard_deleted_meanwhile_is_named(
    small_run: SmallRun, packed: Index, copied: Store, tmp_path: Path, s3_server: str
) -> None:
    config = config_of(small_run, tmp_path, copied.url, s3_server)
    data = open_data(config)
    name = packed.manifest.shards[7].name
    copied.delete(name)

    with (
        pytest.raises(OctoscaleError, match=f"{name}: there is no such file"),
        feed(config, data, World(), Position()) as batches,
    ):
        list(islice(batches, 60))


def test_a_disk_that_is_full_is_said_and_nothing_half_is_left(
    small_run: SmallRun, packed: Index, remote: Store, tmp_path: Path, s3_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    disk = tmp_path / "cache"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]).returncode:
        pytest.skip("needs to mount a small file system")
    try:
        # The check before the start would see it; a disk that fills up meanwhile is met later.
        monkeypatch.setattr("octoscale.data.cache.ShardCache.check_room", lambda self: None)
        monkeypatch.setattr("octoscale.data.cache.ShardCache._free_bytes", lambda self: 10**9)
        with pytest.raises(OctoscaleError, match=r"the disk of the cache .* is full: .*choose another data.cache_dir"):
            batches_of(config_of(small_run, tmp_path, remote.url, s3_server))
        assert not list(disk.rglob("*.partial"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_damaged_image_of_a_local_data_set_is_replaced_logged_and_counted(
    small_run: SmallRun, packed: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(packed.directory, copy)
    shard = copy / packed.manifest.shards[0].name
    content = bytearray(shard.read_bytes())
    rows = np.flatnonzero(packed.shard_ids == 0)
    content[packed.offsets[rows[2]] + 100] ^= 255
    shard.write_bytes(content)
    values = small_run(tmp_path / "run", data={"url": str(copy)}, epochs=1)
    caplog.set_level(logging.WARNING, "octoscale")

    summary = train(Config.model_validate(values), World(), quiet=True)

    assert summary.status == "finished"
    said = [record.message for record in caplog.records if "takes the place of" in record.message]
    assert len(said) == 1
    assert f"takes the place of {rows[2]}: sample {rows[2]} at byte {packed.offsets[rows[2]]} of {shard}" in said[0]


def batches_of_a_rank(world: World, values: dict[str, Any], steps: int) -> list[tuple[list[int], torch.Tensor]]:
    config = Config.model_validate(values)
    with feed(config, open_data(config), world, Position()) as batches:
        found = [(planned.batch.sample_ids.tolist(), planned.batch.high) for planned in islice(batches, steps)]
        world.barrier()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_of_a_node_read_through_one_cache_what_one_rank_reads(
    mode: str, small_run: SmallRun, packed: Index, remote: Store, fault_proxy: StartProxy, tmp_path: Path
) -> None:
    proxy = fault_proxy(Rule(SLOW_DOWN, key=SHARD, probability=0.1))
    window = {key: value for key, value in MODES[mode].items() if key != "cache_bytes"}
    alone = batches_of(config_of(small_run, tmp_path, str(packed.directory), **window))
    # Nothing is silent here, and a busy machine's slow answer would be asked for again.
    config = config_of(small_run, tmp_path, remote.url, proxy.url, timeout_seconds=20.0, **MODES[mode])

    first, second = on_ranks(2, batches_of_a_rank, config.model_dump(), STEPS)

    together = [(a + b, torch.cat([x, y])) for (a, x), (b, y) in zip(first, second, strict=True)]
    assert_same(together, alone)
    names = [re.search(SHARD, request.path) for request in proxy.log if request.fault is None]
    if mode == "resident":
        shards = [name.group() for name in names if name]
        assert len(shards) == len(set(shards))
