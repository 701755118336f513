"""One function per kind of file: a backbone, its card beside it, as bytes. Each imports what it needs.

PyTorch ends the process where it writes to a disk that is full, so that no file is written here.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models import card as cards
from octoscale.models.card import Card
from octoscale.models.graph_facts import CARD_FILE

_INPUT, _OUTPUT = "images", "embeddings"


def record_onnx(backbone: nn.Module, images: Tensor, card: Card) -> bytes:
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
    return bytes(model.SerializeToString())


def record_torchscript(backbone: nn.Module, images: Tensor, card: Card) -> bytes:
    """`images`: prepared, float [n, 3, size, size]."""
    file = io.BytesIO()
    with _quietly():
        graph = torch.jit.trace(backbone, images, check_trace=False)
        torch.jit.save(graph, file, _extra_files={CARD_FILE: card.to_json()})
    return file.getvalue()


def record_exported(backbone: nn.Module, images: Tensor, card: Card) -> bytes:
    """`images`: prepared, float [n, 3, size, size]."""
    file = io.BytesIO()
    with _quietly():
        program = torch.export.export(backbone, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, file, extra_files={CARD_FILE: card.to_json()})
    return file.getvalue()


def record_safetensors(backbone: nn.Module, images: Tensor, card: Card) -> bytes:
    """The tensors alone, for `model.weights`."""
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise _missing(error) from error
    state = {key: value.detach().contiguous().clone() for key, value in backbone.state_dict().items()}
    return bytes(save(state, metadata=_properties(card)))


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
