"""1:N identification: who of a gallery a probe shows, and whether anybody."""

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.curves import fewest_impostors
from octoscale.evaluate.embedding import Images, embed, evaluating
from octoscale.evaluate.protocols.gallery import Gallery

RANKS = (1, 5, 10, 20)
FPIR = (1e-1, 1e-2, 1e-3)
# Probes that are compared with the whole gallery at a time.
_BLOCK = 64


@dataclass(frozen=True)
class IdentificationScores:
    """All rates are fractions 0–1."""

    name: str
    step: int
    gallery: int  # images, with distractors
    distractors: int
    mated_probes: int  # whose identity is in the gallery
    non_mated_probes: int
    resolution: int | None  # to which the probes were degraded
    flip: bool
    rank: dict[int, float]  # mated probes with a mate among the first k of the gallery
    tpir_at_fpir: dict[float, float | None]  # None: too few non-mated probes for this false positive rate

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class Search:
    """What the search for each of p probes found."""

    mated: NDArray[np.bool_]  # [p]
    rank: NDArray[np.int64]  # [p] of the nearest mate, from 1; 0 without a mate
    distance: NDArray[np.float64]  # [p] to the nearest mate, or without a mate to the nearest of all


def search(probes: Tensor, gallery: Tensor, probe_identity: Tensor, gallery_identity: Tensor) -> Search:
    """Compare every probe with the whole gallery by cosine distance.

    A mate's rank is one more than the number of other people's images that are at most as far: ties count against it.

    Args:
        probes: float [p, dim].
        gallery: float [g, dim].
        probe_identity, gallery_identity: int64 [p] and [g].
    """
    probes, gallery = (nn.functional.normalize(rows.double(), dim=1) for rows in (probes, gallery))
    mated, ranks, nearest = [], [], []
    for rows in torch.arange(len(probes)).split(_BLOCK):
        distances = 1 - probes[rows] @ gallery.T
        mates = probe_identity[rows, None] == gallery_identity
        has_mate = mates.any(1)
        to_mate = distances.masked_fill(~mates, torch.inf).amin(1)
        before = ((distances <= to_mate[:, None]) & ~mates).sum(1)
        mated.append(has_mate)
        ranks.append(torch.where(has_mate, before + 1, 0))
        nearest.append(torch.where(has_mate, to_mate, distances.amin(1)))
    found = (torch.cat(part).cpu().numpy() for part in (mated, ranks, nearest))
    return Search(*found)


def identification_rates(
    found: Search, ranks: tuple[int, ...] = RANKS, fpir: tuple[float, ...] = FPIR
) -> tuple[dict[int, float], dict[float, float | None]]:
    """Rank-k rates, and TPIR at FPIR.

    FPIR(t) is the share of non-mated probes whose nearest gallery image is at most t away, TPIR(t) that of mated
    probes whose mate is first and at most t away. TPIR at FPIR x is the largest TPIR with FPIR ≤ x; with fewer than
    1/x non-mated probes it is not measurable.

    Raises:
        OctoscaleError: no probe has a mate, or a distance is not finite.
    """
    if not np.isfinite(found.distance).all():
        raise OctoscaleError(
            f"{np.count_nonzero(~np.isfinite(found.distance))} of {len(found.distance)} distances are not finite: the "
            "network gives NaN or infinite embeddings; look for damaged weights"
        )
    if not found.mated.any():
        raise OctoscaleError("no probe shows anybody of the gallery; compare the identities of both lists")
    rank = {k: float(np.mean(found.rank[found.mated] <= k)) for k in ranks}
    hits = found.distance[found.mated & (found.rank == 1)]
    others = np.sort(found.distance[~found.mated])
    tpir: dict[float, float | None] = {}
    for rate in fpir:
        allowed = int(rate * len(others) + 1e-6)
        measurable = len(others) >= fewest_impostors(rate)
        tpir[rate] = float(np.sum(hits < others[allowed]) / found.mated.sum()) if measurable else None
    return rank, tpir


def evaluate_identification(
    network: nn.Module,
    sets: Gallery,
    images: Images,
    world: World,
    *,
    resolution: int | None = None,
    flip: bool = False,
    batch_size: int = 128,
    step: int = 0,
    name: str = "",
) -> IdentificationScores:
    """Look every probe up in the gallery. Each image is embedded once per resolution, shared among the ranks.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`.
        images: of `sets.images`.
        resolution: the probes are degraded to it; None: they are as they are.

    Raises:
        OctoscaleError: an image is missing or damaged, embeddings are not finite, or no probe has a mate.
    """
    gallery_rows, probe_rows = torch.from_numpy(sets.gallery), torch.from_numpy(sets.probes)
    with evaluating(network):
        gallery = embed(network, images, gallery_rows, world, flip=flip, batch_size=batch_size)
        probes = embed(network, images, probe_rows, world, resolution=resolution, flip=flip, batch_size=batch_size)
    identities = (torch.from_numpy(sets.probe_identity), torch.from_numpy(sets.gallery_identity))
    found = search(*(part.to(world.device) for part in (probes, gallery, *identities)))
    rank, tpir = identification_rates(found)
    return IdentificationScores(
        name=name,
        step=step,
        gallery=len(sets.gallery),
        distractors=int((sets.gallery_identity < 0).sum()),
        mated_probes=int(found.mated.sum()),
        non_mated_probes=int((~found.mated).sum()),
        resolution=resolution,
        flip=flip,
        rank=rank,
        tpir_at_fpir=tpir,
    )
