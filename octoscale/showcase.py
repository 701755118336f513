"""Octuplets of the run's own data, mined as the loss mines them."""

from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from octoscale.config import Config
from octoscale.degrade import degrade
from octoscale.evaluate.octuplet_figure import ShownOctuplet, draw_octuplet
from octoscale.feed import open_data, planner_of
from octoscale.loss import TERMS, octuplet
from octoscale.loss.distance import distance_and_slope, project
from octoscale.models import FaceNetwork
from octoscale.step import draw_resolutions


def draw_an_octuplet(network: FaceNetwork, config: Config, path: Path) -> None:
    """Mine the run's first global batch with `network` and draw the anchor whose negatives differ most."""
    (shown,) = mine_octuplets(network, config, count=1)
    draw_octuplet(shown, path)


def mine_octuplets(
    network: FaceNetwork, config: Config, *, count: int, most_images: int | None = None
) -> list[ShownOctuplet]:
    """Octuplets of the run's first global batch, those whose negatives differ most first, one of each identity.

    All four terms are shown, whichever of them the run trains on. `network` is left in evaluation mode.

    Args:
        count: at most so many.
        most_images: mine among the first so many images of the batch, an even number; None: among all.
    """
    data = open_data(config)
    index = data.index
    with closing(planner_of(config, index)) as planner:
        sample_ids = planner.epoch(0)[0][:most_images].astype(np.int64)
    high = data.reader.__getitems__(sample_ids)
    resolutions = draw_resolutions(config.degrade.resolutions, seed=config.seed, epoch=0, sample_ids=sample_ids)
    low = degrade(high, resolutions)

    loss = config.loss
    network.eval()
    with torch.inference_mode():
        embeddings = dict(zip(("high", "low"), network(torch.cat([high, low])).chunk(2), strict=True))
    identities = torch.from_numpy(index.identity_of(sample_ids))
    found = octuplet(
        **embeddings, identities=identities, margin=loss.margin, metric=loss.metric, normalize=loss.normalize
    )
    triplets = {term: result.triplets for term, result in found.terms.items()}
    negatives = torch.stack([triplets[term].negatives for term in TERMS], 1)
    vectors = {kind: project(rows, metric=loss.metric, normalize=loss.normalize) for kind, rows in embeddings.items()}

    def shown(anchor: int) -> ShownOctuplet:
        positive = int(triplets["hhh"].positives[anchor])
        distances = {}
        for term, (anchor_kind, other_kind) in TERMS.items():
            others = vectors[other_kind][[positive, int(triplets[term].negatives[anchor])]]
            near, far = distance_and_slope(vectors[anchor_kind][anchor] - others, metric=loss.metric)[0].tolist()
            distances[term] = (near, far)
        chosen = {term: int(triplets[term].negatives[anchor]) for term in TERMS}
        return ShownOctuplet(high, low, anchor, positive, chosen, distances)

    # Every image is an anchor in each term: the plan gives each identity two, side by side.
    anchors = sorted(range(len(high)), key=lambda row: -len(set(negatives[row].tolist())))
    by_identity = {anchor // 2: anchor for anchor in reversed(anchors)}
    firsts = sorted(by_identity.values(), key=anchors.index)
    return [shown(anchor) for anchor in firsts[:count]]
