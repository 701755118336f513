"""Networks that are whole in a file: TorchScript (.pt), torch.export (.pt2) and ONNX (.onnx, for evaluation)."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError, first_line
from octoscale.models import card
from octoscale.models.card import Card
from octoscale.models.exported_archive import refuse_code
from octoscale.models.graph_facts import CARD_FILE, graph_facts, square

SUFFIXES = (".pt", ".pt2", ".onnx")


class Graph(nn.Module):
    """A network as it was exported. Its batch norm is frozen and it drops nothing: train() changes nothing in it."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def train(self, mode: bool = True) -> "Graph":
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Any:
        return self.graph(images)


class OnnxNetwork(nn.Module):
    """An ONNX graph, run by onnxruntime on whatever devices that was built for. It has no gradients."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        runtime = _onnxruntime(path)
        self.session = runtime.InferenceSession(path, providers=runtime.get_available_providers())
        self.input = self.session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Any:
        found = self.session.run(None, {self.input: images.detach().cpu().contiguous().numpy()})
        outputs = [torch.from_numpy(output).to(images.device) for output in found]
        return outputs[0] if len(outputs) == 1 else outputs


def is_graph_file(name: str) -> bool:
    """Whether the name of a network is that of a file."""
    return name.endswith(SUFFIXES)


def holds_graph(path: Path) -> bool:
    """Whether a file is a whole network: its name says so, and of a .pt file its content.

    Raises:
        OctoscaleError: a damaged archive.
    """
    return is_graph_file(path.name) and (path.suffix != ".pt" or is_torchscript(path))


def is_torchscript(path: Path) -> bool:
    """Whether a .pt file is a graph and not a state_dict. Raises OctoscaleError for an archive that is damaged."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise OctoscaleError(f"{path} is a damaged archive ({error}); copy or write it again") from error


@dataclass(frozen=True)
class GraphFile:
    """A backbone, on the CPU; what octoscale wrote about it, if it wrote the file; its one image size, if so."""

    backbone: nn.Module
    card: Card | None
    image_size: int | None


def read_graph(path: str | Path) -> GraphFile:
    """The network in a file.

    Raises:
        OctoscaleError: no such file, it is no graph, a torch.export archive with more than plain tensors in it, weights
            of another precision than fp32, or the library that runs it is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise OctoscaleError(f"no file {path}; give the path of a local TorchScript, torch.export or ONNX file")
    read = {".pt": _read_torchscript, ".pt2": _read_exported, ".onnx": _read_onnx}[path.suffix]
    try:
        backbone, text, image_size = read(path)
    except OctoscaleError:
        raise
    except Exception as error:  # onnxruntime's and TorchScript's own kinds have no common base
        first = first_line(error)
        raise OctoscaleError(f"{path} is not a readable {path.suffix} graph ({first}); export it again") from error
    _check_precision(backbone, path)
    written = card.read_card(text, source=str(path)) if text else None
    return GraphFile(backbone, written, written.image_size if written is not None else image_size)


def _check_precision(backbone: nn.Module, path: Path) -> None:
    """Refuse what would fail at its first image, fp32, with an error of PyTorch's own."""
    for name, tensor in chain(backbone.named_parameters(), backbone.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise OctoscaleError(
                f"{path}: {name.removeprefix('graph.')} is {dtype}; a network is read in float32, and computes in "
                "less by `precision`: export it again after network.float()"
            )


def _read_torchscript(path: Path) -> tuple[nn.Module, str, int | None]:
    if not is_torchscript(path):
        raise OctoscaleError(
            f"{path} is not a TorchScript graph; for a state_dict give the network's name as model.name, and this file "
            "as model.weights"
        )
    extra = {CARD_FILE: ""}
    graph = torch.jit.load(path, map_location="cpu", _extra_files=extra)
    return Graph(graph.eval()), _text(extra), None


def _read_exported(path: Path) -> tuple[nn.Module, str, int | None]:
    extra: dict[str, Any] = {CARD_FILE: ""}
    refuse_code(path)
    program = torch.export.load(path, extra_files=extra)
    # Guards are code in the file.
    return Graph(program.module(check_guards=False)), _text(extra), graph_facts(path).image_size


def _read_onnx(path: Path) -> tuple[nn.Module, str, int | None]:
    network = OnnxNetwork(path)
    images, *others = network.session.get_inputs()
    shape: Sequence[Any] = images.shape
    if others or images.type != "tensor(float)" or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        takes = ", ".join(f"{each.type} {each.shape}" for each in (images, *others))
        raise OctoscaleError(
            f"{path} takes {takes}; it must take images alone, tensor(float) [n, 3, height, width]: export it so"
        )
    if isinstance(shape[0], int):
        raise OctoscaleError(f"{path} takes batches of {shape[0]} alone; export it with a dynamic batch size")
    return network, network.session.get_modelmeta().custom_metadata_map.get(card.KEY, ""), square(shape)


def _text(extra: dict[str, Any]) -> str:
    text = extra[CARD_FILE]
    return text.decode() if isinstance(text, bytes) else str(text)


def _onnxruntime(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise OctoscaleError(f"{path} needs onnxruntime: pip install 'octoscale[export]'") from error
    return onnxruntime
