"""1:N identification: who of a gallery a probe shows, and whether anybody."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from octoscale.data.storage import DEFAULT
from octoscale.data.storage_config import StorageConfig
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.evaluate.as_json import by_number, intervals_of, reading, scores_to_json
from octoscale.evaluate.confidence import roc_intervals, share_interval
from octoscale.evaluate.config import GalleryConfig
from octoscale.evaluate.curves import fewest_impostors
from octoscale.evaluate.embedding import Images, check_resolutions, embed, evaluating
from octoscale.evaluate.protocols.gallery import Gallery, read_roles, read_tinyface
from octoscale.evaluate.protocols.stored import StoredImages

RANKS = (1, 5, 10, 20)
FPIR = (1e-1, 1e-2, 1e-3)
# Probes that are compared with the whole gallery at a time.
_BLOCK = 64
# Of a distance. The last bits of a product depend on the place in it, and copies of an image are equally far.
_DECIMALS = 12


@dataclass(frozen=True)
class IdentificationScore:
    """At one resolution; all rates are fractions 0–1."""

    rank: dict[int, float]  # mated probes with a mate among the first k of the gallery
    tpir_at_fpir: dict[float, float | None]  # None: too few non-mated probes for this false positive rate
    # 95 %, by `identification_intervals`' names; empty where they were not asked for.
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float | None]:
        """What tables show, by column."""
        tpirs = {f"TPIR at FPIR {fpir:g}": tpir for fpir, tpir in self.tpir_at_fpir.items()}
        return {**{f"rank {k}": rate for k, rate in self.rank.items()}, **tpirs}

    @property
    def interval_of(self) -> dict[str, tuple[float, float]]:
        """The intervals of `rates`, by column."""
        names = (*(f"rank_{k}" for k in self.rank), *(f"tpir_at_fpir_{fpir:g}" for fpir in self.tpir_at_fpir))
        columns = dict(zip(names, self.rates, strict=True))
        return {columns[name]: interval for name, interval in self.intervals.items()}


@dataclass(frozen=True)
class IdentificationEvaluation:
    """The scores of one network at one moment."""

    kind: ClassVar = "identification"

    name: str
    step: int
    protocol: str
    gallery: int  # images, with distractors
    distractors: int
    mated_probes: int  # whose identity is in the gallery
    non_mated_probes: int
    flip: bool
    scores: dict[int | None, IdentificationScore]  # by the resolution of the probes; None: as they are

    @property
    def resolutions(self) -> tuple[int | None, ...]:
        return tuple(self.scores)

    def to_json(self) -> str:
        return scores_to_json(self.kind, self, self.scores)

    @classmethod
    def from_json(cls, text: str) -> "IdentificationEvaluation":
        """The inverse of `to_json`.

        Raises:
            OctoscaleError: not an evaluation of a gallery.
        """
        with reading(cls.kind, text) as values:
            scores = {score.pop("resolution"): _score(score) for score in values.pop("scores")}
            return cls(**values, scores=scores)


def _score(values: Mapping[str, Any]) -> IdentificationScore:
    rank, tpirs = by_number(values["rank"], int), by_number(values["tpir_at_fpir"], float)
    return IdentificationScore(**{**values, "rank": rank, "tpir_at_fpir": tpirs, "intervals": intervals_of(values)})


@dataclass(frozen=True)
class Identification:
    """A gallery and its probes, read once; their images are read whenever they are evaluated."""

    config: GalleryConfig
    sets: Gallery
    images: Images

    @classmethod
    def load(cls, config: GalleryConfig, storage: StorageConfig = DEFAULT) -> "Identification":
        """Read what `config` names, reached by `storage`.

        Raises:
            OctoscaleError: a file is missing or malformed, or a resolution is larger than the images.
        """
        if config.protocol == "tinyface":
            sets = read_tinyface(config.pairs, config.images, storage)
        else:
            sets = read_roles(config.pairs, storage)
        images = StoredImages.named(sets.images, config.images, storage=storage)
        check_resolutions(config.resolutions, images, "resolutions")
        return cls(config, sets, images)

    @property
    def passes(self) -> int:
        """Images that go through the network, by all ranks: the gallery's once, the probes once per resolution."""
        probes = len(self.sets.probes) * max(1, len(self.config.resolutions))
        return (len(self.sets.gallery) + probes) * (2 if self.config.flip else 1)

    def evaluate(self, network: nn.Module, world: World, *, step: int = 0, name: str = "") -> IdentificationEvaluation:
        """See `evaluate_identification`."""
        return evaluate_identification(network, self.sets, self.images, self.config, world, step=step, name=name)


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

    Raises:
        OctoscaleError: an embedding is not finite; a distractor's too, which would be before nobody.
    """
    for kind, rows in (("probes", probes), ("gallery", gallery)):
        if broken := int((~rows.isfinite().all(1)).sum()):
            raise OctoscaleError(
                f"{broken} of {len(rows)} embeddings of the {kind} are not finite: the network gives NaN or infinity; "
                "look for damaged weights"
            )
    probes, gallery = (nn.functional.normalize(rows.double(), dim=1) for rows in (probes, gallery))
    mated, ranks, nearest = [], [], []
    for rows in torch.arange(len(probes)).split(_BLOCK):
        distances = (1 - probes[rows] @ gallery.T).round(decimals=_DECIMALS)
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
        OctoscaleError: no probe has a mate.
    """
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


def identification_intervals(
    found: Search, resamples: int, ranks: tuple[int, ...] = RANKS, fpir: tuple[float, ...] = FPIR
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the rates of `identification_rates`, by the bootstrap over the probes; the gallery stays.

    Args:
        resamples: of the probes with and of those without a mate, each as many as there are.

    Returns:
        By ``rank_1`` and ``tpir_at_fpir_0.1``, the measurable ones; empty without resamples.
    """
    if not resamples:
        return {}
    mates = int(found.mated.sum())
    rank, _ = identification_rates(found, ranks, ())
    intervals = {f"rank_{k}": share_interval(rate, mates, resamples) for k, rate in rank.items()}
    if not found.mated.all():
        # A mate that is not first is found at no threshold.
        distances = np.where(found.mated & (found.rank > 1), np.inf, found.distance)
        curve = roc_intervals(distances, found.mated, fpir, resamples)
        named = {f"tar_at_far_{rate:g}": f"tpir_at_fpir_{rate:g}" for rate in fpir}
        intervals |= {named[name]: interval for name, interval in curve.items() if name in named}
    return intervals


def evaluate_identification(
    network: nn.Module,
    sets: Gallery,
    images: Images,
    config: GalleryConfig,
    world: World,
    *,
    step: int = 0,
    name: str = "",
) -> IdentificationEvaluation:
    """Look every probe up in the gallery. The gallery is embedded once, the probes once per resolution.

    Args:
        network: uint8 [n, 3, size, size] -> embeddings [n, dim], on `world.device`.
        images: of `sets.images`.
        step, name: recorded.

    Raises:
        OctoscaleError: an image is missing or damaged, embeddings are not finite, or no probe has a mate.
    """
    gallery_rows, probe_rows = torch.from_numpy(sets.gallery), torch.from_numpy(sets.probes)
    identities = [torch.from_numpy(part).to(world.device) for part in (sets.probe_identity, sets.gallery_identity)]
    flip, batch_size = config.flip, config.batch_size
    scores = {}
    with evaluating(network):
        gallery = embed(network, images, gallery_rows, world, flip=flip, batch_size=batch_size).to(world.device)
        for resolution in config.resolutions or (None,):
            probes = embed(network, images, probe_rows, world, resolution=resolution, flip=flip, batch_size=batch_size)
            found = search(probes.to(world.device), gallery, *identities)
            intervals = identification_intervals(found, config.bootstrap)
            scores[resolution] = IdentificationScore(*identification_rates(found), intervals)
    return IdentificationEvaluation(
        name=name,
        step=step,
        protocol=config.protocol,
        gallery=len(sets.gallery),
        distractors=int((sets.gallery_identity < 0).sum()),
        mated_probes=int(found.mated.sum()),
        non_mated_probes=int((~found.mated).sum()),
        flip=config.flip,
        scores=scores,
    )
