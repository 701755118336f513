"""One function per kind of file: a backbone, its card beside it. Each imports what it needs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models import card as cards
from octoscale.models.card import Card
from octoscale.models.graph_facts import CARD_FILE

_INPUT, _OUTPUT = "images", "embeddings"


def write_onnx(backbone: nn.Module, images: Tensor, card: Card, path: Path) -> None:
    """`images`: prepared, float [n, 3, size, size]."""
    try:
        import onnx
        import onnxscript  # noqa: F401 (what torch.onnx writes with)
    except ImportError as error:
        raise _missing(error) from error
    with _quietly():
        program = torch.onnx.export(
            backbone, (images,), dynamo=True, verbose=False, input_names=[_INPUT], output_names=[_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, _properties(card))
    onnx.save(model, path)


def write_torchscript(backbone: nn.Module, images: Tensor, card: Card, path: Path) -> None:
    """`images`: prepared, float [n, 3, size, size]."""
    with _quietly():
        graph = torch.jit.trace(backbone, images, check_trace=False)
        torch.jit.save(graph, path, _extra_files={CARD_FILE: card.to_json()})


def write_exported(backbone: nn.Module, images: Tensor, card: Card, path: Path) -> None:
    """`images`: prepared, float [n, 3, size, size]."""
    with _quietly():
        program = torch.export.export(backbone, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path, extra_files={CARD_FILE: card.to_json()})


def write_safetensors(backbone: nn.Module, images: Tensor, card: Card, path: Path) -> None:
    """The tensors alone, for `model.weights`."""
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise _missing(error) from error
    state = {key: value.detach().contiguous().clone() for key, value in backbone.state_dict().items()}
    path.write_bytes(save(state, metadata=_properties(card)))


def _properties(card: Card) -> dict[str, str]:
    """The card, as one text for octoscale, and as one per line of it for people and other programs."""
    lines = {f"{cards.KEY}.{key}": str(value) for key, value in card.model_dump().items() if value is not None}
    return {cards.KEY: card.to_json(), **lines}


def _missing(error: ImportError) -> OctoscaleError:
    return OctoscaleError(f"this needs {error.name}: pip install 'octoscale[export]'")


@contextmanager
def _quietly() -> Iterator[Any]:
    """The exporters warn of their own internals, and of sizes that a graph keeps, which is meant."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
