"""A network that is whole in a file: no settings are needed."""

from pathlib import Path

import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.given import given_network, network_of_file
from octoscale.models import FaceNetwork, Preprocessing, load, save_weights
from tests.unit.models import published


@pytest.mark.parametrize("embedding_dim", [None, 32])
def test_weights_that_octoscale_wrote_are_a_network(embedding_dim: int | None, tmp_path: Path) -> None:
    network = load("tiny", preprocessing=Preprocessing(color="bgr"), embedding_dim=embedding_dim).eval()
    save_weights(network, tmp_path / "tiny.pt")
    found = network_of_file(tmp_path / "tiny.pt").eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(found(images), network(images))


@pytest.mark.parametrize("name", [None, "os:getcwd", "other.pt2"])
def test_a_file_that_names_no_network_of_the_librarys_is_refused(name: str | None, tmp_path: Path) -> None:
    """What a file of weights says is looked up, never called."""
    network = load("tiny")
    save_weights(
        network.backbone if name is None else FaceNetwork(network.backbone, Preprocessing(), name=name),
        tmp_path / "w.pt",
    )
    with pytest.raises(OctoscaleError, match=r"w\.pt does not say which network of octoscale's"):
        network_of_file(tmp_path / "w.pt")


def test_weights_of_another_project_tell_their_network_and_its_images(tmp_path: Path) -> None:
    path = published.write(tmp_path / "backbone.pth", published.zeros(published.mbf()))
    given = given_network(str(path))
    expected = load("mbf", weights=path)
    assert (given.network.name, given.network.dialect) == ("mbf", "arcface_torch")
    assert given.network.preprocessing == expected.preprocessing
    assert (given.run, given.config, given.step) == (None, None, None)


def test_weights_that_may_be_of_several_projects_need_a_configuration(tmp_path: Path) -> None:
    path = published.write(tmp_path / "mobile.pth", published.zeros(published.facex_mobilefacenet()))
    message = r"could be of face_evolve or insightface_pytorch or facex_zoo, .*configuration .* and model\.dialect"
    with pytest.raises(OctoscaleError, match=message):
        given_network(str(path))


@pytest.mark.parametrize("name", ["absent.onnx", "absent.pth"])
def test_a_file_that_is_not_there_is_no_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match=rf"{name}") as refused:
        given_network(str(tmp_path / name))
    assert "checkpoint" not in str(refused.value)
