"""The settings of the network to fine-tune."""

from pydantic import Field, model_validator

from octoscale.models.batch_norm import BatchNormPolicy
from octoscale.models.dialects import DialectName
from octoscale.models.graph_file import is_graph_file
from octoscale.models.network import PreprocessingConfig
from octoscale.settings import Settings


class ModelConfig(Settings):
    """Which network, from which weights; see `octoscale.models.load`."""

    name: str
    weights: str | None = None
    dialect: DialectName | None = None
    embedding_dim: int | None = Field(default=None, gt=0)
    batch_norm: BatchNormPolicy = "frozen"
    batch_norm_epsilon: float | None = Field(default=None, gt=0)
    preprocessing: PreprocessingConfig | None = None
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "ModelConfig":
        if self.dialect is not None and self.weights is None:
            raise ValueError(f"dialect is {self.dialect}, of weights, and there are none: leave it out")
        if is_graph_file(self.name):
            given = [key for key in ("weights", "embedding_dim", "batch_norm_epsilon") if getattr(self, key)]
            if given or self.batch_norm != "frozen" or self.activation_checkpointing:
                keys = given or ["batch_norm" if self.batch_norm != "frozen" else "activation_checkpointing"]
                raise ValueError(
                    f"{self.name} is a whole network, trained as it was exported: leave model.{keys[0]} out"
                )
        return self
