"""A face network: a backbone with its preprocessing attached."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import field_validator
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models.batch_norm import mixes_images
from octoscale.settings import Settings

if TYPE_CHECKING:
    from octoscale.models.dialects import DialectName

# On a CPU a whole batch in one pass is bound by memory: its activations fit no cache, and each is a fresh mapping.
_CPU_SLICE = 16


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone expects: (image − mean) / std, on the 0–255 scale.

    Args:
        mean, std: per channel, in the backbone's own order of channels (`color`).
        color: the backbone's order of channels.

    Raises:
        OctoscaleError: a std is not positive.
    """

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    color: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if not all(std > 0 for std in self.std):
            raise OctoscaleError(f"preprocessing.std is {self.std}; each must be above 0, on the 0–255 scale")

    def __str__(self) -> str:
        """E.g. RGB, (x − 127.5) / 127.5."""
        mean, std = (f"{values[0]:g}" if len(set(values)) == 1 else str(values) for values in (self.mean, self.std))
        return f"{self.color.upper()}, (x − {mean}) / {std}"


class PreprocessingConfig(Settings):
    """The fields of a `Preprocessing` that are otherwise than the weights' or the network's own; None: as those."""

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    color: Literal["rgb", "bgr"] | None = None

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if std is not None:
            Preprocessing(std=std)
        return std

    @property
    def is_complete(self) -> bool:
        return None not in (self.mean, self.std, self.color)

    def over(self, own: Preprocessing) -> Preprocessing:
        return replace(own, **self.model_dump(exclude_none=True))


class FaceNetwork(nn.Module):
    """A backbone that takes images as they are stored.

    Args:
        backbone: maps preprocessed images, float [n, 3, h, w], to embeddings, float [n, d]; or to a pair, unit features
            [n, d] and their norms [n, 1], whose product is the embedding.
        preprocessing: what the backbone expects.
        name, dialect: what it is and whose weights it has, for the files that are made of it.
        image_size: the only one it takes, pixels; None: any, or the backbone looks after that itself.
        embedding_dim: the one that it was made with; None: its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str = "",
        dialect: "DialectName | None" = None,
        image_size: int | None = None,
        embedding_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.embedding_dim = embedding_dim
        self.name = name
        self.dialect = dialect
        self.backbone = backbone
        self.preprocessing = preprocessing
        # Of a slice of the images; `octoscale.models.compile_backbone` puts a compiled one in its place.
        self.embed_slice: Callable[[FaceNetwork, Tensor], Tensor] = FaceNetwork.plain
        # Not persistent: the state_dict holds what is learned, and nothing else.
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: uint8 or float [n, 3, h, w], RGB, 0–255.

        Returns:
            float [n, d], not normalised, in the network's own precision (fp32 under autocast too).

        Raises:
            OctoscaleError: `images` or the backbone's output has another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise OctoscaleError(f"images have shape {tuple(images.shape)}; give [n, 3, height, width], RGB, 0–255")
        size = self.image_size
        if size is not None and images.shape[2:] != (size, size):
            raise OctoscaleError(
                f"{self.name or 'the network'} takes {size}×{size} px images, got {tuple(images.shape)}; resize them"
            )
        if images.device.type == "cpu" and len(images) > _CPU_SLICE and not mixes_images(self):
            embeddings = torch.cat([self.embed_slice(self, part) for part in images.split(_CPU_SLICE)])
        else:
            embeddings = self.embed_slice(self, images)
        return embeddings.to(self.mean.dtype)

    def prepare(self, images: Tensor) -> Tensor:
        """What the backbone gets for `images`, [n, 3, h, w], RGB, 0–255: float, in its own order of channels."""
        if self.preprocessing.color == "bgr":
            images = images.flip(1)
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def plain(self, images: Tensor) -> Tensor:
        """As `forward`, of all the images at once, in whatever precision the backbone gives."""
        # Convolutions are faster on pixels whose channels lie side by side, on CPUs and on tensor cores.
        embeddings = joined(self.backbone(self.prepare(images).contiguous(memory_format=torch.channels_last)))
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != len(images):
            found = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
            raise OctoscaleError(
                f"the network gave {found} for {len(images)} images; it must give one tensor [n, embedding_dim], or a "
                "pair of unit features and norms [n, 1]"
            )
        return embeddings


def joined(output: Any) -> Any:
    """The product of a pair of unit features [n, d] and norms [n, 1]; anything else as it is."""
    if isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(part, Tensor) for part in output):
        unit, norms = output
        # Not len(): torch.export would take it for a constant.
        if unit.ndim == 2 and norms.numel() == unit.shape[0]:
            return unit * norms.view(-1, 1)
    return output
