"""RecordIO as a source of images: insightface's ``train.rec`` and what MXNet's im2rec writes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import disk_usage

import numpy as np
from numpy.typing import NDArray

from octoscale.data.importers.paths import store_and_name
from octoscale.data.importers.recordio import MAX_RECORD_BYTES, Record, parse_index, parse_record, read_record, scan
from octoscale.data.importers.source import Excluded, Loaded, Request, Source
from octoscale.data.storage import DEFAULT, Store
from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError

# One read: large enough for an object store, small enough for every worker to hold a few.
_READ_BYTES = 16 * 2**20
_ENTRIES_PER_REQUEST = 2048
# From 2²⁴ on float32 does not hold every whole number.
_EXACT_LABELS = 2**24
_LANDMARK_LABELS = 11
# With fewer images per read than this, a copy on the disk is faster than reading from far away.
_WORTH_A_READ = 4


@dataclass(frozen=True)
class RecordRequest:
    """Records of a file: those from `starts` on, none longer than up to `ends`; int64 [n] each."""

    store: Store
    name: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    keys: NDArray[np.int64]
    # Up to this key a record without an image is a damaged one; from it on it may describe an identity.
    surely_images: int

    def load(self) -> list[Loaded | None]:
        found: list[Loaded | None] = []
        reads = list(self._reads())
        # At once: a store answers many requests in the time of one.
        blocks = self.store.read_ranges(
            self.name, [(int(self.starts[first]), int(self.ends[last - 1])) for first, last in reads]
        )
        for (first, last), data in zip(reads, blocks, strict=True):
            base = int(self.starts[first])
            for row in range(first, last):
                where = f"record {self.keys[row]} at byte {self.starts[row]} of {self.store.url}/{self.name}"
                content = read_record(data, int(self.starts[row]) - base, where)
                found.append(_entry(parse_record(content, where), int(self.keys[row]) < self.surely_images, where))
        return found

    def _reads(self) -> Iterator[tuple[int, int]]:
        """Rows ``[first, last)`` that are neighbours in the file, as one read."""
        first = 0
        for row in range(1, len(self.starts) + 1):
            if (
                row == len(self.starts)
                or self.starts[row] != self.ends[row - 1]
                or self.ends[row] - self.starts[first] > _READ_BYTES
            ):
                yield first, row
                first = row


def _entry(record: Record, surely_image: bool, where: str) -> Loaded | None:
    if not record.image and not surely_image:
        return None
    # insightface: one label, or the identity first in a longer list; with exactly ten more these are landmarks.
    label = float(record.labels[0])
    if not (0 <= label < _EXACT_LABELS and label.is_integer()):
        raise OctoscaleError(f"{where}: the label {label!r} is not an identity's number below {_EXACT_LABELS:,}")
    landmarks = record.labels[1:].reshape(5, 2) if len(record.labels) == _LANDMARK_LABELS else None
    return Loaded(int(label), record.image, landmarks, "" if record.image else "the record holds no image")


@dataclass(frozen=True)
class RecordSource:
    """The images of a ``.rec`` file; identities are what the images' labels say. See `open_records`.

    Attributes:
        starts, ends, keys: int64 [n]: the bytes and the key of every record that may be an image, in the file's order.
    """

    url: str
    ignored: list[Excluded]
    store: Store
    file_name: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    keys: NDArray[np.int64]
    surely_images: int

    def __len__(self) -> int:
        return len(self.starts)

    def name(self, entry: int) -> str:
        return f"record {self.keys[entry]}"

    def key(self, label: int) -> str:
        return str(label)

    def batches(self, start: int) -> Iterator[NDArray[np.int64]]:
        sizes = self.ends - self.starts
        first, filled = start, 0
        for entry in range(start, len(self)):
            if entry > first and (filled + sizes[entry] > _READ_BYTES or entry - first >= _ENTRIES_PER_REQUEST):
                yield np.arange(first, entry)
                first, filled = entry, 0
            filled += sizes[entry]
        if first < len(self):
            yield np.arange(first, len(self))

    def request(self, entries: NDArray[np.int64]) -> Request:
        return RecordRequest(
            self.store, self.file_name, self.starts[entries], self.ends[entries], self.keys[entries], self.surely_images
        )

    def near(self, entries: NDArray[np.int64], runs: NDArray[np.int64], directory: Path) -> Source:
        # A read ends with a run, and inside of one where the next image is elsewhere in the file.
        ends = np.append(True, self.starts[entries[1:]] != self.ends[entries[:-1]])
        ends[runs] = True
        reads = np.count_nonzero(ends)
        if self.store.is_local or len(entries) / reads >= _WORTH_A_READ:
            return self
        needed_bytes, free_bytes = self.store.size(self.file_name), disk_usage(directory).free
        if needed_bytes > free_bytes:
            raise OctoscaleError(
                f"{self.url} is shuffled, so it is copied to {directory.parent} before its images are sorted: "
                f"{needed_bytes / 2**30:.1f} GiB, of which {free_bytes / 2**30:.1f} GiB are free; set TMPDIR"
            )
        self.store.download(self.file_name, directory / "images.rec")
        return replace(self, store=Store(str(directory)), file_name="images.rec")

    def may_have_landmarks(self) -> bool:
        return True

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.store.size(self.file_name)}".encode())
        for array in (self.starts, self.keys):
            digest.update(array.tobytes())
        return digest.hexdigest()


def open_records(url: str, storage: StorageConfig = DEFAULT) -> RecordSource:
    """The images of the ``.rec`` file at `url`; without an ``.idx`` beside it the file is walked over once more.

    A first record of two labels without an image is insightface's header: the first label says where the image records
    end, and all others that hold no image describe identities. Without a header every record without an image is a
    damaged one.

    Raises:
        OctoscaleError: damaged, truncated or not RecordIO.
    """
    store, name = store_and_name(url, storage)
    size = store.size(name)
    if size == 0:
        raise OctoscaleError(f"{url} is empty")
    index_name = f"{name.removesuffix('.rec')}.idx"
    if store.exists(index_name):
        keys, starts = parse_index(store.read(index_name), size, f"{store.url}/{index_name}")
    else:
        starts = scan(lambda start, end: store.read_range(name, start, end), size, url)
        keys = np.arange(len(starts))
    ends = _ends(starts, size)
    data = store.read_range(name, int(starts[0]), int(ends[0]))
    where = f"record {keys[0]} at byte {starts[0]} of {url}"
    header = parse_record(read_record(data, 0, where), where)
    # In the file's order, whatever that of the keys: the first pass reads large pieces.
    order = np.argsort(starts)
    if header.image or len(header.labels) < 2 or len(header.labels) == _LANDMARK_LABELS:
        last = int(keys[-1])
        return RecordSource(url, [], store, name, starts[order], ends[order], keys[order], surely_images=last + 1)
    end = header.labels[0]
    if not 1 <= end <= 2**53:
        raise OctoscaleError(f"{where}: a header that says that images end at record {end}; the file is damaged")
    # The header's numbers are float32: beyond 2²⁴ the end is known to a few records only.
    low, high = (end, end) if end <= _EXACT_LABELS else (np.nextafter(end, np.float32(0)), np.nextafter(end, np.inf))
    images = order[(keys[order] > keys[0]) & (keys[order] < int(high))]
    if not len(images):
        raise OctoscaleError(f"{url} holds no image records, only a header and identities")
    return RecordSource(url, [], store, name, starts[images], ends[images], keys[images], surely_images=int(low))


def _ends(starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Where each record ends at the latest: at the next one's start, and after the longest record that is read."""
    order = np.argsort(starts)
    ends = np.empty_like(starts)
    ends[order] = np.append(starts[order][1:], size)
    # Twice the limit leaves room for the frames of a record in many parts.
    return np.minimum(ends, starts + 2 * MAX_RECORD_BYTES)
