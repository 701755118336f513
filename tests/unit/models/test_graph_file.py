"""Networks that are whole in a file: somebody else's, without octoscale's card."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.export import export
from octoscale.given import network_of_file
from octoscale.models import Preprocessing, load, save_weights, set_training
from octoscale.models.config import ModelConfig
from octoscale.models.inspection import inspect_file
from tests.unit.models.graphs import Small, write_graph


class _Pair(Small):
    """Gives a unit feature and its norm, as AdaFace's networks do."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        embeddings = super().forward(images)
        norms = embeddings.norm(dim=1, keepdim=True)
        return embeddings / norms, norms


@pytest.fixture(params=[".pt", ".pt2"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_graph_embeds_as_its_network_does(suffix: str, tmp_path: Path) -> None:
    network = Small().eval()
    found = load(str(write_graph(network, tmp_path / f"small{suffix}")))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert found.preprocessing == Preprocessing()
    torch.testing.assert_close(found(images), network((images.float() - 127.5) / 127.5))


def test_a_pair_of_feature_and_norm_is_multiplied(suffix: str, tmp_path: Path) -> None:
    network = _Pair().eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    expected = Small.forward(network, (images.float() - 127.5) / 127.5)
    torch.testing.assert_close(load(str(write_graph(network, tmp_path / f"pair{suffix}")))(images), expected)


def test_a_graph_is_trained_as_it_was_exported(suffix: str, tmp_path: Path) -> None:
    """Its weights get gradients; dropout stays off, and running statistics stay."""
    network = load(str(write_graph(Small().eval(), tmp_path / f"small{suffix}")))
    set_training(network, "frozen")
    before = {name: value.clone() for name, value in network.named_buffers()}
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    first = network(images)
    first.square().sum().backward()

    assert torch.equal(network(images), first)
    gradients = [parameter.grad for parameter in network.parameters()]
    assert len(gradients) == 6
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_images_of_another_size_than_the_graph_was_exported_for_are_named(tmp_path: Path) -> None:
    network = load(str(write_graph(Small().eval(), tmp_path / "small.pt2")))
    with pytest.raises(OctoscaleError, match=r"small\.pt2 takes 32×32 px images, got \(1, 3, 40, 32\); resize them"):
        network(torch.zeros(1, 3, 40, 32, dtype=torch.uint8))


def test_weights_of_a_graph_are_of_no_network_of_the_librarys(suffix: str, tmp_path: Path) -> None:
    network = load("tiny")
    export(network, tmp_path / f"tiny{suffix}", "torchscript" if suffix == ".pt" else "pt2", image_size=32)
    graph = load(str(tmp_path / f"tiny{suffix}"))
    assert graph.name == "tiny"

    save_weights(graph, tmp_path / "weights.pt")

    assert inspect_file(tmp_path / "weights.pt")["network"] is None
    with pytest.raises(OctoscaleError, match=r"weights\.pt does not say which network of octoscale's"):
        network_of_file(tmp_path / "weights.pt")


def test_a_graph_in_half_precision_is_refused_with_what_to_do(suffix: str, tmp_path: Path) -> None:
    path = write_graph(Small().eval().half(), tmp_path / f"small{suffix}")
    with pytest.raises(OctoscaleError, match=r"layers\.0\.weight is float16; .* export it again after network\.float"):
        load(str(path))


def test_a_state_dict_given_as_a_network_is_told_where_it_belongs(tmp_path: Path) -> None:
    torch.save(Small().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(OctoscaleError, match=r"not a TorchScript graph; .*model\.weights"):
        load(str(tmp_path / "weights.pt"))


@pytest.mark.parametrize("name", ["absent.pt", "absent.onnx"])
def test_an_absent_file_is_named(name: str) -> None:
    with pytest.raises(OctoscaleError, match=f"no file {name}"):
        load(name)


@pytest.mark.parametrize("name", ["damaged.pt2", "damaged.onnx"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    (tmp_path / name).write_bytes(b"no graph")
    with pytest.raises(OctoscaleError, match=f"{name} is not a readable"):
        load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("kind", "shape"), [("FLOAT16", ["n", 3, 32, 32]), ("FLOAT", ["n", 32, 32, 3]), ("FLOAT", ["n", 3072])]
)
def test_an_onnx_graph_that_takes_no_such_images_is_refused(kind: str, shape: list[Any], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    number = getattr(onnx.TensorProto, kind)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Flatten", ["x"], ["y"])],
        "flat",
        [onnx.helper.make_tensor_value_info("x", number, shape)],
        [onnx.helper.make_tensor_value_info("y", number, ["n", 3072])],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(OctoscaleError, match=r"other\.onnx takes tensor.*it must take images alone, tensor\(float\)"):
        load(str(tmp_path / "other.onnx"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("weights", "w.pt"), ("embedding_dim", 8), ("batch_norm", "chunk"), ("batch_norm_epsilon", 1e-3),
     ("activation_checkpointing", True)],
)  # fmt: skip
def test_a_setting_that_a_graph_would_ignore_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"face\.pt2 is a whole network.* leave model\.{setting} out"):
        ModelConfig.model_validate({"name": "face.pt2", setting: value})


@pytest.mark.parametrize(
    "given", [{"weights": "w.pt"}, {"dialect": "magface"}, {"embedding_dim": 8}, {"batch_norm_epsilon": 1e-3}], ids=str
)
def test_an_argument_that_a_graph_would_ignore_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OctoscaleError, match=f"face.pt is a whole network, .* leave {next(iter(given))} out"):
        load("face.pt", **given)


def test_an_archive_with_a_damaged_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "face.pt"
    save_weights(load("tiny"), path)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x09"))
    for read in (network_of_file, inspect_file):
        with pytest.raises(OctoscaleError, match=r"face\.pt is a damaged archive \(.*\); copy or write it again"):
            read(path)
