"""Which image goes to which place of which shard: pure functions of sizes and a seed."""

import numpy as np
from numpy.typing import NDArray

RUN_LENGTH = 8
_TAR_BLOCK_BYTES = 512
# The webdataset library writes the label before the image: its header, one block of it, and the image's header.
_BLOCKS_BEFORE_IMAGE = 3


def run_starts(identity_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """First row of every run: each identity is cut into runs of 8 rows; a shorter last run joins the one before."""
    runs = np.maximum(1, np.diff(identity_offsets) // RUN_LENGTH)
    # [0, 1, …] for the runs of each identity.
    number = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
    starts: NDArray[np.int64] = np.repeat(identity_offsets[:-1], runs) + RUN_LENGTH * number
    return starts


def assign_shards(
    identity_offsets: NDArray[np.int64], sizes: NDArray[np.int32], shard_bytes: int, seed: int
) -> list[NDArray[np.int64]]:
    """The rows of each shard: runs in random order, so that any few shards hold many identities.

    Args:
        sizes: int32 [n], bytes of each image.
        shard_bytes: a shard ends before the run that would make it larger.
    """
    starts = run_starts(identity_offsets)
    ends = np.append(starts[1:], len(sizes))
    run_bytes = np.add.reduceat(_record_bytes(sizes), starts)
    order = np.random.default_rng(seed).permutation(len(starts))
    cuts, filled = [0], 0
    for position, size in enumerate(run_bytes[order].tolist()):
        if position > cuts[-1] and filled + size > shard_bytes:
            cuts.append(position)
            filled = 0
        filled += size
    shards = np.split(order, cuts[1:])
    return [np.concatenate([np.arange(starts[run], ends[run]) for run in shard]) for shard in shards]


def image_offsets(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """int64 [n]: first byte of each image in a shard that holds images of these sizes, in this order."""
    ends = np.cumsum(_record_bytes(sizes))
    return ends - _record_bytes(sizes) + _BLOCKS_BEFORE_IMAGE * _TAR_BLOCK_BYTES


def _record_bytes(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """What an image and its label take in a tar file."""
    return _TAR_BLOCK_BYTES * (_BLOCKS_BEFORE_IMAGE - (-sizes.astype(np.int64) // _TAR_BLOCK_BYTES))
