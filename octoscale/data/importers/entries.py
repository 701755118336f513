"""Collects the entries of lists and tables: paths, identities and perhaps landmarks, row by row."""

import math
from array import array
from collections.abc import Sequence

import numpy as np

from octoscale.data.importers.paths import name_below
from octoscale.data.importers.source import Excluded, FileSource
from octoscale.data.names import Names, is_line
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError

LANDMARK_NUMBERS = 10


class Entries:
    """The rows of a list or table, in arrays: a data set has millions."""

    def __init__(self, url: str, root: Store) -> None:
        """`url` is that of the list, `root` the folder that its paths are relative to."""
        self._url, self._root = url, root
        self._lines = bytearray()
        self._labels: array[int] = array("q")
        self._landmarks: array[float] = array("f")
        self._label_of: dict[str, int] = {}

    def add(self, path: str, key: str, landmarks: Sequence[float | str], where: str) -> None:
        """One row: `landmarks` are none or ten numbers, x and y of each point.

        Raises:
            OctoscaleError: a row that cannot be meant, with `where` it stands.
        """
        name = name_below(self._root, path, where)
        for text, what in ((name, "path"), (key, "identity")):
            if not text or not is_line(text):
                raise OctoscaleError(f"{where}: the {what} {text!r} is not one line of text")
        if landmarks:
            if len(self._landmarks) != LANDMARK_NUMBERS * len(self._labels):
                raise OctoscaleError(f"{where}: landmarks, where the first row has none; give them in every row")
            try:
                numbers = [float(number) for number in landmarks]
            except (ValueError, TypeError):
                numbers = []
            if len(numbers) != LANDMARK_NUMBERS or not all(math.isfinite(number) for number in numbers):
                raise OctoscaleError(f"{where}: landmarks must be ten numbers, x and y of five points: {landmarks!r}")
            self._landmarks.extend(numbers)
        elif self._landmarks:
            raise OctoscaleError(f"{where}: no landmarks, where the first row has them; give them in every row")
        self._lines += name.encode() + b"\n"
        self._labels.append(self._label_of.setdefault(key, len(self._label_of)))

    def source(self) -> FileSource:
        """The entries, sorted by identity key; the order within an identity is that of the rows.

        Raises:
            OctoscaleError: there are none.
        """
        if not self._labels:
            raise OctoscaleError(f"{self._url} names no images")
        keys = sorted(self._label_of)
        # The labels so far count in order of appearance.
        rank = np.empty(len(keys), np.int64)
        rank[[self._label_of[key] for key in keys]] = np.arange(len(keys))
        labels = rank[np.frombuffer(self._labels, np.int64)]
        names = Names.parse(bytes(self._lines))
        keep, ignored = _without_repetitions(names)
        order = keep[np.argsort(labels[keep], kind="stable")]
        points = np.frombuffer(self._landmarks, np.float32).reshape(-1, 5, 2)
        return FileSource(
            self._root, names.take(order), labels[order], keys,
            url=self._url, landmarks=points[order] if len(points) else None, ignored=ignored,
        )  # fmt: skip


def _without_repetitions(names: Names) -> tuple[np.ndarray, list[Excluded]]:
    """The rows to keep, and the others: a file that is named twice is one image."""
    hashes = np.fromiter((hash(name) for name in names), np.int64, len(names))
    first, back = np.unique(hashes, return_index=True, return_inverse=True)[1:]
    again = np.flatnonzero(first[back] != np.arange(len(names)))
    # Two names may share a hash.
    repeated = [row for row in again.tolist() if names[row] == names[int(first[back[row]])]]
    ignored = [Excluded(names[row], "named a second time") for row in repeated]
    return np.setdiff1d(np.arange(len(names)), repeated), ignored
