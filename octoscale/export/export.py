"""Write a network to a file, read it again, and compare: a file that gives other embeddings does not stay."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError, first_line
from octoscale.export.writers import record_exported, record_onnx, record_safetensors, record_torchscript
from octoscale.models import FaceNetwork, load
from octoscale.models.card import Card, card_of
from octoscale.models.graph_file import Graph, OnnxNetwork
from octoscale.models.network import joined
from octoscale.models.weights import load_weights

Form = Literal["onnx", "torchscript", "pt2", "safetensors"]
FORMS: tuple[Form, ...] = get_args(Form)
_SUFFIX: dict[Form, str] = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "safetensors": ".safetensors"}
_RECORD: dict[Form, Callable[[nn.Module, Tensor, Card], bytes]] = {
    "onnx": record_onnx,
    "torchscript": record_torchscript,
    "pt2": record_exported,
    "safetensors": record_safetensors,
}
# By which a file's numbers may differ from an embedding's; where none of these is above 1, as a part of the largest.
TOLERANCE = 1e-4
# Of the comparison: another than the batch the graph is recorded with.
_BATCHES = (1, 5)
_RECORDED_BATCH = 2


@dataclass(frozen=True)
class Exported:
    """A written file: what it says about itself, and the largest difference between its embeddings and ours.

    The difference is that of a number; of short embeddings, without a number above 1, in parts of the largest.
    """

    card: Card
    difference: float


def export(network: FaceNetwork, path: str | Path, form: Form, *, image_size: int) -> Exported:
    """Write `network` to `path`, whole and compared, or not at all.

    The file holds the backbone: images prepared as its card says, float [n, 3, image_size, image_size], in;
    embeddings, float [n, embedding_dim], out; any n. A file that exists is replaced.

    Args:
        network: stays as it is.
        path: a local file; ``.onnx``, ``.pt``, ``.pt2`` or ``.safetensors``, as `form` is.
        image_size: pixels.

    Raises:
        OctoscaleError: another suffix or image size, a network that cannot be recorded, a library that is not
            installed, a file that cannot be written, or one that gives other embeddings.
    """
    path = Path(path)
    if path.suffix != _SUFFIX[form]:
        raise OctoscaleError(f"a {form} file ends in {_SUFFIX[form]}, and {path} does not; give it another name")
    if isinstance(network.backbone, OnnxNetwork):
        raise OctoscaleError(f"{network.name} is an ONNX graph, which runs as it is; export what it was made of")
    if isinstance(network.backbone, Graph) and form == "safetensors":
        raise OctoscaleError(
            f"{network.name} is a whole graph, and a safetensors file holds weights for a network of that name; export "
            "what the graph was made of, or choose another form"
        )
    ours = copy.deepcopy(network).cpu().float().eval()
    images = torch.randint(
        256, (_RECORDED_BATCH, 3, image_size, image_size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    embedding_dim = _embedding_dim(ours, images)
    card = card_of(ours, embedding_dim=embedding_dim, image_size=image_size)
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        temporary.write_bytes(_record(ours, images, card, form))
        difference = max(_difference(ours, temporary, form, card, batch) for batch in _BATCHES)
        if not difference <= TOLERANCE:
            raise OctoscaleError(
                f"the {form} file gives embeddings that differ by up to {difference:.2g} from the network's, more than "
                f"{TOLERANCE:g}; it is not kept: try another form"
            )
        temporary.replace(path)
    except OSError as error:
        raise OctoscaleError(f"cannot write {path} ({error}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(card, difference)


def _embedding_dim(network: FaceNetwork, images: Tensor) -> int:
    try:
        with torch.no_grad():
            return int(network(images).shape[1])
    except OctoscaleError:
        raise
    except Exception as error:  # whatever code that is not ours raises
        size = images.shape[-1]
        raise OctoscaleError(
            f"{network.name or 'the network'} does not take images of {size}×{size} px ({first_line(error)}); give its "
            "own size as --image-size"
        ) from error


class _OneOutput(nn.Module):
    """A backbone that gives a pair, as one that gives embeddings: whoever runs the file need not know."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = joined(self.backbone(images))
        return embeddings


def _record(network: FaceNetwork, images: Tensor, card: Card, form: Form) -> bytes:
    try:
        with torch.no_grad():
            prepared = network.prepare(images)
            backbone = network.backbone
            if form != "safetensors" and not isinstance(backbone(prepared), Tensor):
                backbone = _OneOutput(backbone)
            return _RECORD[form](backbone, prepared, card)
    except OctoscaleError:
        raise
    except Exception as error:  # each exporter has its own kinds
        first = first_line(error)
        raise OctoscaleError(
            f"{card.network or 'the network'} cannot be recorded as {form} ({first}); try another form"
        ) from error


def _difference(network: FaceNetwork, path: Path, form: Form, card: Card, batch: int) -> float:
    """See `Exported`; over `batch` random images."""
    size = card.image_size
    assert size is not None
    images = torch.randint(
        256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(batch)
    )
    if form == "safetensors":
        theirs = copy.deepcopy(network)
        load_weights(theirs, path)
    else:
        try:
            theirs = load(str(path)).eval()
        except OctoscaleError as error:
            # The error itself names a file that is gone.
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise OctoscaleError(
                f"{card.network or 'the network'} cannot be recorded as {form}: the file cannot be read again "
                f"({first_line(cause)}); try another form"
            ) from error
    try:
        with torch.no_grad():
            ours = network(images)
            # Embeddings of 1e-5 differ by less than 1e-4 from anything as short.
            unit = ours.abs().max().clamp(torch.finfo(ours.dtype).tiny, 1)
            return float((theirs(images) - ours).abs().max() / unit)
    except Exception as error:
        first = first_line(error)
        raise OctoscaleError(
            f"the {form} file does not run with a batch of {batch} ({first}); it is not kept"
        ) from error
