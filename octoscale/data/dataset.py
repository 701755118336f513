"""A packed data set, wherever it is: its index on this node, and what reads and fetches its images."""

import os
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from octoscale.data.cache import ShardCache
from octoscale.data.config import DataConfig
from octoscale.data.index import MANIFEST_NAME, Index, Manifest, file_sha256, read_manifest
from octoscale.data.lease import Lease, shared
from octoscale.data.plan import rank_batch_size
from octoscale.data.prefetch import READY_BATCHES, Arrivals, Everything, Fetcher, Follower
from octoscale.data.reader import ImageReader
from octoscale.data.shard_files import ShardFiles
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig
from octoscale.data.temporary import locked, replacing
from octoscale.data.verified import VerifiedStore
from octoscale.errors import OctoscaleError

_DOWNLOADS = 4
# Of the disk, that a cache without a limit of its own leaves free.
_FREE_SHARE = 0.05


@dataclass(frozen=True)
class DataSet:
    """The index and the images of a packed data set.

    Attributes:
        index: memory-mapped from this node's disk.
        reader: of single images and batches; can be sent to worker processes.
        store: where it comes from; None for a data set that is on this node's disk.
    """

    index: Index
    reader: ImageReader
    store: Store | None

    @classmethod
    def open(cls, url: str, cache_dir: str | Path, storage: StorageConfig | None = None) -> "DataSet":
        """The data set at `url`. Of a remote one only the index is copied, to ``cache_dir/<fingerprint>``.

        Raises:
            OctoscaleError: not a packed data set, unreachable, damaged on the way, or an unusable cache folder.
        """
        store = Store(url, storage or StorageConfig())
        if store.is_local:
            index = Index.load(store.local_path())
            return cls(index, ImageReader(index, store.local_path()), None)
        manifest = read_manifest(store.read, store.exists, url)
        cache = Path(cache_dir).expanduser()
        directory = cache / manifest.fingerprint
        with _explained(url, cache):
            cache.mkdir(parents=True, exist_ok=True)
            with locked(cache / f"{manifest.fingerprint}.lock"):
                _copy_index(store, manifest, directory)
        index = Index.load(directory)
        return cls(index, ImageReader(index, directory, store), store)

    def keep_all(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Bring every shard to this node's disk; `progress` is told how many of how many are there."""
        if self.store is None:
            return
        shards = self.index.manifest.shards
        directory = self.index.directory
        with _explained(self.store.url, directory.parent), shared(directory):
            cache = ShardCache(VerifiedStore(self.store, self.index), self.index, self._files(), None)
            cache.check_room()
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                downloads = [pool.submit(cache.keep_whole, shard) for shard in range(len(shards))]
                try:
                    for number, download in enumerate(downloads, start=1):
                        download.result()
                        if progress is not None:
                            progress(number, len(shards))
                finally:
                    pool.shutdown(cancel_futures=True)

    def node_name(self) -> str:
        """The same for all processes that share this cache folder, and for no others; "" for a local data set."""
        if self.store is None:
            return ""
        path = self.index.directory / ".node"
        with _explained(self.store.url, self.index.directory.parent):
            if not path.exists():
                # It appears whole, and the first one stays.
                temporary = path.with_name(f".node-{uuid.uuid4().hex}")
                temporary.write_text(uuid.uuid4().hex)
                with suppress(FileExistsError):
                    os.link(temporary, path)
                temporary.unlink()
            # A copy of the folder, in an image of a machine, is another folder.
            boot = Path("/proc/sys/kernel/random/boot_id")
            machine = boot.read_text().strip() if boot.exists() else platform.node()
            return f"{path.read_text()} {machine}"

    def arrivals(
        self, config: DataConfig, *, global_batch_size: int, rank: int, nodes: list[str], start: int, attempt: str
    ) -> Arrivals:
        """What brings the images of rank `rank` in time.

        Args:
            nodes: `node_name` of every rank; the first rank of a node fetches for all of them.
            start: the time of the first batch to come.
            attempt: the same on all ranks, another one each time they start.
        """
        if self.store is None:
            return Everything()
        with _explained(self.store.url, self.index.directory.parent):
            return self._remote_arrivals(config, global_batch_size, rank, nodes, start, attempt)

    def _remote_arrivals(
        self, config: DataConfig, global_batch_size: int, rank: int, nodes: list[str], start: int, attempt: str
    ) -> Arrivals:
        assert self.store is not None
        node_ranks = [other for other, node in enumerate(nodes) if node == nodes[rank]]
        directory = self.index.directory
        lock = directory / f"fetching-{attempt}.lock"
        if rank != node_ranks[0]:
            return Follower(self._files(), self.index, lock, node_ranks.index(rank))
        # Before the cache looks at what is there: an attempt that is ending may still drop some.
        lease = Lease(directory, exclusive=config.mode == "windowed")
        size = rank_batch_size(global_batch_size, len(nodes))
        cache = ShardCache(VerifiedStore(self.store, self.index), self.index, self._files(), self._budget_bytes(config))
        cache.check_room()
        columns = [slice(other * size, (other + 1) * size) for other in node_ranks]
        # A DataLoader asks for two batches for each worker before it gives the first.
        ahead = READY_BATCHES + 2 * config.workers
        return Fetcher(cache, lease, self.index, columns, start=start, ahead=ahead, lock=lock)

    def _files(self) -> ShardFiles:
        return ShardFiles(self.index, self.index.directory)

    def _budget_bytes(self, config: DataConfig) -> int | None:
        if config.mode == "resident":
            return None
        if config.cache_bytes is not None:
            return int(config.cache_bytes)
        disk = shutil.disk_usage(self.index.directory)
        stored = sum(self._files().stored_bytes(shard) for shard in range(len(self.index.manifest.shards)))
        return max(0, stored + disk.free - int(_FREE_SHARE * disk.total))


def _copy_index(store: Store, manifest: Manifest, directory: Path) -> None:
    if (directory / MANIFEST_NAME).exists():
        return
    (directory / "index").mkdir(parents=True, exist_ok=True)
    for name, sha256 in manifest.index_sha256.items():
        path = directory / name
        if path.is_file() and file_sha256(path) == sha256:
            continue
        with replacing(path) as temporary:
            store.download(name, temporary)
            if file_sha256(temporary) != sha256:
                raise OctoscaleError(f"{store.url}/{name} is damaged (its sha256 is not the manifest's); pack it again")
    with replacing(directory / MANIFEST_NAME) as temporary:
        temporary.write_bytes(manifest.dump())


@contextmanager
def _explained(url: str, cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OctoscaleError(
            f"cannot keep {url} in the cache {cache}: {error}; choose another data.cache_dir"
        ) from error
