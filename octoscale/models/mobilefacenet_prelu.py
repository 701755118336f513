"""MobileFaceNet with PReLU, as arcface_torch ("mbf") and FaceX-Zoo train it; the names are arcface_torch's.

At scale 1 it is FaceX-Zoo's network, which is nearest to the paper (Chen et al., CCBR 2018); arcface_torch widens the
tensors between the blocks, not the blocks' insides.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from octoscale.models.head import embed_exactly, require_crop

MBF_BLOCKS = (1, 4, 6, 2)
MBF_LARGE_BLOCKS = (2, 8, 12, 4)


class _Layers(nn.Module):
    """Modules one after the other, under the name `layers`; around them a shortcut, if `residual`."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


def _convolution(
    in_channels: int, out_channels: int, *, kernel_size: int = 1, stride: int = 1, groups: int = 1, linear: bool = False
) -> _Layers:
    padding = 1 if kernel_size == 3 else 0
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return _Layers(*layers) if linear else _Layers(*layers, nn.PReLU(out_channels))


def _bottleneck(in_channels: int, out_channels: int, *, hidden: int, stride: int = 1) -> _Layers:
    return _Layers(
        _convolution(in_channels, hidden),
        _convolution(hidden, hidden, kernel_size=3, stride=stride, groups=hidden),
        _convolution(hidden, out_channels, linear=True),
        residual=stride == 1,
    )


def _stage(channels: int, *, hidden: int, count: int) -> _Layers:
    return _Layers(*(_bottleneck(channels, channels, hidden=hidden) for _ in range(count)))


class PReluMobileFaceNet(nn.Module):
    """Normalised images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised.

    Args:
        embedding_dim: the length of an embedding; published weights have 512.
        scale: 2 for arcface_torch's ``mbf``, 4 for its ``mbf_large``, 1 for FaceX-Zoo's.
        blocks: bottlenecks in each of the four stages.
    """

    def __init__(self, embedding_dim: int = 512, *, scale: int = 2, blocks: Sequence[int] = MBF_BLOCKS) -> None:
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        self.layers = nn.ModuleList(
            [
                _convolution(3, narrow, kernel_size=3, stride=2),
                # One block at this resolution is a depthwise convolution (of `scale` channels each) alone.
                _convolution(narrow, narrow, kernel_size=3, groups=64)
                if blocks[0] == 1
                else _stage(narrow, hidden=128, count=blocks[0]),
                _bottleneck(narrow, narrow, hidden=128, stride=2),
                _stage(narrow, hidden=128, count=blocks[1]),
                _bottleneck(narrow, wide, hidden=256, stride=2),
                _stage(wide, hidden=256, count=blocks[2]),
                _bottleneck(wide, wide, hidden=512, stride=2),
                _stage(wide, hidden=256, count=blocks[3]),
            ]
        )
        self.conv_sep = _convolution(wide, 512)
        self.features = _Layers(
            _convolution(512, 512, kernel_size=7, groups=512, linear=True),
            nn.Flatten(),
            nn.Linear(512, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "MobileFaceNet")
        x = images
        for layer in self.layers:
            x = layer(x)
        depthwise, flatten, fc, norm = self.features.layers
        return embed_exactly(flatten(depthwise(self.conv_sep(x))), fc, norm)
