"""MobileNetV2 (Sandler et al., CVPR 2018) with ArcFace's last layer, the paper's small network.

Trunk and names are torchvision's; instead of pooling, the last 4×4 features are normalised and embedded as a whole.
"""

from torch import Tensor, nn

from octoscale.models.head import embed_exactly, require_crop
from octoscale.models.inverted_residual import InvertedResidual, conv_bn_relu

# (expansion, channels, repeats, stride of the first repeat): table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_LAST_CHANNELS = 1280
# Of the last features: 112 px, halved five times and rounded up.
_SIDE = 4


class MobileNetV2(nn.Module):
    """Normalised RGB images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised."""

    def __init__(self, embedding_dim: int = 512) -> None:
        super().__init__()
        blocks: list[nn.Module] = [conv_bn_relu(3, 32, kernel_size=3, stride=2)]
        channels = 32
        for expansion, out_channels, repeats, stride in _STAGES:
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(channels, out_channels, expansion=expansion, stride=stride if i == 0 else 1)
                )
                channels = out_channels
        self.features = nn.Sequential(*blocks, conv_bn_relu(channels, _LAST_CHANNELS, kernel_size=1))
        self.bn_o1 = nn.BatchNorm2d(_LAST_CHANNELS)
        self.fc = nn.Linear(_LAST_CHANNELS * _SIDE**2, embedding_dim)
        self.bn_o2 = nn.BatchNorm1d(embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "MobileNetV2")
        return embed_exactly(self.bn_o1(self.features(images)).flatten(1), self.fc, self.bn_o2)
