"""A data set searched for mislabels with a network: embed every image once, then mine the planned batches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from octoscale.data.index import Index
from octoscale.data.plan import epoch_plan
from octoscale.data.reader import ImageReader
from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork
from octoscale.noise.ledger import Ledger, make_ledger
from octoscale.noise.suspects import find_suspects

# A mistake shows only where its two identities meet in a batch, so the default is large: half of the identities. All of
# them at once would make an epoch one batch, which leaves most images of large identities out.
_LARGEST_DEFAULT_BATCH = 8192
_EMBED_AT_ONCE = 256

# progress(stage, done, total)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Survey:
    """A ledger and how it came about.

    Attributes:
        batches: mined, of `global_batch_size` images each.
        meetings: how often two identities met in a batch, on average over all pairs of identities.
        stranger_distance: see `Suspects`.
    """

    ledger: Ledger
    global_batch_size: int
    epochs: int
    batches: int
    alpha: float
    anchors: int
    meetings: float
    stranger_distance: float


def survey(
    network: FaceNetwork,
    index: Index,
    reader: ImageReader,
    *,
    device: torch.device,
    global_batch_size: int | None = None,
    epochs: int = 10,
    alpha: float = 0.95,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Survey:
    """Search the data set of `index` for probable mislabels.

    Images are embedded as they are, without augmentation or degradation; the table of embeddings is kept in memory,
    4 · d bytes per image. Directions are compared, whatever the network was trained with: poor images have short
    embeddings, which in Euclidean distance are near to everyone.

    Args:
        network: on `device`; left in evaluation mode.
        global_batch_size: images per planned batch; None for half of the identities, at most 8,192 images.
        epochs: how many epochs to plan and mine; in each an image is an anchor at most once.
        alpha: a negative is suspicious when d(a,n) < alpha · d(a,p).
        seed: of the plan.

    Raises:
        OctoscaleError: an alpha outside (0, 1], a batch size that does not fit, a damaged image, or embeddings that
            are not finite.
    """
    if not 0 < alpha <= 1:
        raise OctoscaleError(f"alpha is {alpha}; it must be above 0 and at most 1, where every nearer negative counts")
    if global_batch_size is None:
        global_batch_size = min(max(4, index.identity_count // 2 * 2), _LARGEST_DEFAULT_BATCH)
    counts = index.images_per_identity
    # The first plan before the work: a batch size that does not fit is found out now.
    plans = [epoch_plan(counts, global_batch_size=global_batch_size, seed=seed, epoch=epoch) for epoch in range(epochs)]
    plan = np.concatenate(plans)
    embeddings = embed_all(network, reader, device, progress)
    identities = index.identity_of(np.arange(len(index)))
    suspects = find_suspects(
        torch.from_numpy(embeddings).to(device), identities, plan, alpha=alpha,
        progress=lambda done: progress("mine", done, len(plan)),
    )  # fmt: skip
    ledger = make_ledger(suspects, embeddings, np.asarray(index.identity_offsets))
    in_batch, in_all = global_batch_size // 2, index.identity_count
    return Survey(
        ledger, global_batch_size, epochs, len(plan), alpha, suspects.anchor_count,
        len(plan) * in_batch * (in_batch - 1) / (in_all * (in_all - 1)), suspects.stranger_distance,
    )  # fmt: skip


@torch.inference_mode()
def embed_all(
    network: FaceNetwork, reader: ImageReader, device: torch.device, progress: Progress
) -> NDArray[np.float32]:
    """Embeddings of all images of the data set, row = sample id: float32 [n, d], on the CPU."""
    network.eval()
    parts = []
    for start in range(0, len(reader), _EMBED_AT_ONCE):
        sample_ids = np.arange(start, min(start + _EMBED_AT_ONCE, len(reader)))
        parts.append(network(reader.__getitems__(sample_ids).to(device)).float().cpu())
        progress("embed", int(sample_ids[-1]) + 1, len(reader))
    return torch.cat(parts).numpy()
