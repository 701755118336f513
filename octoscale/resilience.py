"""What a run does about failures, and how long it waits before it believes in one: every timeout in one place."""

import re
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator

from octoscale.errors import OctoscaleError
from octoscale.settings import Settings

_WORKERS = re.compile(r"(\d+)(?:\.\.(\d+))?")


@dataclass(frozen=True)
class Workers:
    """How many ranks a run may have: from `minimum` to `maximum`, both included."""

    minimum: int
    maximum: int

    @property
    def elastic(self) -> bool:
        return self.minimum < self.maximum

    @classmethod
    def parse(cls, text: str) -> "Workers":
        """``4`` or ``2..8``. Raises ValueError."""
        match = _WORKERS.fullmatch(text.strip())
        if match is None:
            raise ValueError("give a number of workers, or MIN..MAX")
        minimum, maximum = int(match[1]), int(match[2] or match[1])
        if not 1 <= minimum <= maximum:
            raise ValueError("workers count from 1, and MIN..MAX from the smaller to the larger")
        return cls(minimum, maximum)


class ResilienceConfig(Settings):
    """How many workers, how often they are started again, and every timeout."""

    workers: str = Field("1", description="ranks under `octoscale launch`: N, or MIN..MAX for an elastic run")
    gpus: bool | None = Field(
        None, description="a GPU for each rank, true or false; by default where the cluster has some"
    )
    node_wait_seconds: float = Field(
        0.0, ge=0, description="how long `octoscale launch` waits for nodes that an autoscaler has yet to start"
    )
    max_failures: int = Field(10, ge=0, description="how often a failed worker group is started again")
    process_group_timeout_seconds: float = Field(
        600.0, gt=0, description="the longest wait for another rank in one exchange"
    )
    rendezvous_timeout_seconds: float = Field(
        120.0, ge=60, description="the longest wait for the others while a worker group starts: Ray does not try again"
    )
    hang_timeout_seconds: float = Field(
        20.0, ge=5, description="a worker whose process is silent for longer is taken for dead"
    )
    poll_seconds: float = Field(1.0, gt=0, description="how often Ray asks the workers how they are")
    group_start_timeout_seconds: float = Field(
        10.0, gt=0, description="how long Ray waits for the place of a worker group before it counts the nodes again"
    )
    shutdown_timeout_seconds: int = Field(
        3, ge=1, description="how long the workers of a failed group may take to leave"
    )
    resize_seconds: float = Field(30.0, gt=0, description="elastic: how often a healthy run looks for more workers")
    preemption_poll_seconds: float = Field(
        2.0, gt=0, description="how often Ray looks for nodes that are to be taken away"
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _a_number_is_a_text(cls, workers: object) -> object:
        return str(workers) if isinstance(workers, int) and not isinstance(workers, bool) else workers

    @field_validator("workers")
    @classmethod
    def _can_be_read(cls, workers: str) -> str:
        Workers.parse(workers)
        return workers

    @model_validator(mode="after")
    def _a_question_fits_into_the_patience(self) -> "ResilienceConfig":
        if self.hang_timeout_seconds <= self.poll_seconds:
            raise ValueError(
                f"hang_timeout_seconds is {self.hang_timeout_seconds:g}, not more than poll_seconds, "
                f"{self.poll_seconds:g}: every worker would be taken for dead"
            )
        return self

    @property
    def world(self) -> Workers:
        return Workers.parse(self.workers)


def possible_world_sizes(global_batch_size: int, workers: Workers) -> list[int]:
    """The world sizes within `workers` that give every rank whole pairs of the batch, ascending.

    Raises:
        OctoscaleError: there is none.
    """
    sizes = [size for size in range(workers.minimum, workers.maximum + 1) if global_batch_size % (2 * size) == 0]
    if not sizes:
        asked = f"{workers.minimum}..{workers.maximum}" if workers.elastic else str(workers.minimum)
        raise OctoscaleError(
            f"global_batch_size {global_batch_size} does not divide into whole pairs on {asked} ranks; "
            f"choose a multiple of {2 * workers.maximum}, or other workers"
        )
    return sizes
