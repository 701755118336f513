"""What a node's disk holds of a remote data set's shards: whole files, and parts with some of their images."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octoscale.data.index import Index

_TRAILER = np.dtype("<i8")


@dataclass(frozen=True)
class OpenShard:
    """A shard to read from. It stays readable when its file is replaced or deleted.

    Attributes:
        descriptor: of the file.
        rows, places: int64 [n], for a part the sample ids in it, ascending, and where each begins; None for a
            whole shard, where the index knows.
    """

    descriptor: int
    rows: NDArray[np.int64] | None = None
    places: NDArray[np.int64] | None = None

    def read(self, index: Index, row: int) -> bytes | None:
        """The bytes of sample `row`, fewer where the file ends before; None where it is not in this part."""
        place = int(index.offsets[row])
        if self.rows is not None and self.places is not None:
            found = int(np.searchsorted(self.rows, row))
            if found == len(self.rows) or self.rows[found] != row:
                return None
            place = int(self.places[found])
        return os.pread(self.descriptor, int(index.sizes[row]), place)

    def close(self) -> None:
        os.close(self.descriptor)


class ShardFiles:
    """The shards under `directory`, each absent, whole, or in part.

    A part is one file with the bytes of some images, and at its end which and where. Files never change: another
    takes their place. So readers need no lock.
    """

    def __init__(self, index: Index, directory: Path) -> None:
        self._index = index
        self.directory = directory

    def whole(self, shard: int) -> Path:
        """Where the whole shard is, if it is there."""
        return self.directory / self._index.manifest.shards[shard].name

    def part(self, shard: int) -> Path:
        """Where a part of it is, if one is there."""
        path = self.whole(shard)
        return path.with_name(f"{path.name}.part")

    def open(self, shard: int) -> OpenShard:
        """The whole shard, or the part that is there.

        Raises:
            FileNotFoundError: nothing of it is there.
        """
        try:
            return OpenShard(os.open(self.whole(shard), os.O_RDONLY))
        except FileNotFoundError as error:
            part = self._open_part(shard)
            if part is None:
                raise error
            return part

    def holds(self, shard: int, rows: NDArray[np.integer]) -> bool:
        """Whether the images `rows` (sample ids of this shard) are there."""
        return self.whole(shard).exists() or bool(np.isin(rows, self.part_rows(shard)).all())

    def part_rows(self, shard: int) -> NDArray[np.int64]:
        """The sample ids in the part that is there, ascending; none without one."""
        part = self._open_part(shard)
        if part is None:
            return np.empty(0, np.int64)
        part.close()
        assert part.rows is not None
        return part.rows

    def stored_bytes(self, shard: int) -> int:
        """The bytes that this shard takes on the disk."""
        return sum(path.stat().st_size for path in (self.whole(shard), self.part(shard)) if path.exists())

    def add(self, shard: int, images: dict[int, bytes]) -> None:
        """Store these images (bytes by sample id) beside those of the part that is there."""
        part = self._open_part(shard)
        kept: dict[int, bytes] = {}
        if part is not None and part.rows is not None:
            kept = {int(row): part.read(self._index, int(row)) or b"" for row in part.rows}
            part.close()
        self._write_part(shard, kept | images)

    def keep_only(self, shard: int, rows: NDArray[np.integer]) -> None:
        """Drop all images but `rows`."""
        source = self.open(shard)
        try:
            found = {int(row): source.read(self._index, int(row)) for row in rows}
        finally:
            source.close()
        self._write_part(shard, {row: data for row, data in found.items() if data is not None})
        self.whole(shard).unlink(missing_ok=True)

    def delete(self, shard: int) -> None:
        """Drop all of it."""
        self.part(shard).unlink(missing_ok=True)
        self.whole(shard).unlink(missing_ok=True)

    def _open_part(self, shard: int) -> OpenShard | None:
        try:
            descriptor = os.open(self.part(shard), os.O_RDONLY)
        except FileNotFoundError:
            return None
        end = os.fstat(descriptor).st_size - _TRAILER.itemsize
        count = int(np.frombuffer(os.pread(descriptor, _TRAILER.itemsize, end), _TRAILER)[0])
        table = np.frombuffer(os.pread(descriptor, 16 * count, end - 16 * count), "<i8").reshape(2, count)
        return OpenShard(descriptor, table[0], table[1])

    def _write_part(self, shard: int, images: dict[int, bytes]) -> None:
        path = self.part(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = sorted(images)
        sizes = [len(images[row]) for row in rows]
        temporary = path.with_name(f"{path.name}.partial")
        try:
            with temporary.open("wb") as file:
                file.writelines(images[row] for row in rows)
                np.array([rows, np.cumsum(sizes) - sizes], "<i8").tofile(file)
                np.array([len(rows)], _TRAILER).tofile(file)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
