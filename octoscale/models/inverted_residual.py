"""MobileNetV2's block (Sandler et al., CVPR 2018), of which MobileFaceNet is made too."""

from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand (unless `expansion` is 1), filter depthwise, project linearly."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *([conv_bn_relu(in_channels, hidden, kernel_size=1)] if expansion != 1 else []),
            conv_bn_relu(hidden, hidden, kernel_size=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.residual else out
