"""What a node's disk holds of a remote data set's shards: whole files, and parts with some of their images."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octoscale.data.index import Index
from octoscale.data.temporary import replacing

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
        kept = [] if part is None or part.rows is None else part.rows.tolist()

        def image(row: int) -> bytes | None:
            return images[row] if row in images or part is None else part.read(self._index, row)

        try:
            self._write_part(shard, sorted({*kept, *images}), image)
        finally:
            if part is not None:
                part.close()

    def keep_only(self, shard: int, rows: NDArray[np.integer]) -> None:
        """Drop all images but `rows`."""
        source = self.open(shard)
        try:
            self._write_part(shard, np.sort(rows).tolist(), lambda row: source.read(self._index, row))
        finally:
            source.close()
        self.whole(shard).unlink(missing_ok=True)

    def delete(self, shard: int) -> None:
        """Drop all of it."""
        self.part(shard).unlink(missing_ok=True)
        self.whole(shard).unlink(missing_ok=True)

    def _open_part(self, shard: int) -> OpenShard | None:
        """The part that is there; None without one, or where a crash of the machine left it damaged."""
        try:
            descriptor = os.open(self.part(shard), os.O_RDONLY)
        except FileNotFoundError:
            return None
        end = os.fstat(descriptor).st_size - _TRAILER.itemsize
        if end >= 0:
            count = int(np.frombuffer(os.pread(descriptor, _TRAILER.itemsize, end), _TRAILER)[0])
            start = end - 16 * count
            if count >= 0 and start >= 0:
                rows, places = np.frombuffer(os.pread(descriptor, 16 * count, start), "<i8").reshape(2, count)
                of_shard = (rows >= 0) & (rows < len(self._index)) & (places >= 0) & (places <= start)
                if of_shard.all() and (np.diff(rows) > 0).all():
                    return OpenShard(descriptor, rows, places)
        os.close(descriptor)
        return None

    def _write_part(self, shard: int, rows: list[int], image: Callable[[int], bytes | None]) -> None:
        """The images of `rows` (ascending) that `image` gives; one at a time is in memory."""
        held: list[int] = []
        sizes: list[int] = []
        with replacing(self.part(shard)) as temporary, temporary.open("wb") as file:
            for row in rows:
                data = image(row)
                if data is not None:
                    file.write(data)
                    held.append(row)
                    sizes.append(len(data))
            np.array([held, np.cumsum([0, *sizes])[:-1]], "<i8").tofile(file)
            np.array([len(held)], _TRAILER).tofile(file)
