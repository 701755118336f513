"""What packing asks of a source of images, whatever its form, and the source of separate image files."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octoscale.data.names import Names
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_IMAGE_BYTES = 64 * 2**20
_TOO_LARGE = f"the file has more than {MAX_IMAGE_BYTES // 2**20} MiB"
# Read at once: many requests to an object store in flight, and 32 photos of 5 MB fit anywhere.
_FILES_PER_REQUEST = 32


@dataclass(frozen=True)
class Excluded:
    """Something of the source that is not in the data set: a file, or an identity (its key), and why."""

    name: str
    cause: str


@dataclass(frozen=True)
class Loaded:
    """One entry of a source.

    Attributes:
        label: number of its identity in the source, from 0.
        landmarks: float32 [5, 2], x and y in pixels: eyes, nose, corners of the mouth; None if the source has none.
        cause: why there are no bytes.
    """

    label: int
    data: bytes
    landmarks: NDArray[np.float32] | None = None
    cause: str = ""


class Request(Protocol):
    """Some entries of a source, small enough to be sent to another process."""

    def load(self) -> list[Loaded | None]:
        """The entries, in order; None for one that is no image by the source's own rules."""


class Source(Protocol):
    """Images with identities, as numbered entries. Entries are only read by requests."""

    @property
    def url(self) -> str:
        """For messages, and so that nothing is packed into the source itself."""

    @property
    def ignored(self) -> list[Excluded]:
        """What is not an entry, and why."""

    def __len__(self) -> int:
        """The number of entries."""

    def name(self, entry: int) -> str:
        """What the source calls an entry; one line."""

    def key(self, label: int) -> str:
        """The identity key of a label; one line. Sorted labels are sorted identities."""

    def batches(self, start: int) -> Iterator[NDArray[np.int64]]:
        """All entries from `start`, in reading order, in groups for one request."""

    def request(self, entries: NDArray[np.int64]) -> Request:
        """A request of these entries."""

    def near(self, entries: NDArray[np.int64], runs: NDArray[np.int64], directory: Path) -> "Source":
        """A source with the same entries that is fast when these are read in short runs.

        Args:
            entries: sorted by identity.
            runs: the first row of each run in `entries`.
            directory: a temporary folder for copies.
        """

    def may_have_landmarks(self) -> bool:
        """False if it surely has none, as far as it is known without reading the entries."""

    def fingerprint(self) -> str:
        """Of everything that decides what the entries are, as far as it is known without reading them."""


@dataclass(frozen=True)
class FileRequest:
    """Image files of a store."""

    store: Store
    names: tuple[str, ...]
    labels: tuple[int, ...]
    landmarks: NDArray[np.float32] | None

    def load(self) -> list[Loaded | None]:
        contents: Sequence[bytes | str]
        try:
            # Of a local file the size is cheap to know first; elsewhere it is one request more per image.
            contents = [] if self.store.is_local else self.store.read_many(self.names)
        except OctoscaleError:
            contents = []
        contents = contents or [self._read_if_possible(name) for name in self.names]
        rows = [None] * len(self.names) if self.landmarks is None else self.landmarks
        loaded: list[Loaded | None] = []
        for label, content, landmarks in zip(self.labels, contents, rows, strict=True):
            if isinstance(content, bytes) and len(content) > MAX_IMAGE_BYTES:
                content = _TOO_LARGE
            data, cause = (b"", content) if isinstance(content, str) else (content, "")
            loaded.append(Loaded(label, data, landmarks, cause))
        return loaded

    def _read_if_possible(self, name: str) -> bytes | str:
        """The bytes of an image, or why there are none."""
        # A missing file is the list's mistake; anything else (permissions, network) is none of this image's.
        if not self.store.exists(name):
            return "there is no such file"
        return _TOO_LARGE if self.store.size(name) > MAX_IMAGE_BYTES else self.store.read(name)


class FileSource:
    """Images in files of their own, one entry each: folders, lists and tables."""

    def __init__(
        self,
        store: Store,
        names: Names,
        labels: NDArray[np.int64],
        keys: list[str],
        *,
        url: str,
        landmarks: NDArray[np.float32] | None = None,
        ignored: list[Excluded] | None = None,
    ) -> None:
        """`names`, `labels` [n] and `landmarks` [n, 5, 2] have a row per entry; `keys` are those of the labels."""
        self.url = url
        self.ignored = ignored or []
        self._store, self._names, self._labels, self._keys, self._landmarks = store, names, labels, keys, landmarks

    def __len__(self) -> int:
        return len(self._names)

    def name(self, entry: int) -> str:
        return self._names[entry]

    def key(self, label: int) -> str:
        return self._keys[label]

    def batches(self, start: int) -> Iterator[NDArray[np.int64]]:
        for first in range(start, len(self), _FILES_PER_REQUEST):
            yield np.arange(first, min(first + _FILES_PER_REQUEST, len(self)))

    def request(self, entries: NDArray[np.int64]) -> Request:
        landmarks = None if self._landmarks is None else self._landmarks[entries]
        names = tuple(self._names[entry] for entry in entries.tolist())
        return FileRequest(self._store, names, tuple(self._labels[entries].tolist()), landmarks)

    def near(self, entries: NDArray[np.int64], runs: NDArray[np.int64], directory: Path) -> Source:
        return self

    def may_have_landmarks(self) -> bool:
        return self._landmarks is not None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self._store.url}\n".encode())
        digest.update(self._names.dump())
        digest.update(self._labels.tobytes())
        digest.update("\n".join(self._keys).encode())
        if self._landmarks is not None:
            digest.update(self._landmarks.tobytes())
        return digest.hexdigest()
