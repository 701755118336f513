"""FaceTransformer, a vision transformer for faces (Zhong and Deng, "Face Transformer for Recognition", 2021).

The names are those of its authors' code. Two patch generators: P8S8 cuts the image into 8 px patches, P12S8 slides a
12 px window in steps of 8, so that neighbouring tokens overlap.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octoscale.models.head import IMAGE_SIZE, require_crop

_STRIDE = 8
_GRID = IMAGE_SIZE // _STRIDE
# Of P12S8, as its weights were trained; the last window ends 4 px before the padding does.
_PADDING = 4


class _Attention(nn.Module):
    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        # By the width of the network, not of a head: as the published weights were trained.
        self.scale = dim**-0.5
        self.to_qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        # [n, tokens, 3 · heads · head_dim] -> three of [n, heads, tokens, head_dim]
        queries, keys, values = self.to_qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        embedded: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return embedded


class _Perceptron(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        # nn.Identity: where its training drops.
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class _PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(self.norm(x))
        return out


class _Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x) + x
        return out


class _Transformer(nn.Module):
    def __init__(self, dim: int, *, depth: int, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _Residual(_PreNorm(dim, _Attention(dim, heads=heads, head_dim=head_dim))),
                    _Residual(_PreNorm(dim, _Perceptron(dim, hidden))),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                x = part(x)
        return x


class FaceTransformer(nn.Module):
    """Images, float [n, 3, 112, 112], RGB on 0–255 -> embeddings, float [n, embedding_dim], not normalised.

    Args:
        patch_size: 8 (P8S8) or 12 (P12S8).
        embedding_dim: the width of the network, and so the length of an embedding.
        depth, heads, head_dim, hidden: layers, attention heads, the width of one, and of the perceptron.
    """

    def __init__(
        self,
        patch_size: int,
        embedding_dim: int = 512,
        *,
        depth: int = 20,
        heads: int = 8,
        head_dim: int = 64,
        hidden: int = 2048,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch_to_embedding = nn.Linear(3 * patch_size**2, embedding_dim)
        self.pos_embedding = nn.Parameter(torch.empty(1, _GRID**2 + 1, embedding_dim).normal_(std=0.02))
        self.cls_token = nn.Parameter(torch.empty(1, 1, embedding_dim).normal_(std=0.02))
        self.transformer = _Transformer(embedding_dim, depth=depth, heads=heads, head_dim=head_dim, hidden=hidden)
        self.mlp_head = nn.Sequential(nn.LayerNorm(embedding_dim))

    def forward(self, images: Tensor) -> Tensor:
        """Raises OctoscaleError for images that are not 112×112 px."""
        require_crop(images, "FaceTransformer")
        tokens = self.patch_to_embedding(self._patches(images))
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.transformer(tokens + self.pos_embedding)
        embeddings: Tensor = self.mlp_head(tokens[:, 0])
        return embeddings

    def _patches(self, images: Tensor) -> Tensor:
        """[n, 3, 112, 112] -> [n, 196, 3 · patch_size²]."""
        if self.patch_size == _STRIDE:
            # [n, c, rows, y, columns, x] -> [n, rows, columns, y, x, c]: a pixel's channels side by side.
            grid: Tensor = (
                images.unflatten(3, (_GRID, _STRIDE)).unflatten(2, (_GRID, _STRIDE)).permute(0, 2, 4, 3, 5, 1)
            )
            return grid.flatten(3).flatten(1, 2)
        # Channel by channel: all of a window's reds, then its greens, then its blues.
        patches: Tensor = F.unfold(images, self.patch_size, stride=_STRIDE, padding=_PADDING).transpose(1, 2)
        return patches
