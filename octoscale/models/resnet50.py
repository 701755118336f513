"""ResNet50 (He et al., CVPR 2016) with ArcFace's last layer: the paper's network, and face.evoLVe's ``ResNet_50``.

Trunk and names are torchvision's; instead of pooling, the last 4×4 features are normalised and embedded as a whole.
"""

from torch import Tensor, nn

from octoscale.models.head import embed_exactly, require_crop

_LAYERS = (3, 4, 6, 3)
_EXPANSION = 4
# Of the last features: 112 px, halved five times and rounded up.
_SIDE = 4


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        summed: Tensor = self.relu(self.bn3(self.conv3(out)) + shortcut)
        return summed


def _stage(in_channels: int, channels: int, count: int, *, stride: int) -> nn.Sequential:
    first = _Bottleneck(in_channels, channels, stride=stride)
    return nn.Sequential(first, *(_Bottleneck(_EXPANSION * channels, channels, stride=1) for _ in range(count - 1)))


class ResNet50(nn.Module):
    """Normalised RGB images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised."""

    def __init__(self, embedding_dim: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, _LAYERS[0], stride=1)
        self.layer2 = _stage(256, 128, _LAYERS[1], stride=2)
        self.layer3 = _stage(512, 256, _LAYERS[2], stride=2)
        self.layer4 = _stage(1024, 512, _LAYERS[3], stride=2)
        self.bn_o1 = nn.BatchNorm2d(2048)
        self.fc = nn.Linear(2048 * _SIDE**2, embedding_dim)
        self.bn_o2 = nn.BatchNorm1d(embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "ResNet50")
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return embed_exactly(self.bn_o1(x).flatten(1), self.fc, self.bn_o2)
