"""Runs and shards, against a loop that says the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.pack.layout import assign_shards, image_offsets, run_starts

counts = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def runs_of(images: list[int]) -> list[list[int]]:
    """The specification: runs of 8, a shorter last one joins the one before."""
    runs, first = [], 0
    for count in images:
        rows = list(range(first, first + count))
        mine = [rows[start : start + 8] for start in range(0, count, 8)]
        if len(mine) > 1 and len(mine[-1]) < 8:
            last = mine.pop()
            mine[-1] += last
        runs += mine
        first += count
    return runs


@given(counts)
def test_identities_are_cut_into_runs_of_eight(images: list[int]) -> None:
    offsets = np.append(0, np.cumsum(images))

    assert run_starts(offsets).tolist() == [run[0] for run in runs_of(images)]


@given(counts, st.integers(1, 60_000), st.integers(0, 3))
def test_whole_runs_fill_shards_up_to_their_size(images: list[int], shard_bytes: int, seed: int) -> None:
    offsets = np.append(0, np.cumsum(images))
    sizes = np.random.default_rng(seed).integers(1, 5000, offsets[-1]).astype(np.int32)

    shards = assign_shards(offsets, sizes, shard_bytes, seed)

    runs = runs_of(images)
    expected: list[list[int]] = [[]]
    filled = 0
    for number in np.random.default_rng(seed).permutation(len(runs)):
        size = sum(512 * (3 + -(-int(sizes[row]) // 512)) for row in runs[number])
        if expected[-1] and filled + size > shard_bytes:
            expected.append([])
            filled = 0
        expected[-1] += runs[number]
        filled += size
    assert [shard.tolist() for shard in shards] == expected


def test_an_image_comes_after_its_label_and_two_headers() -> None:
    # 512 header and 512 of label, 512 header, then 512 of image; the next sample begins at 2048.
    assert image_offsets(np.array([1, 512, 513], np.int32)).tolist() == [1536, 2048 + 1536, 4096 + 1536]
