"""What the first pass finds: arrays, for millions of entries."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# The label of an entry that is no image by the source's own rules.
NO_IMAGE = -1
FIELDS: dict[str, type[np.generic]] = {
    "labels": np.int64, "sizes": np.int32, "crc32": np.uint32, "widths": np.int32, "heights": np.int32,
}  # fmt: skip


@dataclass
class Verified:
    """What the first pass found, one row per entry of the source.

    Attributes:
        arrays: by the names of `FIELDS`: label (or `NO_IMAGE`), size in bytes (0 for a bad image), CRC-32,
            width and height in pixels of what goes into the data set.
        causes: why an entry is bad.
    """

    arrays: dict[str, NDArray[np.generic]]
    causes: dict[int, str] = field(default_factory=dict)

    @classmethod
    def blank(cls, count: int) -> "Verified":
        return cls({name: np.zeros(count, dtype) for name, dtype in FIELDS.items()})

    def __len__(self) -> int:
        return len(self.arrays["labels"])

    def put(self, start: int, part: "Verified") -> None:
        """Set the rows from `start` on."""
        for name, array in self.arrays.items():
            array[start : start + len(part)] = part.arrays[name]
        self.causes |= {start + row: cause for row, cause in part.causes.items()}

    def part(self, start: int, end: int) -> "Verified":
        """The rows ``[start, end)``, counted from 0."""
        arrays = {name: array[start:end] for name, array in self.arrays.items()}
        return Verified(arrays, {row - start: cause for row, cause in self.causes.items() if start <= row < end})
