"""iResNet has the names and sizes of insightface's arcface_torch."""

import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.models.iresnet import IResNet

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _batch_norm(name: str) -> list[str]:
    return [f"{name}.{tensor}" for tensor in _BATCH_NORM]


def _block(name: str, *, downsample: bool) -> list[str]:
    keys = [*_batch_norm(f"{name}.bn1"), f"{name}.conv1.weight", *_batch_norm(f"{name}.bn2"), f"{name}.prelu.weight"]
    keys += [f"{name}.conv2.weight", *_batch_norm(f"{name}.bn3")]
    if downsample:
        keys += [f"{name}.downsample.0.weight", *_batch_norm(f"{name}.downsample.1")]
    return keys


def test_iresnet18_has_the_published_keys_in_the_published_order() -> None:
    expected = ["conv1.weight", *_batch_norm("bn1"), "prelu.weight"]
    for stage in (1, 2, 3, 4):
        expected += _block(f"layer{stage}.0", downsample=True) + _block(f"layer{stage}.1", downsample=False)
    expected += [*_batch_norm("bn2"), "fc.weight", "fc.bias", *_batch_norm("features")]
    assert list(IResNet(18).state_dict()) == expected


@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 24_025_600), (34, 34_139_328), (50, 43_590_848), (100, 65_156_160)]
)
def test_parameter_counts_are_exact(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = IResNet(depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(("depth", "blocks"), [(18, 8), (34, 16), (50, 24), (100, 49)])
def test_every_block_holds_two_3x3_convolutions(depth: int, blocks: int) -> None:
    with torch.device("meta"):
        network = IResNet(depth)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == 2 * blocks + 1


def test_the_scale_of_the_embedding_is_not_trained() -> None:
    network = IResNet(18, embedding_dim=8)
    assert not network.features.weight.requires_grad
    assert (network.features.weight == 1).all()
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["features.weight"]


def test_iresnet18_embeds_in_the_asked_dimension() -> None:
    with torch.no_grad():
        assert IResNet(18, embedding_dim=32).eval()(torch.zeros(2, 3, 112, 112)).shape == (2, 32)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(OctoscaleError, match="112×112"):
        IResNet(18, embedding_dim=8)(torch.zeros(1, 3, 128, 128))
