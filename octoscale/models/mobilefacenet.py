"""MobileFaceNet: a one-million-parameter face network (Chen et al., "MobileFaceNets", CCBR 2018)."""

from torch import Tensor, nn

from octoscale.models.head import require_crop
from octoscale.models.inverted_residual import InvertedResidual, conv_bn_relu

# (expansion, channels, repeats, stride of the first repeat): table 1 of the paper.
_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class _DepthwiseSeparable(nn.Module):
    """3×3 depthwise, then 1×1 pointwise, each with BatchNorm and ReLU6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.depthwise(x)))
        out: Tensor = self.relu(self.bn2(self.pointwise(x)))
        return out


class _GlobalDepthwise(nn.Module):
    """One 7×7 filter per channel instead of average pooling: positions of the face weigh differently."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.depthwise(x))
        return out


class MobileFaceNet(nn.Module):
    """Normalised RGB images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised."""

    def __init__(self, embedding_dim: int = 128) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(3, 64, kernel_size=3, stride=2)
        self.dw_conv = _DepthwiseSeparable(64)
        blocks: list[nn.Module] = []
        channels = 64
        for expansion, out_channels, repeats, stride in _STAGES:
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(channels, out_channels, expansion=expansion, stride=stride if i == 0 else 1)
                )
                channels = out_channels
        self.features = nn.Sequential(*blocks)
        self.conv2 = conv_bn_relu(channels, 512, kernel_size=1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, embedding_dim, 1)
        self.bn = nn.BatchNorm1d(embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "MobileFaceNet")
        x = self.dw_conv(self.conv1(images))
        x = self.conv2(self.features(x))
        x = self.conv3(self.gdconv(x))
        embeddings: Tensor = self.bn(x.flatten(1))
        return embeddings
