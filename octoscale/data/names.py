"""Millions of names without millions of objects."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

_NEWLINE = ord("\n")


def is_line(name: str) -> bool:
    """Whether `name` can be one line of UTF-8; file names of other encodings arrive with lone surrogates."""
    return "\n" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


class Names(Sequence[str]):
    """A sequence of strings in one buffer: each a line of UTF-8, as its file is. See `is_line`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        buffer = bytearray()
        for name in names:
            buffer += name.encode()
            buffer.append(_NEWLINE)
        self._set(bytes(buffer))

    @classmethod
    def parse(cls, lines: bytes) -> "Names":
        """The names of a file: every line one, the last one ended too."""
        names = cls.__new__(cls)
        names._set(lines)
        return names

    def dump(self) -> bytes:
        return self._lines

    def take(self, rows: NDArray[np.int64]) -> "Names":
        """The names of these rows, in their order."""
        lines, ends = self._lines, self._ends
        starts = np.concatenate([[0], ends[:-1]])[rows].tolist()
        return Names.parse(b"".join(lines[start:end] for start, end in zip(starts, ends[rows].tolist(), strict=True)))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "Names": ...
    def __getitem__(self, row: int | slice) -> "str | Names":
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        start = int(self._ends[row - 1]) if row else 0
        return self._lines[start : int(self._ends[row]) - 1].decode()

    def _set(self, lines: bytes) -> None:
        self._lines = lines
        # One past each name's newline.
        self._ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1
