"""What one pass over a data set in object storage reads, with a cache of a part of its size.

    python tools/bench/cache.py [--cache 0.25] [--window 0.1] [--nodes 1]

Prints JSON. A simulation at MS1MV2's shape (5.8 million images, 85,742 identities, B = 256; shards striped as
`octoscale pack` does, 64 MiB at 25 KiB per image): the plan and the cache's decisions are octoscale's own, but no
byte is fetched or stored, only counted. Images per identity are drawn as in `tools/bench/plan.py`. Then the same
epoch's shards in the order of their use through a cache that drops the least recently used one.
"""

import argparse
import json
import time
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from support.measure import describe_machine
from support.shapes import MS1M, long_tailed_counts, striped_shards

import octoscale
from octoscale.data.cache import ShardCache
from octoscale.data.index import Index
from octoscale.data.plan import epoch_plan
from octoscale.data.schedule import EpochUses
from octoscale.data.shard_files import ShardFiles
from octoscale.data.storage import Store
from octoscale.data.verified import VerifiedStore
from octoscale.data.windowed_plan import windowed_plan

IMAGE_BYTES = 24 * 1024
TAR_BYTES = 1024  # the headers of an image and of its label, and the padding


class CountedFiles:
    """The state of a cache's files, without the files."""

    def __init__(self, index: Index) -> None:
        self.directory = Path("/")
        self._index = index
        self._whole: set[int] = set()
        self._parts: dict[int, NDArray[np.integer]] = {}

    def whole(self, shard: int) -> Any:
        return SimpleNamespace(exists=lambda: shard in self._whole, parent=Path("/nowhere"))

    def part(self, shard: int) -> Any:
        return SimpleNamespace(unlink=lambda missing_ok: self._parts.pop(shard, None))

    def part_rows(self, shard: int) -> NDArray[np.integer]:
        return self._parts.get(shard, np.empty(0, np.int64))

    def stored_bytes(self, shard: int) -> int:
        size = self._index.manifest.shards[shard].size_bytes if shard in self._whole else 0
        return size + IMAGE_BYTES * len(self.part_rows(shard))

    def add_whole(self, shard: int) -> None:
        self._whole.add(shard)
        self._parts.pop(shard, None)

    def add(self, shard: int, images: dict[int, bytes]) -> None:
        self._parts[shard] = np.union1d(self.part_rows(shard), list(images))

    def keep_only(self, shard: int, rows: NDArray[np.integer]) -> None:
        self._parts[shard] = rows if shard in self._whole else np.intersect1d(rows, self.part_rows(shard))
        self._whole.discard(shard)

    def delete(self, shard: int) -> None:
        self._whole.discard(shard)
        self._parts.pop(shard, None)


class CountedStore(VerifiedStore):
    """Counts what the cache asks for."""

    read_bytes = 0
    requests = 0

    def __init__(self, index: Index, files: CountedFiles) -> None:
        super().__init__(Store("memory://"), index)
        self._files = files
        self._sizes = [shard.size_bytes for shard in index.manifest.shards]

    def download(self, shard: int, path: Path) -> None:
        self._files.add_whole(shard)
        self.read_bytes += self._sizes[shard]
        self.requests += -(-self._sizes[shard] // (8 * 2**20))

    def read(self, shard: int, rows: NDArray[np.integer]) -> dict[int, bytes]:
        ranges = self.ranges(rows)
        self.read_bytes += sum(end - start for start, end in ranges)
        self.requests += len(ranges)
        return dict.fromkeys(rows.tolist(), b"")


class Shape(SimpleNamespace):
    """As much of an index as the cache looks at."""

    def __len__(self) -> int:
        return len(self.shard_ids)


def shape_of(shard_ids: NDArray[np.int32]) -> Index:
    order = np.argsort(shard_ids, kind="stable")
    counts = np.bincount(shard_ids)
    within = np.empty(len(shard_ids), np.int64)
    within[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    shards = [SimpleNamespace(size_bytes=int(count) * (IMAGE_BYTES + TAR_BYTES)) for count in counts]
    return cast(
        Index,
        Shape(
            shard_ids=shard_ids,
            sizes=np.full(len(shard_ids), IMAGE_BYTES, np.int32),
            offsets=within * (IMAGE_BYTES + TAR_BYTES),
            manifest=SimpleNamespace(shards=shards),
        ),
    )


def pass_through(index: Index, plan: NDArray[np.int64], budget: int) -> dict[str, Any]:
    """One epoch with a cache of `budget` bytes, filled as early as it has room."""
    files = CountedFiles(index)
    source = CountedStore(index, files)
    cache = ShardCache(source, index, cast(ShardFiles, files), budget)
    cache.timeline.append(EpochUses(index, plan, 0))
    started = time.perf_counter()
    late = 0
    for now in range(len(plan)):
        while (task := cache.take_most_urgent(now)) is not None:
            if not cache.fetch(*task, now):
                late += task[1] <= now
                break
    total = sum(shard.size_bytes for shard in index.manifest.shards)
    return {
        "read_over_data_set": round(source.read_bytes / total, 4),
        "requests": source.requests,
        "batches_without_room": late,
        "seconds_of_decisions": round(time.perf_counter() - started, 1),
    }


def least_recently_used(index: Index, plan: NDArray[np.int64], budget: int) -> float:
    """Bytes read ÷ data set of whole shards through an LRU cache, if each batch's shards come in plan order."""
    sizes = [shard.size_bytes for shard in index.manifest.shards]
    held: OrderedDict[int, int] = OrderedDict()
    stored = read = 0
    for batch in index.shard_ids[plan]:
        for shard in np.unique(batch).tolist():
            if shard in held:
                held.move_to_end(shard)
                continue
            read += sizes[shard]
            stored += sizes[shard]
            held[shard] = sizes[shard]
            while stored > budget:
                stored -= held.popitem(last=False)[1]
    return round(read / sum(sizes), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=float, default=0.25, help="cache ÷ data set")
    parser.add_argument("--window", type=float, default=0.1, help="data.window_fraction")
    parser.add_argument("--nodes", type=int, default=1, help="each reads its part of every batch; one is simulated")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--scale", type=float, default=1.0, help="part of MS1MV2's images and identities")
    arguments = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    counts = long_tailed_counts(*(int(arguments.scale * number) for number in MS1M))
    shard_ids = striped_shards(counts)
    index = shape_of(shard_ids)
    total = sum(shard.size_bytes for shard in index.manifest.shards)
    budget = int(arguments.cache * total)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    plan = windowed_plan(
        offsets, shard_ids, global_batch_size=arguments.batch, seed=0, epoch=0, window_fraction=arguments.window
    )
    mine = plan[:, : arguments.batch // arguments.nodes]
    resident = epoch_plan(counts, global_batch_size=arguments.batch, seed=0, epoch=0)
    report = {
        "images": len(index), "shards": len(index.manifest.shards), "data_set_bytes": total,
        "cache_over_data_set": arguments.cache, "window_fraction": arguments.window, "nodes": arguments.nodes,
        "windowed": pass_through(index, mine, budget),
        "windowed_least_recently_used": least_recently_used(index, mine, budget),
        "resident_least_recently_used_first_200_batches": least_recently_used(index, resident[:200], budget),
        "version": octoscale.__version__,
        "machine": machine,
    }  # fmt: skip
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
