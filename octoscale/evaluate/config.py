"""What is evaluated, when, and at which operating points."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, overload

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from octoscale.settings import Settings

Mode = Literal["cross", "same"]
# The form of a list of pairs; see octoscale.evaluate.protocols.
Protocol = Literal["lfw", "xqlfw", "calfw", "cplfw", "sllfw", "agedb_30", "cfp_ff", "cfp_fp", "csv", "bin"]
TemplateProtocol = Literal["ijbb", "ijbc"]
GalleryProtocol = Literal["tinyface", "identification"]
TEMPLATES: tuple[str, ...] = get_args(TemplateProtocol)
GALLERIES: tuple[str, ...] = get_args(GalleryProtocol)
PROTOCOLS: tuple[str, ...] = (*get_args(Protocol), *TEMPLATES, *GALLERIES)
# What templates and galleries take of the block `evaluate`, those of them that they know.
SHARED = ("flip", "batch_size", "far", "bootstrap")
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


def _ascending(resolutions: tuple[int, ...]) -> tuple[int, ...]:
    if any(left >= right for left, right in pairwise(resolutions)):
        raise ValueError(f"resolutions must ascend without repeats, not {list(resolutions)}")
    return resolutions


def _descending(far: tuple[float, ...]) -> tuple[float, ...]:
    if any(left <= right for left, right in pairwise(far)):
        raise ValueError(f"far must descend without repeats, not {list(far)}")
    return far


# In pixels. The images' own size means no degradation.
Resolutions = Annotated[tuple[PositiveInt, ...], AfterValidator(_ascending)]
# False accept rates at which the true accept rate is reported.
Far = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1), AfterValidator(_descending)]
_FAR = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# Resamples of the pairs, or of a gallery's probes, behind the 95 % confidence intervals; 0: no intervals.
Bootstrap = Annotated[int, Field(ge=0)]
_RESAMPLES = 1000


class DataSet(Settings):
    """Pairs of faces to verify: a list in a published form, and the images that it names. Paths or URLs."""

    protocol: Protocol = "lfw"
    # The list; for CFP its folder Protocol, for bin a pack, which holds the images too.
    pairs: str
    # The folder that the list's names are relative to.
    images: str | None = None
    # To which they are degraded; none, of a benchmark: evaluate.resolutions.
    resolutions: Resolutions = ()

    @model_validator(mode="after")
    def _images_where_they_are_needed(self) -> "DataSet":
        if self.protocol == "bin" and self.images is not None:
            raise ValueError(f"a pack (protocol bin) holds its images: leave images out, not {self.images}")
        if self.protocol != "bin" and self.images is None:
            raise ValueError(f"images is missing: the folder of the images that {self.pairs} names")
        return self


class TemplateSet(Settings):
    """Templates, several images of a person each, to verify 1:1. Paths or URLs."""

    protocol: TemplateProtocol
    # The folder of the protocol's text files.
    pairs: str
    images: str
    # To which the images are degraded, one after the other; none: they are as they are.
    resolutions: Resolutions = ()
    # The images are loose crops, to be aligned by the protocol's landmarks.
    align: bool = False


class GallerySet(Settings):
    """Probes to look for in a gallery, 1:N. Paths or URLs."""

    protocol: GalleryProtocol
    # The table of images, identities and roles; for TinyFace the folder of its lists.
    pairs: str
    images: str
    # To which the probes are degraded, one after the other; none: they are as they are.
    resolutions: Resolutions = ()


AnySet = DataSet | TemplateSet | GallerySet


def _of_its_kind(values: Any) -> Any:
    """The block that the protocol asks for: of the three that fit somehow, the errors of one are told."""
    if not isinstance(values, Mapping):
        if isinstance(values, DataSet | TemplateSet | GallerySet):
            return values
        raise ValueError("a data set is a block with protocol, pairs and images")
    protocol = values.get("protocol", "lfw")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}, and must be one of {', '.join(PROTOCOLS)}")
    if "align" in values and protocol not in TEMPLATES:
        raise ValueError(
            f"align is for {' and '.join(TEMPLATES)}, not for {protocol}: give aligned crops, leave it out"
        )
    if protocol in TEMPLATES:
        return TemplateSet.model_validate(values)
    if protocol in GALLERIES:
        return GallerySet.model_validate(values)
    return DataSet.model_validate(values)


class TemplateConfig(TemplateSet):
    """Settings of a verification of templates; see `EvaluateConfig`."""

    flip: bool = False
    batch_size: PositiveInt = 128
    far: Far = _FAR
    bootstrap: Bootstrap = _RESAMPLES


class GalleryConfig(GallerySet):
    """Settings of an identification; see `EvaluateConfig`."""

    flip: bool = False
    batch_size: PositiveInt = 128
    bootstrap: Bootstrap = _RESAMPLES


class EvaluateConfig(DataSet):
    """Settings of a face verification."""

    resolutions: Annotated[Resolutions, Field(min_length=1)] = (7, 14, 28, 56, 112)
    # cross: the second image of each pair is degraded; same: both are.
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("cross", "same")
    # Each image is embedded as it is and mirrored, and the embeddings are added.
    flip: bool = False
    # Also before the first step. Not where what the run starts from is known, as from another run's start.
    at_start: bool = True
    # None: not during the training. After it always.
    every_steps: PositiveInt | None = None
    # Images per forward pass; it does not change the result.
    batch_size: PositiveInt = 128
    far: Far = _FAR
    bootstrap: Bootstrap = _RESAMPLES
    # Further data sets, by name, for `octoscale evaluate --benchmark`.
    benchmarks: dict[Name, Annotated[AnySet, BeforeValidator(_of_its_kind)]] = Field({})

    @field_validator("protocol", mode="before")
    @classmethod
    def _pairs(cls, protocol: Any) -> Any:
        if protocol in (*TEMPLATES, *GALLERIES):
            raise ValueError(
                f"a run is evaluated on pairs, not on {protocol}: name that set in evaluate.benchmarks, for "
                "octoscale evaluate --benchmark"
            )
        return protocol

    @model_validator(mode="after")
    def _two_names_for_two_evaluations(self) -> "EvaluateConfig":
        data = self.pair_benchmarks.get(self.protocol)
        if data is not None and data.resolutions:
            raise ValueError(
                f"benchmarks.{self.protocol} has resolutions of its own, and {self.protocol} is what evaluate.pairs "
                f"are called: give it another name, such as {self.protocol}_sizes"
            )
        return self

    @field_validator("modes")
    @classmethod
    def _distinct(cls, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        if len(set(modes)) < len(modes):
            raise ValueError(f"modes must not repeat, not {list(modes)}")
        return modes

    @property
    def pair_benchmarks(self) -> dict[str, DataSet]:
        """Those of `benchmarks` that are lists of pairs."""
        return {name: data for name, data in self.benchmarks.items() if isinstance(data, DataSet)}

    @overload
    def on(self, data: DataSet) -> "EvaluateConfig": ...
    @overload
    def on(self, data: TemplateSet) -> TemplateConfig: ...
    @overload
    def on(self, data: GallerySet) -> GalleryConfig: ...
    def on(self, data: AnySet) -> "AnyConfig":
        """The same evaluation of another data set: of other pairs all that they do not say themselves, else what suits
        the set."""
        mine, other = self.model_dump(), data.model_dump()
        if isinstance(data, DataSet):
            if not data.resolutions:
                del other["resolutions"]
            return type(self).model_validate({**mine, **other, "benchmarks": {}})
        kind = TemplateConfig if isinstance(data, TemplateSet) else GalleryConfig
        shared = {key: mine[key] for key in SHARED if key in kind.model_fields}
        return kind.model_validate({**shared, **other})


AnyConfig = EvaluateConfig | TemplateConfig | GalleryConfig
