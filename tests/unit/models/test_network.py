"""Preprocessing, precision and training mode of a FaceNetwork."""

import pytest
import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models import FaceNetwork, Preprocessing, load, set_training


class _Pixels(nn.Module):
    """Shows what reaches the backbone: the three channels of the first pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0]


def _images(n: int, size: int = 112, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_preprocessing_subtracts_the_mean_and_divides_by_the_std() -> None:
    network = FaceNetwork(_Pixels(), Preprocessing(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0)))
    pixel = torch.tensor([12, 16, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(network(pixel), torch.tensor([[1.0, -1.0, 45.0]]))


def test_bgr_reverses_the_channels_before_mean_and_std() -> None:
    network = FaceNetwork(_Pixels(), Preprocessing(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0), color="bgr"))
    pixel = torch.tensor([100, 150, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(network(pixel), torch.tensor([[199.0, 148.0, 97.0]]))


def test_uint8_and_float_images_give_the_same_embeddings() -> None:
    network = load("tiny").eval()
    images = _images(2, size=32)
    with torch.no_grad():
        assert torch.equal(network(images), network(images.float()))


def test_mobilefacenet_is_preprocessed_by_the_statistics_of_imagenet() -> None:
    expected = Preprocessing(
        tuple(255 * v for v in (0.485, 0.456, 0.406)), tuple(255 * v for v in (0.229, 0.224, 0.225))
    )
    found = load("mobilefacenet").preprocessing
    assert found.mean == pytest.approx(expected.mean)
    assert found.std == pytest.approx(expected.std)
    assert found.color == "rgb"


def test_a_std_of_zero_is_refused() -> None:
    with pytest.raises(OctoscaleError, match=r"preprocessing\.std .* above 0"):
        Preprocessing(std=(0.0, 1.0, 1.0))


@pytest.mark.parametrize("shape", [(3, 112, 112), (2, 112, 112, 3)])
def test_images_that_are_not_nchw_rgb_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(OctoscaleError, match="images have shape"):
        load("tiny")(torch.zeros(shape))


class _WithoutNorms(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return images[:, :, 0, 0], None


@pytest.mark.parametrize("backbone", [nn.Identity(), nn.Flatten(0), _WithoutNorms()])
def test_a_backbone_that_does_not_embed_is_refused(backbone: nn.Module) -> None:
    with pytest.raises(OctoscaleError, match="must give one tensor"):
        FaceNetwork(backbone, Preprocessing())(_images(2, size=8))


def test_the_state_dict_holds_the_backbone_alone() -> None:
    assert all(key.startswith("backbone.") for key in load("tiny").state_dict())


@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet18", "tiny"])
def test_embeddings_do_not_depend_on_the_batch(name: str) -> None:
    torch.manual_seed(0)
    network = load(name).eval()
    images = _images(3)
    with torch.no_grad():
        together = network(images)
        apart = torch.cat([network(images[:1]), network(images[1:])])
    # Only the order of fp32 sums may differ: eps times the longest sum's square root (25,088 products), with room.
    tolerance = 8 * torch.finfo(torch.float32).eps * 25_088**0.5 * together.abs().max().item()
    torch.testing.assert_close(apart, together, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet18", "tiny"])
def test_bf16_autocast_gives_fp32_embeddings_near_the_exact_ones(name: str) -> None:
    torch.manual_seed(0)
    network = load(name).eval()
    images = _images(2)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.nn.functional.cosine_similarity(rough, exact).min() > 0.98


def test_double_precision_reaches_the_embeddings() -> None:
    torch.manual_seed(0)
    network = load("tiny").eval()
    images = _images(2, size=32)
    with torch.no_grad():
        single = network(images)
        double = network.double()(images)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilefacenet", "iresnet18", "tiny"])
def test_frozen_batch_norm_trains_every_parameter_and_keeps_its_statistics(name: str) -> None:
    torch.manual_seed(0)
    network = load(name)
    set_training(network, "frozen")
    statistics = {key: value.clone() for key, value in network.named_buffers()}
    network(_images(1)).square().sum().backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key
    for key, value in network.named_buffers():
        assert torch.equal(value, statistics[key]), key


def test_trained_batch_norm_updates_its_statistics() -> None:
    network = load("tiny")
    set_training(network, "chunk")
    before = network.backbone.bn.running_mean.clone()
    network(_images(3))
    assert not torch.equal(network.backbone.bn.running_mean, before)


def test_frozen_batch_norm_leaves_dropout_active() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3), nn.BatchNorm1d(3), nn.SyncBatchNorm(3)).eval()
    set_training(network, "frozen")
    assert [module.training for module in network] == [True, False, False, False]


def test_thawing_puts_batch_norm_back_in_training() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    set_training(network, "frozen")
    set_training(network, "chunk")
    assert network[0].training


def test_synchronised_batch_norm_of_a_single_process_is_that_of_its_chunk() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    set_training(network, "sync")
    assert type(network[0]) is nn.BatchNorm2d
    assert network[0].training


class _Activated(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: the activation is in the layer."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_a_layer_that_would_lose_its_activation_is_not_synchronised() -> None:
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), _Activated(3)))
    message = r"0\.1 is a _Activated, which does more than that: set model.batch_norm to frozen or chunk"
    with pytest.raises(OctoscaleError, match=message):
        set_training(network, "sync")
    set_training(network, "chunk")
