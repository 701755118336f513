"""A small verification on made-up faces, and an evaluation of it."""

import numpy as np
import pytest
import torch

from octoscale.distributed.world import World
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import Evaluation, Verification
from octoscale.evaluate.protocols import Pairs
from octoscale.evaluate.protocols.pairs import balanced_folds, contiguous_folds
from octoscale.models import FaceNetwork, load


def made_up(*, folds: int = 10, identities: int = 10, size: int = 32, **settings: object) -> Verification:
    """Each identity has two images, a blurred pattern with noise; as many impostor pairs, in LFW's order.

    Odd images are always the second of a pair.
    """
    generator = torch.Generator().manual_seed(5)
    patterns = torch.rand(identities, 1, 3, size // 4, size // 4, generator=generator)
    patterns = patterns.repeat_interleave(4, 3).repeat_interleave(4, 4)
    noise = torch.rand(identities, 2, 3, size, size, generator=generator)
    images = (255 * (0.6 * patterns + 0.4 * noise)).to(torch.uint8).flatten(0, 1)

    even = np.arange(0, 2 * identities, 2)
    # [kind, folds, pairs of a fold, 2] ─▶ [folds, kind, pairs of a fold, 2]: genuine first in each fold
    kinds = np.stack([np.stack([even, even + 1], 1), np.stack([even, np.roll(even, 1) + 1], 1)])
    ordered = kinds.reshape(2, folds, -1, 2).swapaxes(0, 1)
    same = np.broadcast_to(np.array([True, False])[None, :, None], ordered.shape[:-1])
    first, second = ordered.reshape(-1, 2).T
    same = same.ravel()
    fold = contiguous_folds(len(same), folds) if folds > 1 else balanced_folds(same)
    names, where = (tuple(f"{kind}{row}" for row in range(2 * identities)) for kind in ("image ", "pair "))
    pairs = Pairs(names, first.copy(), second.copy(), same, fold, where)
    config = EvaluateConfig.model_validate({"pairs": "-", "images": "-", "resolutions": (4, 8, 32), **settings})
    return Verification(config, pairs, images)


@pytest.fixture
def verification() -> Verification:
    return made_up()


@pytest.fixture
def network() -> FaceNetwork:
    torch.manual_seed(11)
    return load("tiny", embedding_dim=16)


@pytest.fixture
def evaluation(verification: Verification, network: FaceNetwork) -> Evaluation:
    return verification.evaluate(network, World(), step=7, name="tiny")
