"""A compiled network is the network: its names, its embeddings, its gradients. Compiled for real."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from octoscale.evaluate.embedding import evaluating
from octoscale.models import FaceNetwork, Preprocessing, compile_backbone, set_training

_NO_COMPILER = """
import torch
from octoscale.errors import OctoscaleError
from octoscale.models import check_compiler
try:
    check_compiler(torch.device("cpu"))
except OctoscaleError as error:
    print(error)
"""


def _network() -> FaceNetwork:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.BatchNorm2d(8), nn.PReLU(8), nn.Dropout(0.2), nn.Flatten(), nn.Linear(288, 6)
    )
    network = FaceNetwork(backbone, Preprocessing())
    set_training(network, "frozen")
    return network


def _images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _gradients(network: FaceNetwork) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return list(torch.autograd.grad(network(_images(16)).square().sum(), list(network.parameters())))


@pytest.mark.slow
def test_a_compiled_network_gives_the_embeddings_and_gradients_of_a_plain_one() -> None:
    plain, network = _network(), _network()
    compile_backbone(network)

    torch.manual_seed(3)
    with torch.no_grad():
        first_pass = network(_images(16))
    # The graph was really compiled, and is called.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    torch.manual_seed(3)
    second_pass = network(_images(16))
    torch.manual_seed(3)
    expected = plain(_images(16))

    # fp32 sums in another order: a few 1e-7 of the norm. The same pixels are dropped, or whole features would differ.
    scale = expected.norm(dim=1).max()
    for found in (first_pass, second_pass):
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)
    for found, wanted in zip(_gradients(network), _gradients(plain), strict=True):
        torch.testing.assert_close(found / wanted.norm(), wanted / wanted.norm(), rtol=0, atol=1e-5)
    # Checkpoints and copies know nothing of it.
    assert list(network.state_dict()) == list(plain.state_dict())
    assert copy.deepcopy(network).state_dict().keys() == plain.state_dict().keys()
    # Neither does an evaluation: the same bits, of a batch of any size.
    with evaluating(network), evaluating(plain), torch.no_grad():
        assert all(torch.equal(network(_images(count)), plain(_images(count))) for count in (1, 5, 33))


@pytest.mark.slow
def test_without_a_compiler_it_is_said_what_to_install(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("CXX", "CC")}
    # A folder without programs for PATH, and one without what has been compiled before.
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", _NO_COMPILER], env=environment, capture_output=True, text=True, timeout=250, check=True
    )
    assert "model.compile=true, but PyTorch cannot compile here" in done.stdout
    assert "No working C++ compiler found" in done.stdout
    assert "apt-get install g++" in done.stdout
