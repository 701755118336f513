"""Embeddings as a good face network gives them, with mistakes that a test knows."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from octoscale.data.plan import epoch_plan
from octoscale.noise.ledger import Ledger, make_ledger
from octoscale.noise.suspects import Suspects, find_suspects


@dataclass(frozen=True)
class Drawn:
    """A data set of embeddings, rows sorted by label, and its planted mistakes.

    Attributes:
        misfiled: sample id of each misfiled image, and the label of its true identity.
        same_person: pairs of labels (a < b) that are one person.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    misfiled: dict[int, int]
    same_person: set[tuple[int, int]]

    @property
    def identity_offsets(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(np.bincount(self.labels))])

    @property
    def planted(self) -> set[tuple[int, int]]:
        """All pairs of labels between which there is a mistake."""
        misfiled = {(int(self.labels[sample_id]), label) for sample_id, label in self.misfiled.items()}
        return {(min(pair), max(pair)) for pair in misfiled} | self.same_person

    def suspects(self, *, batch: int, epochs: int, alpha: float = 0.95) -> Suspects:
        counts = np.bincount(self.labels)
        plan = np.concatenate(
            [epoch_plan(counts, global_batch_size=batch, seed=0, epoch=epoch) for epoch in range(epochs)]
        )
        return find_suspects(torch.from_numpy(self.embeddings), self.labels, plan, alpha=alpha)

    def ledger(self, *, batch: int, epochs: int, alpha: float = 0.95) -> Ledger:
        suspects = self.suspects(batch=batch, epochs=epochs, alpha=alpha)
        return make_ledger(suspects, self.embeddings, self.identity_offsets)


def draw(
    people: int = 120, images: int = 6, *, misfiled: int = 0, split: int = 0, poor: int = 0, seed: int = 0
) -> Drawn:
    """`people` with `images` each, in 64 dimensions; distances of 0.3 to 0.5 within a person, about 1 between people.

    Args:
        misfiled: this many images, each of another person, get a label of yet another person.
        split: this many people get a second label for half of their images.
        poor: this many images are far from everything, as profile views and blurred ones are. No mistakes.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 64))
    labels = np.repeat(np.arange(people), images)
    embeddings = centres[labels] + rng.uniform(0.5, 0.9, (len(labels), 1)) * rng.standard_normal((len(labels), 64))
    # Length says nothing about the person: poor images have short embeddings.
    embeddings *= rng.uniform(0.5, 2.0, (len(labels), 1))
    people_drawn = rng.permutation(people)
    sources, targets = people_drawn[:misfiled], people_drawn[misfiled : 2 * misfiled]
    to_split = people_drawn[2 * misfiled : 2 * misfiled + split]
    poor_people = people_drawn[2 * misfiled + split : 2 * misfiled + split + poor]
    embeddings[poor_people * images] = 0.5 * rng.standard_normal((poor, 64))

    truth = labels.copy()
    labels[sources * images] = targets
    same_person = set()
    for number, person in enumerate(to_split):
        labels[person * images : person * images + images // 2] = people + number
        same_person.add((int(person), people + number))
    order = np.argsort(labels, kind="stable")
    row_of = np.argsort(order)
    wrong = {int(row_of[person * images]): int(truth[person * images]) for person in sources}
    return Drawn(embeddings[order].astype(np.float32), labels[order], wrong, same_person)
