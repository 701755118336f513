"""The loss's block of a run's configuration. Not imported by the loss itself, which needs torch alone."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from octoscale.loss.distance import Metric
from octoscale.loss.negatives import Negatives
from octoscale.settings import Settings


class LossConfig(Settings):
    """Arguments of `octuplet_loss`; defaults are the paper's."""

    margin: float = Field(25.0, ge=0)
    metric: Metric = "euclidean"
    normalize: bool = False
    terms: tuple[Literal["hhh", "hll", "lhh", "lll"], ...] = Field(("hhh", "hll", "lhh", "lll"), min_length=1)

    negatives: str = Field("hardest", description="which negative an anchor gets; the others survive label noise")

    @field_validator("negatives")
    @classmethod
    def _known(cls, negatives: str) -> str:
        Negatives.parse(negatives)
        return negatives

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "LossConfig":
        if self.metric == "cosine" and self.normalize:
            raise ValueError("the cosine distance does not depend on norms: leave loss.normalize out")
        return self

    @field_validator("terms")
    @classmethod
    def _distinct(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(terms)) < len(terms):
            raise ValueError(f"each term once, not {terms}")
        return terms
