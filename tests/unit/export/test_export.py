"""Files of a network, read again by octoscale and by the programs that they are for."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import octoscale
from octoscale.errors import OctoscaleError
from octoscale.export import FORMS, Exported, Form, export
from octoscale.models import FaceNetwork, Preprocessing, load
from octoscale.models.face_transformer import FaceTransformer

SUFFIX = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "safetensors": ".safetensors"}
NEEDS: dict[Form, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "safetensors": ("safetensors",)}
BGR = Preprocessing(mean=(10.0, 20.0, 30.0), std=(50.0, 60.0, 70.0), color="bgr")


def a_network() -> FaceNetwork:
    torch.manual_seed(0)
    network = load("tiny", embedding_dim=8, preprocessing=BGR, batch_norm_epsilon=1e-4)
    network(torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8))  # running statistics of its own
    return network.eval()


@pytest.fixture
def network() -> FaceNetwork:
    return a_network()


@dataclass(frozen=True)
class File:
    form: Form
    path: Path
    written: Exported


@pytest.fixture(scope="module", params=FORMS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> File:
    """Of `a_network`, once for all tests: the exporters are slow."""
    for library in NEEDS.get(request.param, ()):
        pytest.importorskip(library)
    path = tmp_path_factory.mktemp("exported") / f"face{SUFFIX[request.param]}"
    return File(request.param, path, export(a_network(), path, request.param, image_size=32))


def images(count: int, size: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_a_file_gives_the_networks_embeddings_for_any_batch(file: File, network: FaceNetwork) -> None:
    if file.form == "safetensors":
        again = load("tiny", embedding_dim=8, weights=file.path).eval()
    else:
        again = load(str(file.path)).eval()
    assert file.written.difference <= 1e-4
    assert again.preprocessing == BGR
    for count in (1, 7, 20):  # 20: in slices
        torch.testing.assert_close(again(images(count)), network(images(count)), rtol=0, atol=1e-4)
    assert [entry.name for entry in file.path.parent.iterdir()] == [file.path.name]


def test_a_file_says_how_images_are_prepared(file: File) -> None:
    assert json.loads(card_in(file.form, file.path)) == {
        "network": "tiny", "dialect": None, "mean": [10, 20, 30], "std": [50, 60, 70], "color": "bgr",
        "batch_norm_epsilon": 1e-4, "embedding_dim": 8, "image_size": 32, "octoscale": octoscale.__version__,
    }  # fmt: skip


def test_a_graph_says_which_images_it_takes(file: File) -> None:
    if file.form == "safetensors":
        pytest.skip("not a graph")
    with pytest.raises(OctoscaleError, match=r"tiny takes 32×32 px images, got \(1, 3, 40, 40\); resize them"):
        load(str(file.path))(images(1, size=40))


def test_a_graph_is_not_written_as_weights(network: FaceNetwork, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    export(network, tmp_path / "face.pt", "torchscript", image_size=32)
    with pytest.raises(OctoscaleError, match=r"tiny is a whole graph.*export what the graph was made of"):
        export(load(str(tmp_path / "face.pt")), tmp_path / "face.safetensors", "safetensors", image_size=32)
    assert not (tmp_path / "face.safetensors").exists()


@pytest.mark.parametrize("file", ["onnx"], indirect=True)
def test_an_onnx_network_is_not_exported_again(file: File, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="tiny is an ONNX graph"):
        export(load(str(file.path)), tmp_path / "again.pt", "torchscript", image_size=32)


# PyTorch would end the process.
FULL_DISK = """
import resource, signal, sys
from octoscale.errors import OctoscaleError
from octoscale.export import export
from octoscale.models import load

network = load("tiny")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for form, suffix in (("torchscript", ".pt"), ("pt2", ".pt2")):
    try:
        export(network, sys.argv[1] + "/face" + suffix, form, image_size=32)
    except OctoscaleError as error:
        print(error)
"""


def test_a_full_disk_is_an_error_that_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("cannot write") == 2
    assert "File too large" in ended.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["onnx"], indirect=True)
def test_the_program_that_it_is_for_runs_an_onnx_file(file: File, network: FaceNetwork) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    mean, std = (np.float32([[[value]] for value in values]) for values in (BGR.mean, BGR.std))
    prepared = (images(3).flip(1).numpy().astype(np.float32) - mean) / std
    (embeddings,) = session.run(["embeddings"], {"images": prepared})
    np.testing.assert_allclose(embeddings, network(images(3)).detach().numpy(), atol=1e-4)


def card_in(form: Form, path: Path) -> str:
    """As another program finds it."""
    if form == "onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}["octoscale"]
    if form == "safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            return str(file.metadata()["octoscale"])
    extra: dict[str, Any] = {"octoscale.json": ""}
    if form == "torchscript":
        torch.jit.load(path, _extra_files=extra)
        return extra["octoscale.json"].decode()
    torch.export.load(path, extra_files=extra)
    return str(extra["octoscale.json"])


def test_an_exported_network_with_attention_stays_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = FaceTransformer(12, 16, depth=1, heads=2, head_dim=8, hidden=16)
    network = FaceNetwork(backbone, Preprocessing(), name="mine").eval()
    for form in ("torchscript", "pt2"):
        export(network, tmp_path / f"face{SUFFIX[form]}", form, image_size=112)
    assert load(str(tmp_path / "face.pt")).name == "mine"


class _Pair(nn.Module):
    """As AdaFace's networks: a unit feature and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self.fc(x.mean(dim=(2, 3)))
        norms = embeddings.norm(dim=1, keepdim=True)
        return embeddings / norms, norms


@pytest.mark.parametrize("form", FORMS)
def test_a_network_that_gives_a_pair_is_exported_as_one_that_gives_embeddings(form: Form, tmp_path: Path) -> None:
    for library in NEEDS.get(form, ()):
        pytest.importorskip(library)
    network = FaceNetwork(_Pair(), Preprocessing()).eval()
    path = tmp_path / f"face{SUFFIX[form]}"
    export(network, path, form, image_size=8)
    if form == "safetensors":
        from safetensors.torch import load_file

        assert load_file(path).keys() == network.backbone.state_dict().keys()
        return
    given = load(str(path)).backbone(network.prepare(images(3, 8)))
    torch.testing.assert_close(given, network(images(3, 8)), rtol=0, atol=1e-4)


class _Counting(nn.Module):
    """Gives other embeddings each time: no file can give the same."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(x.mean(dim=(2, 3))) + float(self.calls)


def test_a_file_that_gives_other_embeddings_is_not_kept(tmp_path: Path) -> None:
    network = FaceNetwork(_Counting(), Preprocessing())
    with pytest.raises(OctoscaleError, match=r"differ by up to .*, more than 0\.0001"):
        export(network, tmp_path / "face.pt", "torchscript", image_size=8)
    assert not list(tmp_path.iterdir())


class _Scaled(nn.Module):
    """Other embeddings where it is recorded, if `sign` is −1."""

    def __init__(self, scale: float, sign: float) -> None:
        super().__init__()
        self.scale, self.sign = scale, sign

    def forward(self, x: Tensor) -> Tensor:
        embeddings = x.flatten(1)[:, :4] * self.scale
        return embeddings * (self.sign if torch.jit.is_tracing() else 1)


def test_short_embeddings_are_compared_in_parts_of_their_largest_number(tmp_path: Path) -> None:
    def written(scale: float, sign: float) -> Exported:
        network = FaceNetwork(_Scaled(scale, sign), Preprocessing())
        return export(network, tmp_path / "face.pt", "torchscript", image_size=8)

    with pytest.raises(OctoscaleError, match="differ by up to 2 from"):
        written(1e-5, -1)
    assert written(1e-5, 1 + 1e-5).difference == pytest.approx(1e-5, rel=0.1)
    with pytest.raises(OctoscaleError, match=r"differ by up to (0\.9|1)"):
        written(1e5, 1 + 1e-5)


class _OfTwo(nn.Module):
    """Recorded, it takes batches of the recorded size alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]), -1)[:, :4] if torch.jit.is_tracing() else x.flatten(1)[:, :4]


def test_a_network_that_fixes_its_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"does not run with a batch|differ|cannot be recorded"):
        export(FaceNetwork(_OfTwo(), Preprocessing()), tmp_path / "face.pt", "torchscript", image_size=8)
    assert not list(tmp_path.iterdir())


class _OfEightPixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


def test_a_network_of_another_image_size_is_refused(tmp_path: Path) -> None:
    network = FaceNetwork(_OfEightPixels(), Preprocessing(), name="mine:net")
    with pytest.raises(OctoscaleError, match=r"mine:net does not take images of 112×112 px .*--image-size"):
        export(network, tmp_path / "face.pt", "torchscript", image_size=112)
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(network: FaceNetwork, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"a torchscript file ends in \.pt, and .*face\.onnx does not"):
        export(network, tmp_path / "face.onnx", "torchscript", image_size=32)


def test_an_absent_folder_is_an_error(network: FaceNetwork, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=r"cannot (write|be recorded)|absent"):
        export(network, tmp_path / "absent" / "face.pt", "torchscript", image_size=32)


def test_the_network_stays_as_it_is(network: FaceNetwork, tmp_path: Path) -> None:
    network.train()
    export(network, tmp_path / "face.pt", "torchscript", image_size=32)
    assert network.training
