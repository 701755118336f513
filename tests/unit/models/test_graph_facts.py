"""What can be told of a whole network's file that octoscale did not write, with nothing loaded."""

from pathlib import Path

import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.models.graph_facts import GraphFacts, graph_facts
from tests.unit.models.graphs import Small, write_graph

# Conv2d(3, 4, 3), BatchNorm2d(4), Linear(4, 5), and the statistics of BatchNorm with its counter.
PARAMETERS = 3 * 4 * 9 + 4 + 2 * 4 + 4 * 5 + 5
TENSOR_BYTES = 4 * (PARAMETERS + 2 * 4) + 8


def test_of_torch_export(tmp_path: Path) -> None:
    path = write_graph(Small().eval(), tmp_path / "small.pt2")
    assert graph_facts(path) == GraphFacts(
        image_size=32, embedding_dim=5, parameters=PARAMETERS, tensor_bytes=TENSOR_BYTES
    )


def test_of_torchscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph(Small().eval(), tmp_path / "small.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    assert graph_facts(path) == GraphFacts(tensor_bytes=TENSOR_BYTES)


def test_of_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kinds = onnx.TensorProto
    weights = onnx.helper.make_tensor("weights", kinds.FLOAT, [3 * 32 * 32, 5], bytes(4 * 3 * 32 * 32 * 5), raw=True)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "weights"], ["y"]),
        ],
        "small",
        [onnx.helper.make_tensor_value_info("x", kinds.FLOAT, ["n", 3, 32, 32])],
        [onnx.helper.make_tensor_value_info("y", kinds.FLOAT, ["n", 5])],
        [weights],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "small.onnx")
    assert graph_facts(tmp_path / "small.onnx") == GraphFacts(
        image_size=32, embedding_dim=5, tensor_bytes=4 * 3 * 32 * 32 * 5
    )


@pytest.mark.parametrize("name", ["damaged.pt", "damaged.pt2", "damaged.onnx"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnx")
    (tmp_path / name).write_bytes(b"no graph")
    with pytest.raises(OctoscaleError, match=f"{name} is not a readable"):
        graph_facts(tmp_path / name)
