"""What the file of a whole network says about it. Nothing in the file runs: no graph is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from octoscale.errors import OctoscaleError
from octoscale.models import card as cards
from octoscale.models import exported_archive
from octoscale.models.archive import open_archive
from octoscale.models.card import Card

# Of the extra file in TorchScript and torch.export archives.
CARD_FILE = f"{cards.KEY}.json"


@dataclass(frozen=True)
class GraphFacts:
    """None where the file does not say it.

    Attributes:
        card: what octoscale wrote about the network, if it wrote the file.
        image_size: pixels of the square images it takes.
        embedding_dim: the length of an embedding.
        parameters: trained scalars.
        tensor_bytes: of all its tensors.
    """

    card: Card | None = None
    image_size: int | None = None
    embedding_dim: int | None = None
    parameters: int | None = None
    tensor_bytes: int | None = None


def graph_facts(path: Path) -> GraphFacts:
    """Raises OctoscaleError for a file that is no TorchScript, torch.export or ONNX graph, as its suffix says."""
    return {".pt": _torchscript, ".pt2": _exported, ".onnx": _onnx}[path.suffix](path)


def _torchscript(path: Path) -> GraphFacts:
    with open_archive(path) as archive:
        card = _card(archive.text(f"extra/{CARD_FILE}"), path)
        total = archive.bytes_under("data/") + archive.bytes_under("constants/")
    if card is None:
        return GraphFacts(tensor_bytes=total)
    return GraphFacts(card, card.image_size, card.embedding_dim, tensor_bytes=total)


def _exported(path: Path) -> GraphFacts:
    with open_archive(path) as archive:
        card = _card(archive.text(f"extra/{CARD_FILE}"), path)
        images, embeddings = exported_archive.shapes(archive)
        return GraphFacts(
            card,
            square(images),
            embeddings[-1],
            exported_archive.count_parameters(archive),
            archive.bytes_under("data/weights/weight_") + archive.bytes_under("data/constants/tensor_"),
        )


def _onnx(path: Path) -> GraphFacts:
    try:
        import onnx
    except ImportError as error:
        raise OctoscaleError(f"{path} needs onnx: pip install 'octoscale[export]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
        images, embeddings = (_dimensions(values[0]) for values in (model.graph.input, model.graph.output))
    except Exception as error:  # protobuf's and onnx's own kinds have no common base
        raise OctoscaleError(f"{path} is not a readable .onnx graph ({error}); export it again") from error
    text = next((entry.value for entry in model.metadata_props if entry.key == cards.KEY), None)
    sizes = [
        prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in model.graph.initializer
    ]
    return GraphFacts(
        _card(text, path), square(images), embeddings[-1] if embeddings else None, tensor_bytes=sum(sizes)
    )


def _dimensions(value: Any) -> list[int | None]:
    return [size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim]


def square(shape: Sequence[Any]) -> int | None:
    """The size of the images of a graph's argument, [n, 3, h, w]; None where any fits, or they are not square."""
    size = shape[3] if len(shape) == 4 else None
    return size if isinstance(size, int) and shape[2] == size else None


def _card(text: str | None, path: Path) -> Card | None:
    return cards.read_card(text, source=str(path)) if text else None
