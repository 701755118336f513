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
    compile: bool = False

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "ModelConfig":
        if self.dialect is not None and self.weights is None:
            raise ValueError(f"dialect is {self.dialect}, of weights, and there are none: leave it out")
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile and activation_checkpointing exclude each other: the compiler decides by itself what the "
                "backward pass computes again; set one of them to false"
            )
        if self.compile and self.batch_norm == "sync":
            raise ValueError(
                "compile and batch_norm=sync exclude each other: at each layer of it the ranks meet, and the compiler "
                "stops there; set compile to false, or batch_norm to frozen or chunk"
            )
        if is_graph_file(self.name):
            # Of these a graph has its own, or none.
            others = {
                "weights": self.weights, "embedding_dim": self.embedding_dim,
                "batch_norm_epsilon": self.batch_norm_epsilon, "batch_norm": self.batch_norm != "frozen",
                "activation_checkpointing": self.activation_checkpointing, "compile": self.compile,
            }  # fmt: skip
            given = [key for key, value in others.items() if value]
            if given:
                raise ValueError(
                    f"{self.name} is a whole network, trained as it was exported: leave model.{given[0]} out"
                )
        return self
