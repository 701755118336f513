"""Which samples meet in which batch: a pure function of (images per identity, batch size, seed, epoch)."""

import numpy as np
from numpy.typing import NDArray

from octoscale.data.image_pool import ImagePool, order_of_picking, rows_dtype
from octoscale.errors import OctoscaleError


def epoch_plan(
    images_per_identity: NDArray[np.int64], *, global_batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Draw every global batch of one epoch.

    The rule of the paper (Knoche et al., FG 2023): the B/2 identities of a batch are drawn one
    after another without replacement, each with a probability proportional to its number of
    images not yet picked in this epoch (at least 2), as counted before the batch. Two of these
    images are picked, uniformly. The epoch ends when fewer than B/2 identities have two left.

    Args:
        images_per_identity: int64 [identities]; a sample id is a row of the index, sorted by identity.
        global_batch_size: B, images of one optimizer step over all ranks; even, at least 4.
        seed: the run's seed.
        epoch: from 0.

    Returns:
        int64 [batches, B], sample ids. Columns 2k and 2k + 1 are the two images of an identity;
        no identity is twice in a batch, no image twice in an epoch.

    Raises:
        OctoscaleError: an impossible batch size, or fewer than B/2 identities with two images.
    """
    counts = np.asarray(images_per_identity, np.int64)
    pairs = pairs_per_batch(counts, global_batch_size)
    rng = plan_generator(seed, epoch)
    identity_offsets = np.concatenate([[0], np.cumsum(counts)])
    images = int(identity_offsets[-1])
    pool = ImagePool(order_of_picking(identity_offsets, rng), identity_offsets, rng)
    pool.admit(np.arange(images, dtype=rows_dtype(images)))
    plan = np.empty((images // global_batch_size, global_batch_size), np.int64)
    batches = 0
    while pool.eligible_identities >= pairs:
        plan[batches] = pool.draw(pairs)
        batches += 1
    return plan[:batches]


def plan_generator(seed: int, epoch: int) -> np.random.Generator:
    """The random numbers of one epoch's plan; any integer is a seed."""
    return np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, epoch])


def rank_batch_size(global_batch_size: int, world_size: int) -> int:
    """The images of each rank in a global batch.

    Raises:
        OctoscaleError: the global batch does not divide into whole pairs on every rank.
    """
    if global_batch_size % (2 * world_size):
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} does not divide into whole pairs on {world_size} ranks; "
            f"choose a multiple of {2 * world_size}"
        )
    return global_batch_size // world_size


def rank_rows(plan: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """The contiguous part of every global batch that belongs to `rank`.

    Args:
        plan: int64 [..., B].

    Returns:
        int64 [..., B / world_size], a view.

    Raises:
        OctoscaleError: B does not divide into whole pairs on every rank.
    """
    size = rank_batch_size(plan.shape[-1], world_size)
    return plan[..., rank * size : (rank + 1) * size]


def pairs_per_batch(images_per_identity: NDArray[np.int64], global_batch_size: int) -> int:
    """The identities of a global batch.

    Raises:
        OctoscaleError: an impossible batch size, or fewer than B/2 identities with two images.
    """
    if global_batch_size < 4 or global_batch_size % 2:
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} must be even and at least 4: "
            "a batch holds two images each of two or more identities"
        )
    pairs = global_batch_size // 2
    eligible = int((images_per_identity >= 2).sum())
    if eligible < pairs:
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} needs {pairs} identities with two images, the data set has "
            f"{eligible}; choose a batch size of at most {2 * eligible}, or add identities"
        )
    return pairs
