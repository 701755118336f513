"""iResNet, the face networks of insightface's arcface_torch; the parameter names are theirs, so are the weights.

Improved residual blocks (Duta et al., "Improved Residual Networks", ICPR 2020) in the form of ArcFace (Deng et al.,
CVPR 2019): BatchNorm first, PReLU, the stride in the second convolution, no down-sampling in the stem.
"""

from torch import Tensor, nn

from octoscale.models.head import IMAGE_SIZE, embed_exactly, require_crop

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
_EPS = 1e-5


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, eps=_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=_EPS)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=_EPS)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels, eps=_EPS)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = x if self.downsample is None else self.downsample(x)
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        residual: Tensor = self.bn3(self.conv2(out))
        return residual + shortcut


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    """`blocks` blocks, of which the first halves the image."""
    first = _Block(in_channels, out_channels, stride=2)
    return nn.Sequential(first, *(_Block(out_channels, out_channels, stride=1) for _ in range(blocks - 1)))


class IResNet(nn.Module):
    """Normalised RGB images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised.

    Args:
        depth: 18, 34, 50, 100 or 200.
        embedding_dim: the length of an embedding; published weights have 512.
    """

    def __init__(self, depth: int, embedding_dim: int = 512) -> None:
        super().__init__()
        layers = LAYERS[depth]
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps=_EPS)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, layers[0])
        self.layer2 = _stage(64, 128, layers[1])
        self.layer3 = _stage(128, 256, layers[2])
        self.layer4 = _stage(256, 512, layers[3])
        self.bn2 = nn.BatchNorm2d(512, eps=_EPS)
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(512 * (IMAGE_SIZE // 16) ** 2, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim, eps=_EPS)
        # The scale of the embedding is not learned: ArcFace normalises it away.
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "iResNet")
        x = self.prelu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return embed_exactly(self.dropout(self.bn2(x).flatten(1)), self.fc, self.features)
