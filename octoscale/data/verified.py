"""Shards and images from where the data set is kept, as they were packed or not at all."""

import logging
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octoscale.data.index import Index, file_sha256
from octoscale.data.storage import Store
from octoscale.data.temporary import replacing
from octoscale.errors import OctoscaleError

logger = logging.getLogger(__name__)

# A request costs about as much as this many bytes more: 1.6 ms of a core.
_GAP_BYTES = 128 * 2**10
# Wrong bytes are fetched again; they may have been spoilt on the way.
_ATTEMPTS = 3


class DamagedError(OctoscaleError):
    """What is there is not what was packed."""


class VerifiedStore:
    """The shards of a data set under `store`; what comes is compared with the checksums of its manifest and index.

    Attributes:
        stop: set it, and what is under way is given up.
    """

    def __init__(self, store: Store, index: Index) -> None:
        self.store = store
        self.stop = threading.Event()
        self._index = index

    def download(self, shard: int, path: Path) -> None:
        """Bring the whole shard to `path`, where it appears when it is verified.

        Of processes that do so at the same time one downloads; nothing is left of a failure.

        Raises:
            DamagedError: where it comes from: shard, offset and sample id.
            OctoscaleError: it cannot be read.
        """
        entry = self._index.manifest.shards[shard]
        with replacing(path) as temporary:
            if path.exists():
                temporary.unlink()
                return
            for attempt in range(_ATTEMPTS):
                self.store.download(entry.name, temporary, entry.size_bytes, stop=self.stop)
                if file_sha256(temporary) == entry.sha256:
                    break
                logger.warning("%s/%s came with wrong bytes, attempt %d", self.store.url, entry.name, attempt + 1)
            else:
                raise DamagedError(self._damage(shard, temporary))

    def read(self, shard: int, rows: NDArray[np.integer]) -> dict[int, bytes]:
        """The images `rows` (sample ids of this shard), in as few requests as pay.

        Raises:
            OctoscaleError: as `download`.
        """
        index, name = self._index, self._index.manifest.shards[shard].name
        ranges = self.ranges(rows)
        starts = np.array([start for start, _ in ranges])
        for _ in range(_ATTEMPTS):
            parts = self.store.read_ranges(name, ranges, stop=self.stop)
            images = {}
            for row in rows:
                part = int(np.searchsorted(starts, index.offsets[row], side="right")) - 1
                place = int(index.offsets[row] - starts[part])
                images[int(row)] = parts[part][place : place + int(index.sizes[row])]
            wrong = [row for row, data in images.items() if zlib.crc32(data) != index.crc32[row]]
            if not wrong:
                return images
            logger.warning("%s/%s came with wrong bytes of sample %d", self.store.url, name, wrong[0])
        raise DamagedError(
            f"sample {wrong[0]} at byte {index.offsets[wrong[0]]} of {self.store.url}/{name} is not what was packed "
            "(crc32 differs); restore the shard or pack the data set again"
        )

    def ranges(self, rows: NDArray[np.integer]) -> list[tuple[int, int]]:
        """The byte ranges that `read` asks for: those of the images, close ones joined; ascending."""
        ranges: list[tuple[int, int]] = []
        for row in rows[np.argsort(self._index.offsets[rows])]:
            start = int(self._index.offsets[row])
            end = start + int(self._index.sizes[row])
            near = ranges and start - ranges[-1][1] <= _GAP_BYTES
            if near and end - ranges[-1][0] <= self.store.config.part_bytes:
                ranges[-1] = ranges[-1][0], end
            else:
                ranges.append((start, end))
        return ranges

    def _damage(self, shard: int, path: Path) -> str:
        """Where the file at `path` differs from what was packed."""
        entry = self._index.manifest.shards[shard]
        message = f"{self.store.url}/{entry.name} is damaged (its sha256 is not the manifest's)"
        rows = np.flatnonzero(self._index.shard_ids == shard)
        with path.open("rb") as file:
            for row in rows[np.argsort(self._index.offsets[rows])]:
                file.seek(int(self._index.offsets[row]))
                if zlib.crc32(file.read(int(self._index.sizes[row]))) != self._index.crc32[row]:
                    message += f", first in sample {row} at byte {self._index.offsets[row]}"
                    break
        return f"{message}; restore it or pack the data set again"
