"""Whether the values of an index can be true: a checksum only says that they are those of the manifest."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Rows looked at together: millions at once would take gigabytes.
_ROWS = 2**22
_BLOCK_BYTES = 2**24


def ranges_fault(
    shard_bytes: NDArray[np.int64],
    shard_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
) -> str:
    """Why the images cannot be where the arrays [images] say, in shards of `shard_bytes`; "" if they can."""
    for first in range(0, len(sizes), _ROWS):
        rows = slice(first, first + _ROWS)
        shards, starts, lengths = shard_ids[rows], offsets[rows], sizes[rows]
        known = (shards >= 0) & (shards < len(shard_bytes))
        if not known.all():
            row = int(np.argmin(known))
            return f"image {first + row} is in shard {shards[row]} of {len(shard_bytes)}"
        # The difference, for a sum could overflow.
        good = (starts >= 0) & (lengths > 0) & (lengths <= shard_bytes[shards] - np.maximum(starts, 0))
        if not good.all():
            row = int(np.argmin(good))
            return (
                f"image {first + row} is {lengths[row]} bytes from {starts[row]} on, in a shard of "
                f"{shard_bytes[shards[row]]} bytes"
            )
    return ""


def identities_fault(identity_offsets: NDArray[np.int64], images: int) -> str:
    """Why the identities cannot be ranges of all images; "" if they can."""
    if identity_offsets[0] != 0 or identity_offsets[-1] != images or not (np.diff(identity_offsets) > 0).all():
        return f"the identities' first rows do not rise from 0 to {images}"
    return ""


def lines_fault(path: Path, lines: int) -> str:
    """Why a text is not so many lines of UTF-8; "" if it is."""
    count, last = 0, b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            count += block.count(b"\n")
            last = block[-1:]
    if count != lines or last != b"\n":
        return f"{path.name} has {count} lines, not {lines}"
    return ""
