"""A data set on this node's disk: the data set itself if it is local, else a verified copy of it."""

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from octoscale.data.index import MANIFEST_NAME, Manifest, file_sha256, read_manifest
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

_DOWNLOADS = 8


def local_copy(url: str, cache_dir: str | Path) -> Path:
    """The local folder of the packed data set at `url`.

    A local data set is used where it is. Another is downloaded once per node to
    ``cache_dir/<fingerprint>``, checked, and renamed when whole; ranks of the node that ask at the
    same time wait for the one that downloads. An interrupted download keeps its whole files.

    Raises:
        OctoscaleError: not a packed data set, unreachable, damaged on the way, or the disk is too small.
    """
    store = Store(url)
    manifest = read_manifest(store.read, store.exists, url)
    if store.is_local:
        return store.local_path()
    cache = Path(cache_dir).expanduser()
    final = cache / manifest.fingerprint
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{manifest.fingerprint}.lock"):
            if not final.is_dir():
                _download(store, manifest, cache / f"{manifest.fingerprint}.partial")
                (cache / f"{manifest.fingerprint}.partial").rename(final)
    except OSError as error:
        raise OctoscaleError(f"cannot copy {url} to the cache {cache}: {error}; choose another cache_dir") from error
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it even if this process is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(store: Store, manifest: Manifest, directory: Path) -> None:
    checksums = manifest.index_sha256 | {shard.name: shard.sha256 for shard in manifest.shards}
    missing = [name for name, sha256 in checksums.items() if not _is_whole(directory / name, sha256)]
    sizes = {shard.name: shard.size_bytes for shard in manifest.shards}
    needed_bytes = sum(sizes.get(name, 0) for name in missing)
    directory.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(directory).free
    if needed_bytes > free_bytes:
        raise OctoscaleError(
            f"{store.url} needs {needed_bytes / 2**30:.1f} GiB in the cache {directory.parent}, "
            f"where {free_bytes / 2**30:.1f} GiB are free; choose another cache_dir"
        )

    def fetch(name: str) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download(name, path)
        if not _is_whole(path, checksums[name]):
            path.unlink()
            raise OctoscaleError(f"{store.url}/{name} is damaged (its sha256 is not the manifest's); pack it again")

    with ThreadPoolExecutor(_DOWNLOADS) as pool:
        downloads = [pool.submit(fetch, name) for name in missing]
        try:
            for download in downloads:
                download.result()
        finally:
            pool.shutdown(cancel_futures=True)
    (directory / MANIFEST_NAME).write_bytes(manifest.dump())


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256
