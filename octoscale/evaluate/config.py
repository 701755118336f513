"""What is evaluated, when, and at which operating points."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from octoscale.settings import Settings

Mode = Literal["cross", "same"]


class EvaluateConfig(Settings):
    """Settings of a face verification."""

    # LFW-form list of pairs, and the folder that holds NAME/NAME_0001.jpg. Paths or URLs.
    pairs: str
    images: str
    # In pixels, ascending. The images' own size means no degradation.
    resolutions: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (7, 14, 28, 56, 112)
    # cross: the second image of each pair is degraded; same: both are.
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("cross", "same")
    # None: only before and after the training.
    every_steps: PositiveInt | None = None
    # Images per forward pass; it does not change the result.
    batch_size: PositiveInt = 128
    # False accept rates at which the true accept rate is reported, descending.
    far: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (1e-1, 1e-2, 1e-3)

    @field_validator("resolutions")
    @classmethod
    def _ascending(cls, resolutions: tuple[int, ...]) -> tuple[int, ...]:
        if any(left >= right for left, right in pairwise(resolutions)):
            raise ValueError(f"resolutions must ascend without repeats, not {list(resolutions)}")
        return resolutions

    @field_validator("far")
    @classmethod
    def _descending(cls, far: tuple[float, ...]) -> tuple[float, ...]:
        if any(left <= right for left, right in pairwise(far)):
            raise ValueError(f"far must descend without repeats, not {list(far)}")
        return far

    @field_validator("modes")
    @classmethod
    def _distinct(cls, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        if len(set(modes)) < len(modes):
            raise ValueError(f"modes must not repeat, not {list(modes)}")
        return modes
