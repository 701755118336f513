"""What is evaluated, when, and at which operating points."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, field_validator, model_validator

from octoscale.settings import Settings

Mode = Literal["cross", "same"]
# The form of a list of pairs; see octoscale.evaluate.protocols.
Protocol = Literal["lfw", "xqlfw", "calfw", "cplfw", "sllfw", "agedb_30", "cfp_ff", "cfp_fp", "csv", "bin"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class DataSet(Settings):
    """Pairs of faces to verify: a list in a published form, and the images that it names. Paths or URLs."""

    protocol: Protocol = "lfw"
    # The list; for CFP its folder Protocol, for bin a pack, which holds the images too.
    pairs: str
    # The folder that the list's names are relative to.
    images: str | None = None

    @model_validator(mode="after")
    def _images_where_they_are_needed(self) -> "DataSet":
        if self.protocol == "bin" and self.images is not None:
            raise ValueError(f"a pack (protocol bin) holds its images: leave images out, not {self.images}")
        if self.protocol != "bin" and self.images is None:
            raise ValueError(f"images is missing: the folder of the images that {self.pairs} names")
        return self


class EvaluateConfig(DataSet):
    """Settings of a face verification."""

    # In pixels, ascending. The images' own size means no degradation.
    resolutions: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (7, 14, 28, 56, 112)
    # cross: the second image of each pair is degraded; same: both are.
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("cross", "same")
    # Each image is embedded as it is and mirrored, and the embeddings are added.
    flip: bool = False
    # None: only before and after the training.
    every_steps: PositiveInt | None = None
    # Images per forward pass; it does not change the result.
    batch_size: PositiveInt = 128
    # False accept rates at which the true accept rate is reported, descending.
    far: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (
        1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6,
    )  # fmt: skip
    # Resamples of the pairs behind the 95 % confidence intervals; 0: no intervals.
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    # Further data sets, by name, for `octoscale evaluate --benchmark`.
    benchmarks: dict[Name, DataSet] = Field({})

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

    def on(self, data: DataSet) -> "EvaluateConfig":
        """The same evaluation of other pairs."""
        return type(self).model_validate({**self.model_dump(), **data.model_dump(), "benchmarks": {}})
