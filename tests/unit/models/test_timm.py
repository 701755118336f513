"""Networks of timm, where it is installed."""

import pytest
import torch

from octoscale.errors import OctoscaleError
from octoscale.models import load, set_training


def test_a_network_of_timm_embeds_with_its_own_preprocessing() -> None:
    pytest.importorskip("timm")
    network = load("timm:mobilenetv3_small_050", embedding_dim=16)
    set_training(network, "frozen")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert network(images).shape == (2, 16)
    assert network.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))


def test_images_of_another_size_than_a_network_of_timm_takes_are_named() -> None:
    pytest.importorskip("timm")
    network = load("timm:vit_tiny_patch16_224", embedding_dim=16)
    with pytest.raises(OctoscaleError, match=r"vit_tiny_patch16_224 takes 224×224 px images, got \(1, 3, 112, 112\)"):
        network(torch.zeros(1, 3, 112, 112, dtype=torch.uint8))


def test_without_embedding_dim_its_pooled_features_are_the_embedding() -> None:
    pytest.importorskip("timm")
    assert load("timm:resnet10t").eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


def test_a_misspelt_network_of_timm_is_answered_with_the_nearest() -> None:
    pytest.importorskip("timm")
    with pytest.raises(OctoscaleError, match=r"no network 'resnet5O'; did you mean 'resnet50'"):
        load("timm:resnet5O")


def test_timm_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(OctoscaleError, match="pip install timm"):
        load("timm:resnet50")
