"""Augmentation: per sample, seeded, and off when it says so."""

import numpy as np
import torch

from octoscale.augment import AugmentConfig, augment

IMAGES = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IDS = np.arange(64)
ALL = AugmentConfig(flip_probability=0.5, brightness=0.2, saturation=0.3)
NONE = AugmentConfig(flip_probability=0, brightness=0, saturation=0)


def run(config: AugmentConfig, ids: np.ndarray = IDS, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return augment(IMAGES[ids], config, seed=seed, epoch=epoch, sample_ids=ids)


def test_zero_strength_changes_nothing() -> None:
    assert torch.equal(run(NONE), IMAGES)


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    ids = np.array([40, 3, 17])
    assert torch.equal(run(ALL, ids), run(ALL)[ids])


def test_seed_and_epoch_change_the_draw() -> None:
    assert not torch.equal(run(ALL), run(ALL, seed=1))
    assert not torch.equal(run(ALL), run(ALL, epoch=1))


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    flipped = run(AugmentConfig(flip_probability=0.5, brightness=0))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, IMAGES, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    # 64 draws at 0.5: 16…48 is 4 standard deviations.
    assert 16 <= sum(mirrored) <= 48


def test_brightness_scales_all_levels_of_an_image_by_one_factor() -> None:
    bright = run(AugmentConfig(flip_probability=0, brightness=0.2)).double()
    for before, after in zip(IMAGES.double(), bright, strict=True):
        usable = (before > 100) & (after < 255)
        factors = after[usable] / before[usable]
        # Rounding to a level moves a factor by at most 0.5 / 100.
        assert float(factors.max() - factors.min()) <= 0.01
        assert 0.79 < float(factors.mean()) < 1.21


def test_saturation_keeps_grey_images_grey() -> None:
    grey = IMAGES[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(augment(grey, AugmentConfig(flip_probability=0, brightness=0, saturation=0.5),
                               seed=0, epoch=0, sample_ids=IDS), grey)  # fmt: skip
