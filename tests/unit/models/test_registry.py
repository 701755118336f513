"""Networks by name."""

from pathlib import Path

import pytest
import torch
from torch import nn

from octoscale.errors import OctoscaleError
from octoscale.models import Preprocessing, load
from octoscale.models.iresnet import IResNet
from octoscale.models.mobilefacenet import MobileFaceNet
from octoscale.models.tiny import TinyNet


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of the user's, under a name that no other test imports."""
    name = f"users_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def plain():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))\n"
        "def sized(embedding_dim=5):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, embedding_dim))\n"
        "def wrong():\n    return 'a network'\n"
        "def broken():\n    raise TypeError('inside the function')\n"
        "constant = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("name", "kind"), [("mobilefacenet", MobileFaceNet), ("iresnet18", IResNet), ("tiny", TinyNet)]
)
def test_built_in_networks_are_loaded_by_name(name: str, kind: type[nn.Module]) -> None:
    assert isinstance(load(name).backbone, kind)


@pytest.mark.parametrize("name", ["iresnet18", "iresnet34", "iresnet50", "iresnet100"])
def test_the_number_in_an_iresnets_name_is_its_depth(name: str) -> None:
    with torch.device("meta"):
        found, expected = load(name).backbone, IResNet(int(name.removeprefix("iresnet")))
    assert list(found.state_dict()) == list(expected.state_dict())


@pytest.mark.parametrize(("name", "dim"), [("mobilefacenet", 128), ("iresnet18", 512), ("tiny", 64)])
def test_every_network_has_its_own_embedding_dim_unless_told(name: str, dim: int) -> None:
    with torch.no_grad():
        images = torch.zeros(1, 3, 112, 112, dtype=torch.uint8)
        assert load(name).eval()(images).shape == (1, dim)
        assert load(name, embedding_dim=24).eval()(images).shape == (1, 24)


def test_an_embedding_dim_below_one_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="embedding_dim is 0"):
        load("tiny", embedding_dim=0)


def test_a_misspelt_name_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(OctoscaleError, match=r"'iresnet5'.*did you mean 'iresnet50'.*mobilefacenet, .*tiny"):
        load("iresnet5")


def test_a_name_like_no_other_is_answered_without_a_guess() -> None:
    with pytest.raises(OctoscaleError, match="'xyz'; choose one of mobilefacenet"):
        load("xyz")


def test_a_users_function_is_called_and_centred_by_default(users_module: str) -> None:
    network = load(f"{users_module}:plain")
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert network.preprocessing == Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), "rgb")


def test_a_users_function_is_given_the_embedding_dim(users_module: str) -> None:
    assert load(f"{users_module}:sized", embedding_dim=7)(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


def test_a_given_preprocessing_replaces_the_default(users_module: str) -> None:
    mine = Preprocessing(color="bgr")
    assert load(f"{users_module}:plain", preprocessing=mine).preprocessing is mine
    assert load("tiny", preprocessing=mine).preprocessing is mine


def test_a_users_network_takes_weights(users_module: str, tmp_path: Path) -> None:
    state = load(f"{users_module}:plain").backbone.state_dict()
    torch.save(state, tmp_path / "mine.pt")
    loaded = load(f"{users_module}:plain", weights=tmp_path / "mine.pt").backbone
    assert torch.equal(loaded.state_dict()["1.weight"], state["1.weight"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", "has no function 'absent'"),
        ("constant", "has no function 'constant'"),
        ("", "has no function ''"),
        ("wrong", "returned a str; it must return an nn.Module"),
    ],
)
def test_a_function_that_makes_no_network_is_refused(users_module: str, function: str, message: str) -> None:
    with pytest.raises(OctoscaleError, match=message):
        load(f"{users_module}:{function}")


def test_a_function_that_takes_no_embedding_dim_says_so(users_module: str) -> None:
    with pytest.raises(OctoscaleError, match=r"plain\(embedding_dim=7\)"):
        load(f"{users_module}:plain", embedding_dim=7)


def test_an_error_inside_the_users_function_keeps_its_own_type(users_module: str) -> None:
    with pytest.raises(TypeError, match="inside the function"):
        load(f"{users_module}:broken")


def test_a_module_that_cannot_be_found_is_named() -> None:
    with pytest.raises(OctoscaleError, match=r"cannot import 'no_such_module_here'.*PYTHONPATH"):
        load("no_such_module_here:make")


@pytest.mark.parametrize("source", ["import no_such_dependency", "def ("])
def test_a_module_that_fails_to_import_says_why(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"users_faulty_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OctoscaleError, match=r"no_such_dependency|invalid syntax"):
        load(f"{name}:make")


@pytest.mark.parametrize("name", [":make", ".relative:make", "s3://bucket/network"])
def test_what_cannot_be_a_module_is_refused(name: str) -> None:
    with pytest.raises(OctoscaleError, match=r"package\.module:function|cannot import"):
        load(name)
