"""Weights of other projects are told by their keys, and become ours with what they need."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.models import Preprocessing, load, read_weights
from octoscale.models.dialects import PREPROCESSING, DialectName, recognise
from tests.unit.models import published

RGB = Preprocessing((127.5,) * 3, (127.5,) * 3, "rgb")
BGR = Preprocessing((127.5,) * 3, (127.5,) * 3, "bgr")
UNIT_BGR = Preprocessing((0.0,) * 3, (255.0,) * 3, "bgr")
FACEX = Preprocessing((127.5,) * 3, (128.0,) * 3, "bgr")
RAW = Preprocessing((0.0,) * 3, (1.0,) * 3, "rgb")

State = dict[str, Tensor]

# A network on no device keeps nothing of the file, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")


@dataclass(frozen=True)
class Case:
    """A file as a project writes it, and what must be told of it."""

    name: str
    file: Callable[[Path], Path]
    dialect: str
    network: str
    preprocessing: Preprocessing
    epsilon: float = 1e-5
    heads: int = 0


def plain(shapes: published.Shapes, prefix: str = "", **heads: Any) -> Callable[[Path], Path]:
    return lambda path: published.write(path, published.zeros(shapes, prefix) | published.zeros(heads))


def checkpoint(
    shapes: published.Shapes, prefix: str, inside: str = "state_dict", **more: Any
) -> Callable[[Path], Path]:
    """A training checkpoint: the state beside options, a numpy score and an optimizer's state."""
    heads = published.zeros({key: value for key, value in more.items() if isinstance(value, tuple)})
    return lambda path: published.write(
        path, published.zeros(shapes, prefix) | heads, inside=inside, epoch=25, best_acc=np.float64(0.998),
        hyper_parameters=Namespace(m=0.4), optimizer={"state": {}},
    )  # fmt: skip


CASES = [
    Case("arcface_torch", plain(published.iresnet(18)), "arcface_torch", "iresnet18", RGB),
    Case("arcface_torch r100", plain(published.iresnet(100)), "arcface_torch", "iresnet100", RGB),
    Case(
        "arcface_torch, saved with all states", checkpoint(published.iresnet(50), "", "state_dict_backbone"),
        "arcface_torch", "iresnet50", RGB,
    ),
    Case("arcface_torch mobile", plain(published.mbf()), "arcface_torch", "mbf", RGB),
    Case(
        "MagFace, DistributedDataParallel",
        checkpoint(published.iresnet(50), "features.module.", **{"parallel_fc.weight": (512, 1000)}),
        "magface", "iresnet50", UNIT_BGR, epsilon=2e-5, heads=1,
    ),
    Case(
        "MagFace, DataParallel",
        checkpoint(published.iresnet(18), "module.features.", **{"module.fc.weight": (512, 9)}),
        "magface", "iresnet18", UNIT_BGR, epsilon=2e-5, heads=1,
    ),
    Case(
        "MagFace, for inference", plain(published.iresnet(100), "features."), "magface", "iresnet100", UNIT_BGR,
        epsilon=2e-5,
    ),
    Case(
        "AdaFace, Lightning",
        checkpoint(published.ir(50), "model.", **{"head.kernel": (512, 1000), "head.t": (1,), "head.batch_mean": (1,)}),
        "adaface", "adaface_ir50", BGR, heads=3,
    ),
    Case("AdaFace R18", checkpoint(published.ir(18), "model."), "adaface", "adaface_ir18", BGR),
    Case("AdaFace R100", plain(published.ir(100), "model."), "adaface", "adaface_ir101", BGR),
    Case(
        "FaceX-Zoo MobileFaceNet",
        checkpoint(published.facex_mobilefacenet(), "backbone.", **{"head.weight": (512, 1000)}),
        "facex_zoo", "facex_mobilefacenet", FACEX, heads=1,
    ),
    Case("FaceX-Zoo ResNet", checkpoint(published.ir(50, facex=True), "backbone."), "facex_zoo", "facex_ir50", FACEX),
    Case(
        "FaceX-Zoo SE-ResNet", checkpoint(published.ir(100, facex=True, excited=True), "feat_net."), "facex_zoo",
        "facex_irse100", FACEX,
    ),
    Case(
        "Face-Transformer", plain(published.face_transformer(8), **{"loss.weight": (93431, 512)}),
        "face_transformer", "face_transformer_p8s8", RAW, heads=1,
    ),
    Case(
        "Face-Transformer, sliding", plain(published.face_transformer(12), "module."), "face_transformer",
        "face_transformer_p12s8", RAW,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_published_file_is_told_and_fits_the_network_that_it_names(case: Case, tmp_path: Path) -> None:
    path = case.file(tmp_path / "weights.pt")

    found = read_weights(path)

    assert (found.dialect, found.network, found.embedding_dim) == (case.dialect, case.network, 512)
    assert len(found.heads) == case.heads
    with torch.device("meta"):
        network = load(case.network, weights=path)
    assert (network.dialect, network.preprocessing) == (case.dialect, case.preprocessing)
    assert {norm.eps for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm2d)} <= {case.epsilon}
    # The class layer is nobody's parameter.
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_the_shared_mobilefacenet_is_told(real_data: Path) -> None:
    found = read_weights(real_data / "weights" / "mobilefacenet_112_128d.pt")
    assert (found.dialect, found.network, found.embedding_dim) == ("mobilefacenet", "mobilefacenet", 128)
    assert found.preprocessing == load("mobilefacenet").preprocessing


def test_every_tensor_arrives_under_its_own_name(tmp_path: Path) -> None:
    """FaceX-Zoo's MobileFaceNet, whose names become arcface_torch's: each tensor is told by its value."""
    shapes = published.facex_mobilefacenet(dim=8)
    state = {f"backbone.{key}": torch.full(shape, number) for number, (key, shape) in enumerate(shapes.items())}
    path = published.write(tmp_path / "weights.pt", state, inside="state_dict")

    ours = load("facex_mobilefacenet", weights=path, embedding_dim=8).backbone.state_dict()

    # In the order of the network's own definition, which both projects share but for the stages between blocks.
    order = ["conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep"]
    theirs = sorted(shapes, key=lambda key: next((i for i, o in enumerate(order) if key.startswith(f"{o}.")), 99))
    assert [float(value.flatten()[0]) for value in ours.values()] == [
        float(state[f"backbone.{key}"].flatten()[0]) for key in theirs
    ]


def test_a_magface_network_without_its_prefix_is_read_as_told(tmp_path: Path) -> None:
    path = published.write(tmp_path / "weights.pt", published.zeros(published.iresnet(18)))
    with torch.device("meta"):
        network = load("iresnet18", weights=path, dialect="magface")
    assert network.preprocessing == UNIT_BGR
    assert network.backbone.bn1.eps == 2e-5


@dataclass(frozen=True)
class Ambiguous:
    """A file without a prefix, and what each project that writes such files has trained its network with."""

    shapes: published.Shapes
    network: str
    dialects: dict[DialectName, Preprocessing]


IR: dict[DialectName, Preprocessing] = {"face_evolve": RGB, "insightface_pytorch": BGR, "facex_zoo": FACEX}
AMBIGUOUS = [
    Ambiguous(published.ir(50, facex=True), "facex_ir50", IR),
    Ambiguous(published.ir(50, facex=True, excited=True), "facex_irse50", IR),
    Ambiguous(published.facex_mobilefacenet(), "facex_mobilefacenet", IR),
    Ambiguous(published.ir(100), "adaface_ir101", {"adaface": BGR, "tface": RGB}),
]


@pytest.mark.parametrize("case", AMBIGUOUS, ids=lambda case: case.network)
def test_keys_of_projects_with_other_images_are_nobodys_until_a_dialect_is_named(
    case: Ambiguous, tmp_path: Path
) -> None:
    path = published.write(tmp_path / "weights.pt", published.zeros(case.shapes))
    found = read_weights(path)
    assert (found.dialect, found.network, found.candidates) == (None, case.network, tuple(case.dialects))
    with pytest.raises(OctoscaleError, match=r"could be of .*say whose they are: model\.dialect=") as refused:
        load(case.network, weights=path)
    for dialect, preprocessing in case.dialects.items():
        assert f"{dialect} ({preprocessing})" in str(refused.value)
        with torch.device("meta"):
            network = load(case.network, weights=path, dialect=dialect)
        assert (network.dialect, network.preprocessing) == (dialect, preprocessing)


def test_an_explicit_setting_wins_over_the_dialects(tmp_path: Path) -> None:
    path = published.write(tmp_path / "weights.pt", published.zeros(published.iresnet(18), "features."))
    with torch.device("meta"):
        network = load("iresnet18", weights=path, preprocessing=RAW, batch_norm_epsilon=1e-3)
    assert network.preprocessing == RAW
    assert network.backbone.layer1[0].bn1.eps == 1e-3


def test_a_dialect_that_the_file_is_not_is_refused(tmp_path: Path) -> None:
    path = published.write(tmp_path / "weights.pt", published.zeros(published.iresnet(18)))
    with pytest.raises(OctoscaleError, match=r"not adaface's: they begin with conv1\.weight"):
        load("adaface_ir18", weights=path, dialect="adaface")


def test_weights_of_another_network_say_whose_they_are(tmp_path: Path) -> None:
    path = published.write(tmp_path / "weights.pt", published.zeros(published.ir(50), "model."))
    with (
        torch.device("meta"),
        pytest.raises(OctoscaleError, match=r"do not fit IResNet: .*they are adaface_ir50's, with embedding_dim 512"),
    ):
        load("iresnet50", weights=path)


@pytest.mark.parametrize("prefix", ["", "features.module.", "encoder."])
def test_partly_matched_keys_are_an_error_that_lists_the_first(prefix: str, tmp_path: Path) -> None:
    shapes = published.iresnet(18)
    del shapes["layer2.0.bn1.weight"]
    state = published.zeros(shapes, prefix) | {"stray.weight": torch.zeros(1)}
    path = published.write(tmp_path / "weights.pt", state)
    missing = r"187 missing \(conv1.weight, " if prefix == "encoder." else r"1 missing \(layer2\.0\.bn1\.weight\)"
    with torch.device("meta"), pytest.raises(OctoscaleError, match=missing):
        load("iresnet18", weights=path)


def test_a_network_and_its_average_in_one_state_are_refused() -> None:
    state = {"conv.weight": torch.zeros(1), "module.conv.weight": torch.ones(1)}
    with pytest.raises(
        OctoscaleError, match=r"have conv\.weight and module\.conv\.weight, two tensors for conv\.weight"
    ):
        recognise(state)


def test_a_network_and_a_bare_copy_of_one_tensor_are_refused() -> None:
    state = published.zeros(published.ir(18), "model.") | {"output_layer.3.weight": torch.ones(1)}
    with pytest.raises(OctoscaleError, match=r"have model\.output_layer\.3\.weight and output_layer\.3\.weight, two"):
        recognise(state)


def test_unknown_keys_are_the_networks_own() -> None:
    state = {"stages.0.0.weight": torch.zeros(1)}
    found = recognise(state)
    assert (found.dialect, found.architecture, found.state) == (None, None, state)


def test_the_state_of_a_whole_face_network_is_its_backbones() -> None:
    assert set(recognise(load("tiny").state_dict()).state) == set(load("tiny").backbone.state_dict())


def test_every_dialect_has_its_preprocessing() -> None:
    assert set(PREPROCESSING) == set(get_args(DialectName))
