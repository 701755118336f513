"""Second pass: reads the chosen images again and writes the shards."""

import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray

from octoscale.data.decode import image_format
from octoscale.data.importers.source import Request, Source
from octoscale.data.index import Shard, file_sha256
from octoscale.data.pack.layout import image_offsets
from octoscale.data.pack.report import Progress
from octoscale.data.pack.rules import Selection
from octoscale.data.pack.state import PackState
from octoscale.data.pack.verify import prepare
from octoscale.data.storage import Store
from octoscale.data.workers import Workers
from octoscale.errors import OctoscaleError

_ENTRIES_PER_REQUEST = 32


@dataclass(frozen=True)
class _Write:
    """One shard to write: its samples in order, as arrays [k], and where they come from and go to."""

    name: str
    requests: tuple[Request, ...]
    source_names: tuple[str, ...]
    rows: NDArray[np.int64]
    identities: NDArray[np.int64]
    sizes: NDArray[np.int32]
    crc32: NDArray[np.uint32]
    aligned: bool
    destination: Store
    state: PackState
    part: str


def write_shards(
    source: Source,
    selection: Selection,
    layout: list[NDArray[np.int64]],
    destination: Store,
    state: PackState,
    *,
    aligned: bool,
    workers: Workers,
    progress: Progress,
) -> tuple[Shard, ...]:
    """Write the shards that `state` does not know as written; all of them, in order.

    Args:
        layout: rows of each shard.
        destination: of this part of the data set.
    """
    there = set(destination.list("shards"))
    known = {name: shard for name, shard in state.shards(selection.part).items() if name in there}
    names = [f"shards/shard-{number:06d}.tar" for number in range(len(layout))]
    done = sum(len(rows) for name, rows in zip(names, layout, strict=True) if name in known)
    total = len(selection.entries)
    if done:
        progress("write", done, total)
    identities = np.repeat(np.arange(len(selection.keys)), np.diff(selection.identity_offsets))

    def tasks() -> Iterator[_Write]:
        for name, rows in zip(names, layout, strict=True):
            if name in known:
                continue
            entries = selection.entries[rows]
            groups = [
                entries[first : first + _ENTRIES_PER_REQUEST] for first in range(0, len(rows), _ENTRIES_PER_REQUEST)
            ]
            yield _Write(
                name=name,
                requests=tuple(source.request(group) for group in groups),
                source_names=tuple(source.name(entry) for entry in entries.tolist()),
                rows=rows,
                identities=identities[rows],
                sizes=selection.sizes[rows],
                crc32=selection.crc32[rows],
                aligned=aligned,
                destination=destination,
                state=state,
                part=selection.part,
            )

    counts = dict(zip(names, map(len, layout), strict=True))
    for shard in workers.map(_write_shard, tasks()):
        known[shard.name] = shard
        done += counts[shard.name]
        progress("write", done, total)
    return tuple(known[name] for name in names)


def _write_shard(task: _Write) -> Shard:
    with tempfile.TemporaryDirectory(prefix="octoscale-pack-") as temporary:
        local = Path(temporary, "shard.tar")
        # mtime 0: the same images give the same bytes, today and tomorrow.
        with local.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
            for position, (data, suffix) in enumerate(_images(task)):
                label = str(task.identities[position]).encode()
                tar.write({"__key__": f"{task.rows[position]:09d}", suffix: data, "cls": label})
        _check_offsets(local, task)
        shard = Shard(name=task.name, size_bytes=local.stat().st_size, sha256=file_sha256(local))
        task.destination.upload(local, task.name)
        task.state.add_shard(task.part, shard)
    return shard


def _images(task: _Write) -> Iterator[tuple[bytes, str]]:
    """The bytes of each image, and its suffix."""
    position = 0
    for request in task.requests:
        for loaded in request.load():
            assert loaded is not None
            try:
                data, _, _ = prepare(loaded, task.aligned) if task.aligned else (loaded.data, 0, 0)
            except OctoscaleError:
                data = b""
            if zlib.crc32(data) != task.crc32[position]:
                raise OctoscaleError(f"{task.source_names[position]} changed while it was packed; pack again")
            suffix = image_format(data)
            assert suffix is not None
            yield data, suffix
            position += 1


def _check_offsets(path: Path, task: _Write) -> None:
    """The index's offsets are computed; the shard must agree, read back."""
    with tarfile.open(path) as tar:
        members = [member for member in tar if not member.name.endswith(".cls")]
    assert [member.offset_data for member in members] == image_offsets(task.sizes).tolist()
    assert [member.size for member in members] == task.sizes.tolist()
