"""The settings of the network to fine-tune."""

from typing import Literal

from pydantic import Field

from octoscale.models.network import Preprocessing
from octoscale.settings import Settings


class ModelConfig(Settings):
    """Which network, from which weights; see `octoscale.models.load`."""

    name: str
    weights: str | None = None
    embedding_dim: int | None = Field(default=None, gt=0)
    batch_norm: Literal["frozen", "train"] = "frozen"
    preprocessing: Preprocessing | None = None
