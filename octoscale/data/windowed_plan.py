"""The plan for data larger than the disk: every batch comes from a moving window of shards."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octoscale.data.image_pool import ImagePool, order_of_picking
from octoscale.data.plan import pairs_per_batch, plan_generator
from octoscale.errors import OctoscaleError


def windowed_plan(
    identity_offsets: NDArray[np.int64],
    shard_ids: NDArray[np.int32],
    *,
    global_batch_size: int,
    seed: int,
    epoch: int,
    window_fraction: float,
) -> NDArray[np.int64]:
    """Draw every global batch of one epoch from a pool of images that takes in one shard after another.

    Shards are admitted in random order (`shard_order`). Before each batch the next ones are, while
    the pool holds less than `window_fraction` of all images or fewer than B/2 eligible identities.
    Identities are drawn from the pool by the rule of `epoch_plan`, with their unpicked images in the
    pool as weights. What a batch leaves of a shard stays in the pool, so no image is lost by the window.

    The two images of a drawn identity are its oldest ones in the pool, and any two, uniformly, among those of one
    shard or of the first window, which is admitted as a whole. This rids the pool of old shards sooner than a uniform
    choice and leaves the draw of identities as it is. With a `window_fraction` of 1 all images are of one age and the
    plan is distributed like that of `epoch_plan`.

    An identity's last image cannot be picked once all others are: it counts for the pool only while
    more images of the identity are to come.

    Args:
        identity_offsets: int64 [identities + 1], first row of each identity; a sample id is a row.
        shard_ids: int32 [n], the shard of each row.
        global_batch_size: B, images of one optimizer step over all ranks; even, at least 4.
        seed: the run's seed.
        epoch: from 0.
        window_fraction: images in the pool ÷ all images, above 0 and up to 1.

    Returns:
        int64 [batches, B], sample ids. Columns 2k and 2k + 1 are the two images of an identity;
        no identity is twice in a batch, no image twice in an epoch.

    Raises:
        OctoscaleError: an impossible batch size or window, or fewer than B/2 identities with two images.
    """
    check_window_fraction(window_fraction)
    pairs = pairs_per_batch(np.diff(identity_offsets), global_batch_size)
    rng = plan_generator(seed, epoch)
    images = len(shard_ids)
    shards = int(shard_ids.max()) + 1
    order_of_shards = shard_order(shards, seed=seed, epoch=epoch)
    ages = _ages(np.bincount(shard_ids, minlength=shards)[order_of_shards], window_fraction * images)
    age_of_shard = np.empty_like(ages)
    age_of_shard[order_of_shards] = ages

    order = order_of_picking(identity_offsets, rng, age_of_shard[shard_ids])
    positions, ends = _positions_by_age(age_of_shard[shard_ids[order]])
    pool = ImagePool(order, identity_offsets, rng)
    plan = np.empty((images // global_batch_size, global_batch_size), np.int64)
    batches = admitted = 0
    while True:
        while admitted < len(ends) and (pool.images < window_fraction * images or pool.eligible_identities < pairs):
            pool.admit(positions[ends[admitted - 1] if admitted else 0 : ends[admitted]])
            admitted += 1
        if pool.eligible_identities < pairs:
            return plan[:batches]
        plan[batches] = pool.draw(pairs)
        batches += 1


def shard_order(shards: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """int64 [shards], the order in which the windowed plan of (seed, epoch) admits them."""
    # A stream of its own: the order is known without the plan.
    return plan_generator(seed, epoch).spawn(1)[0].permutation(shards)


def check_window_fraction(window_fraction: float) -> None:
    """Refuse a part of all images that is none.

    Raises:
        OctoscaleError: not above 0 and up to 1.
    """
    if not 0 < window_fraction <= 1:
        raise OctoscaleError(
            f"window_fraction {window_fraction} must be above 0 and at most 1: it is the part of all images that is "
            "kept on a node's disk; 0.1 is a good start"
        )


def _ages(images_per_shard: NDArray[np.int64], window_images: float) -> NDArray[np.int32]:
    """int32 [shards], for shards in their order: 0 for those of the first window, then one more for each."""
    first_window = int(np.searchsorted(np.cumsum(images_per_shard), window_images)) + 1
    ages = np.zeros(len(images_per_shard), np.int32)
    ages[first_window:] = np.arange(1, len(ages) - first_window + 1)
    return ages


def _positions_by_age(ages: NDArray[np.signedinteger[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of each age, ascending, one age after another, and where each age ends."""
    ends = np.cumsum(np.bincount(ages))
    # NumPy's stable sort is a radix sort, several times faster, for 16 bits.
    narrow = ages.astype(np.uint16) if len(ends) <= 2**16 else ages
    return np.argsort(narrow, kind="stable"), ends
