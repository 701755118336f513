"""The IR networks of AdaFace (Kim et al., CVPR 2022) and of FaceX-Zoo (Wang et al., 2021), under their own names.

Their blocks are those of an iResNet, with two differences: where the channels stay and the image shrinks, the shortcut
drops every other pixel instead of convolving; FaceX-Zoo leaves the BatchNorm between the convolutions out, and may
weigh the channels (squeeze and excitation).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from octoscale.models.head import IMAGE_SIZE, embed_exactly, require_crop

# Blocks in each of the four stages, as both have them; FaceX-Zoo's 152 has basic blocks.
LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
_REDUCTION = 16

Style = Literal["adaface", "facex"]


class _SqueezeExcitation(nn.Module):
    """Each channel times a weight in (0, 1) that follows from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu()))
        return x * weights


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, stride: int, style: Style, excited: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if in_channels != out_channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            *([nn.BatchNorm2d(out_channels)] if style == "adaface" else []),
            nn.PReLU(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            *([_SqueezeExcitation(out_channels)] if excited else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return out


class IRNet(nn.Module):
    """Normalised images, float [n, 3, 112, 112] -> embeddings, float [n, embedding_dim], not normalised.

    AdaFace's own code gives the pair (unit feature, norm), of which this is the product.

    Args:
        depth: 18, 34, 50, 100 or 152.
        embedding_dim: the length of an embedding; published weights have 512.
        style: whose blocks and last layer.
        excited: squeeze and excitation at the end of each block.
    """

    def __init__(self, depth: int, embedding_dim: int = 512, *, style: Style, excited: bool = False) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        blocks, in_channels = [], 64
        for channels, count in zip((64, 128, 256, 512), LAYERS[depth], strict=True):
            for i in range(count):
                blocks.append(_Block(in_channels, channels, stride=2 if i == 0 else 1, style=style, excited=excited))
                in_channels = channels
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Identity(),  # where the training of these networks drops
            nn.Flatten(),
            nn.Linear(512 * (IMAGE_SIZE // 16) ** 2, embedding_dim),
            nn.BatchNorm1d(embedding_dim, affine=style == "facex"),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "the IR network")
        norm, _, flatten, fc, features = self.output_layer
        return embed_exactly(flatten(norm(self.body(self.input_layer(images)))), fc, features)
