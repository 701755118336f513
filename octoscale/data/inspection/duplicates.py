"""Images that are in a data set more than once, byte by byte."""

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octoscale.data.inspection.view import View

_READERS = 16


@dataclass(frozen=True)
class Duplicates:
    """Groups of sample ids with the same bytes, sorted; `across` have more than one identity, `within` one."""

    within: tuple[tuple[int, ...], ...]
    across: tuple[tuple[int, ...], ...]


def find_duplicates(view: View) -> Duplicates:
    """All groups of equal images. Only images whose CRC-32 and size agree are read."""
    index = view.index
    groups: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    candidates = _candidates(index.crc32, index.sizes)

    def digest(sample_id: int) -> bytes:
        return hashlib.sha256(view.read(sample_id)).digest()

    with ThreadPoolExecutor(1 if view.store.is_local else _READERS) as pool:
        for sample_id, content in zip(candidates, pool.map(digest, candidates), strict=True):
            groups[int(index.sizes[sample_id]), content].append(sample_id)
    equal = sorted(tuple(group) for group in groups.values() if len(group) > 1)
    across = [len(np.unique(index.identity_of(np.array(group)))) > 1 for group in equal]
    return Duplicates(
        within=tuple(group for group, differ in zip(equal, across, strict=True) if not differ),
        across=tuple(group for group, differ in zip(equal, across, strict=True) if differ),
    )


def _candidates(crc32: NDArray[np.uint32], sizes: NDArray[np.int32]) -> list[int]:
    """Sample ids whose checksum and size another sample has too, ascending."""
    content = crc32.astype(np.uint64) << np.uint64(32) | sizes.astype(np.uint64)
    _, back, counts = np.unique(content, return_inverse=True, return_counts=True)
    found: list[int] = np.flatnonzero(counts[back] > 1).tolist()
    return found
