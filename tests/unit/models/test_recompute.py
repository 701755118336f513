"""Activation checkpointing changes memory and time, and nothing else."""

import pytest
import torch
from torch import nn

from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, Preprocessing, load, recompute_activations, set_training
from octoscale.models.face_transformer import FaceTransformer
from octoscale.models.mobilefacenet_prelu import PReluMobileFaceNet
from octoscale.models.recompute import _blocks


def _tiny() -> nn.Module:
    return load("tiny", embedding_dim=8).backbone


def _transformer() -> nn.Module:
    return FaceTransformer(8, 16, depth=2, heads=2, head_dim=8, hidden=16)


def _mobilefacenet() -> nn.Module:
    return PReluMobileFaceNet(8, scale=1, blocks=(1, 1, 1, 1))


@pytest.mark.parametrize("batch_norm", ["frozen", "chunk"])
@pytest.mark.parametrize("build", [_tiny, _transformer, _mobilefacenet])
def test_gradients_and_statistics_are_the_same_bit_for_bit(build: type[nn.Module], batch_norm: str) -> None:
    images = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    states = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        network = FaceNetwork(build(), Preprocessing())
        set_training(network, batch_norm)
        if recomputed:
            recompute_activations(network)
        network(images).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        states.append({**gradients, **{f"state {key}": value for key, value in network.state_dict().items()}})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_activations_inside_the_blocks_are_not_kept() -> None:
    def kept(network: nn.Module) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(torch.zeros(2, 3, 112, 112))
        return total

    network = _mobilefacenet()
    before = kept(network)
    recompute_activations(network)
    assert kept(network) < 0.5 * before


def test_dropout_repeats_its_draws() -> None:
    class Dropping(nn.Module):
        """What goes through it the first time and the second must be the same."""

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(x) * x

    network = nn.Sequential(Dropping())
    recompute_activations(network)
    x = torch.ones(1, 1000, requires_grad=True)
    out = network(x)
    out.sum().backward()
    # d(m x²)/dx = 2 m x, with the mask m of the first pass.
    assert x.grad is not None
    assert torch.equal(x.grad, 2 * out)


@pytest.mark.parametrize(
    ("name", "blocks"), [("iresnet50", 24), ("adaface_ir18", 8), ("face_transformer_p8s8", 40), ("resnet50", 16)]
)
def test_the_blocks_are_those_of_the_architecture(name: str, blocks: int) -> None:
    with torch.device("meta"):
        assert len(list(_blocks(load(name)))) == blocks


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(OctoscaleError, match="no blocks"):
        recompute_activations(FaceNetwork(nn.Linear(2, 2), Preprocessing()))
