"""The block `checkpoint` of a run's configuration."""

from typing import Any, Literal

from pydantic import Field, model_validator

from octoscale.settings import Settings

EVERY_STEPS = 100


class CheckpointConfig(Settings):
    """Where, how often, and how many."""

    url: str | None = Field(None, description="any fsspec URL; by default `checkpoints` in the run's directory")
    every_steps: int | Literal["auto"] | None = Field(
        EVERY_STEPS, description="a number, or auto: from the cost of a commit and the run's failures"
    )
    every_seconds: float | None = Field(None, gt=0, description="instead of every_steps")
    asynchronous: bool = Field(True, description="write beside the training, which waits for a copy of its state alone")
    timeout_seconds: float = Field(600.0, gt=0, description="a rank whose share takes longer fails the commit")
    keep_last: int = Field(2, ge=1)
    keep_best: bool = Field(True, description="also keep the commit with the best evaluation")

    @model_validator(mode="before")
    @classmethod
    def _seconds_take_the_place_of_the_default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("every_seconds") is not None and "every_steps" not in values:
            return {**values, "every_steps": None}
        return values

    @model_validator(mode="after")
    def _one_interval(self) -> "CheckpointConfig":
        if (self.every_steps is None) == (self.every_seconds is None):
            raise ValueError("give every_steps (a number or auto) or every_seconds, one of the two")
        if isinstance(self.every_steps, int) and self.every_steps < 1:
            raise ValueError(f"every_steps is {self.every_steps}, and must be at least 1")
        return self
