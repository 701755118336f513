"""What a file says about the network in it: how its images are prepared, and where it comes from."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from octoscale import __version__
from octoscale.errors import OctoscaleError
from octoscale.models.dialects import DialectName
from octoscale.models.network import FaceNetwork, Preprocessing

# Its name in every kind of file.
KEY = "octoscale"


class Card(BaseModel):
    """Written beside the tensors, as JSON.

    Attributes:
        network: its name, as `octoscale.models.load` takes it.
        dialect: whose weights it was made from; None: octoscale's own.
        mean, std, color: what the backbone's images are: (image − mean) / std on 0–255, channels in this order.
        batch_norm_epsilon: of all its BatchNorm layers; None where there is none, or they differ.
        embedding_dim: None: the network's own, or it is not known.
        image_size: pixels; None: any, or it is not known.
        octoscale: the version that wrote it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    network: str
    dialect: DialectName | None = None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color: Literal["rgb", "bgr"]
    batch_norm_epsilon: float | None = None
    embedding_dim: int | None = None
    image_size: int | None = None
    octoscale: str = __version__

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.mean, self.std, self.color)

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"))


def card_of(network: FaceNetwork, *, embedding_dim: int | None = None, image_size: int | None = None) -> Card:
    """The card of a network, to be written into a file."""
    prepared = network.preprocessing
    return Card(
        network=network.name,
        dialect=network.dialect,
        mean=prepared.mean,
        std=prepared.std,
        color=prepared.color,
        batch_norm_epsilon=batch_norm_epsilon(network),
        embedding_dim=embedding_dim or network.embedding_dim,
        image_size=image_size,
    )


def read_card(text: str, *, source: str) -> Card:
    """Raises OctoscaleError if `text`, found in `source`, is no card."""
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise OctoscaleError(f"what {source} says about its network makes no sense; write the file again") from error


def batch_norm_epsilon(network: nn.Module) -> float | None:
    """The epsilon of all BatchNorm layers; None where there is none, or they differ."""
    found = {module.eps for module in network.modules() if isinstance(module, _BatchNorm)}
    return found.pop() if len(found) == 1 else None
