"""Data sets of which only the shape is known: how many images each identity has, and in which shard they are."""

import numpy as np
from numpy.typing import NDArray

IMAGES_PER_SHARD = 2_600
RUN_LENGTH = 8

MS1M = (5_822_653, 85_742)
WEBFACE42M = (42_474_558, 2_059_906)


def long_tailed_counts(images: int, identities: int) -> NDArray[np.int64]:
    """int64 [identities], the images of each; at least 2, `images` in all."""
    rng = np.random.default_rng(0)
    weights = rng.lognormal(0, 0.7, identities)
    counts: NDArray[np.int64] = 2 + rng.multinomial(images - 2 * identities, weights / weights.sum())
    return counts


def striped_shards(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 [images], the shard of each: runs of an identity, the last one merged, shuffled over the shards."""
    runs_of = np.maximum(1, counts // RUN_LENGTH)
    runs = int(runs_of.sum())
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    run = np.minimum(within // RUN_LENGTH, np.repeat(runs_of - 1, counts))
    run += np.repeat(np.cumsum(runs_of) - runs_of, counts)
    sizes = np.bincount(run)
    shuffled = np.random.default_rng(1).permutation(runs)
    shard_of_run = np.empty(runs, np.int32)
    shard_of_run[shuffled] = (np.cumsum(sizes[shuffled]) - sizes[shuffled]) // IMAGES_PER_SHARD
    shard_ids: NDArray[np.int32] = shard_of_run[run]
    return shard_ids
