"""Sizes of the networks, against what their authors publish."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from octoscale.errors import OctoscaleError
from octoscale.models import load
from octoscale.models.face_transformer import FaceTransformer
from octoscale.models.ir import IRNet
from octoscale.models.mobilefacenet_prelu import PReluMobileFaceNet
from octoscale.models.registry import NAMES

# Parameters in millions, multiplications and additions in G per image, as published. Some count PReLU's slopes and what
# norms and activations compute, some do not: a per cent of the parameters, three of the operations.
PUBLISHED = {
    # arcface_torch's README, "ViT For Face Recognition": GFLOPs r18 2.6, r50 6.3, r100 12.1; parameters:
    # AdaFace and MagFace give 43.6 M and 65.2 M for R50 and R100.
    "iresnet18": (None, 2.6),
    "iresnet50": (43.6, 6.3),
    "iresnet100": (65.2, 12.1),
    # … "mobilefacenet-0.45G".
    "mbf": (None, 0.45),
    # FaceX-Zoo, training_mode/README.md, 3.1.
    "facex_mobilefacenet": (1.19, 0.228),
    "facex_ir50": (43.57, 6.31),
    "facex_irse152": (71.14, 12.33),
    # Chen et al., table 2: 0.99 M parameters at 128 dimensions.
    "mobilefacenet": (1.0, None),
    # Zhong and Deng, 2021, whose 63 M are without the class layer (0.5 k more per identity).
    "face_transformer_p8s8": (63.2, None),
    "face_transformer_p12s8": (63.3, None),
    # torchvision's ResNet50 is 25.6 M with 2.0 M of classes, MobileNetV2 3.5 M with 1.3 M; in their place
    # 4·4·2048 (1280) × 512.
    "resnet50": (25.557 - 2.049 + 16.783, None),
    "mobilenetv2": (3.505 - 1.281 + 10.490, None),
}


def millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_its_published_size(name: str) -> None:
    parameters, operations = PUBLISHED[name]
    with torch.device("meta"):  # shapes alone
        network = load(name).eval()
        images = torch.empty(1, 3, 112, 112)
    if parameters is not None:
        assert millions(network) == pytest.approx(parameters, rel=0.01)
    if operations is not None:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
        # FLOPs are two per multiplication and addition.
        assert counter.get_total_flops() / 2e9 == pytest.approx(operations, rel=0.03)


# One of each kind; the others differ in depth alone, and are counted above.
KINDS = [name for name in NAMES if not name.endswith(("34", "50", "100", "101", "152", "200")) or name == "resnet50"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_embeds_in_the_asked_dimension(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        network = load(name, embedding_dim=24).eval()
        assert network(torch.empty(2, 3, 112, 112)).shape == (2, 24)


@pytest.mark.parametrize(
    "network",
    [
        lambda: IRNet(18, 16, style="adaface"),
        lambda: PReluMobileFaceNet(16, scale=1, blocks=(1, 1, 1, 1)),
        lambda: FaceTransformer(8, 16, depth=1, heads=2, head_dim=8, hidden=16),
        lambda: FaceTransformer(12, 16, depth=1, heads=2, head_dim=8, hidden=16),
        lambda: load("mobilenetv2", embedding_dim=16).backbone,
    ],
    ids=["ir", "mobilefacenet_prelu", "face_transformer_p8s8", "face_transformer_p12s8", "mobilenetv2"],
)
def test_all_parameters_are_trained_and_images_do_not_mix(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    backbone = network().eval()
    images = torch.randn(2, 3, 112, 112)
    embeddings = backbone(images)
    torch.testing.assert_close(embeddings[:1], backbone(images[:1]), rtol=1e-4, atol=1e-4)
    (embeddings * torch.randn(2, 16)).sum().backward()
    without = [name for name, parameter in backbone.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not without
    with pytest.raises(OctoscaleError, match="112×112"):
        backbone(torch.zeros(1, 3, 128, 128))


def test_patches_are_flattened_as_the_weights_were_trained() -> None:
    """P8S8: row by row, the channels of a pixel side by side; P12S8: channel by channel, over a border of 4 px."""
    images = torch.randn(1, 3, 112, 112)
    cut = FaceTransformer(8, 8, depth=0)._patches(images)
    expected = images[0, :, 8:16, 24:32].permute(1, 2, 0).flatten()  # the second row's fourth patch
    assert torch.equal(cut[0, 14 + 3], expected)

    slid = FaceTransformer(12, 8, depth=0)._patches(images)
    assert slid.shape == (1, 196, 432)
    expected = images[0, :, 8 - 4 : 20 - 4, 24 - 4 : 36 - 4].flatten()
    assert torch.equal(slid[0, 14 + 3], expected)


def test_attention_is_scaled_by_the_width_of_the_network() -> None:
    torch.manual_seed(0)
    attention = FaceTransformer(8, 32, depth=1, heads=2, head_dim=8, hidden=8).transformer.layers[0][0].fn.fn
    x = torch.randn(1, 5, 32)
    queries, keys, values = attention.to_qkv(x)[0].view(5, 3, 2, 8).permute(1, 2, 0, 3)
    weights = (queries @ keys.transpose(1, 2) * 32**-0.5).softmax(dim=-1)
    expected = attention.to_out((weights @ values).transpose(0, 1).reshape(1, 5, 16))
    torch.testing.assert_close(attention(x), expected)


def test_the_ir_networks_shortcut_subsamples_where_the_channels_stay() -> None:
    backbone = IRNet(18, 8, style="adaface").eval()
    block = backbone.body[0]
    x = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(block(x) - block.res_layer(x), x[:, :, ::2, ::2])
