"""The settings of the network to fine-tune."""

from pydantic import Field

from octoscale.models.batch_norm import BatchNormPolicy
from octoscale.models.network import Preprocessing
from octoscale.settings import Settings


class ModelConfig(Settings):
    """Which network, from which weights; see `octoscale.models.load`."""

    name: str
    weights: str | None = None
    embedding_dim: int | None = Field(default=None, gt=0)
    batch_norm: BatchNormPolicy = "frozen"
    preprocessing: Preprocessing | None = None
