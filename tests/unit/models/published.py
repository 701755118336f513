"""Files of weights as other projects write them: their keys and shapes, put down from their formats, not from our code.

A tensor of zeros that is expanded has one number in the file, so that whole networks are written in no time.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

IRESNET = {18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
_CHANNELS = (64, 128, 256, 512)


def batch_norm(name: str, channels: int, *, affine: bool = True) -> Shapes:
    learned = {f"{name}.weight": (channels,), f"{name}.bias": (channels,)} if affine else {}
    return {
        **learned, f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,),
        f"{name}.num_batches_tracked": (),
    }  # fmt: skip


def _stages(depths: Iterable[int]) -> Iterable[tuple[int, int, int, int]]:
    """Of each block: stage from 1, number in it, channels in, channels out."""
    before = 64
    for stage, (count, channels) in enumerate(zip(depths, _CHANNELS, strict=True), 1):
        for block in range(count):
            yield stage, block, before, channels
            before = channels


def iresnet(depth: int = 18, dim: int = 512) -> Shapes:
    """arcface_torch's and MagFace's iResNet."""
    shapes: Shapes = {"conv1.weight": (64, 3, 3, 3), **batch_norm("bn1", 64), "prelu.weight": (64,)}
    for stage, block, before, channels in _stages(IRESNET[depth]):
        name = f"layer{stage}.{block}"
        shapes |= batch_norm(f"{name}.bn1", before)
        shapes |= {f"{name}.conv1.weight": (channels, before, 3, 3), **batch_norm(f"{name}.bn2", channels)}
        shapes |= {f"{name}.prelu.weight": (channels,), f"{name}.conv2.weight": (channels, channels, 3, 3)}
        shapes |= batch_norm(f"{name}.bn3", channels)
        if block == 0:
            shapes |= {f"{name}.downsample.0.weight": (channels, before, 1, 1)}
            shapes |= batch_norm(f"{name}.downsample.1", channels)
    shapes |= batch_norm("bn2", 512)
    return {**shapes, "fc.weight": (dim, 512 * 7 * 7), "fc.bias": (dim,), **batch_norm("features", dim)}


def ir(depth: int = 18, dim: int = 512, *, facex: bool = False, excited: bool = False) -> Shapes:
    """AdaFace's IR network; `facex`: FaceX-Zoo's, one BatchNorm less in a block and an affine one at the end."""
    shapes: Shapes = {
        "input_layer.0.weight": (64, 3, 3, 3), **batch_norm("input_layer.1", 64), "input_layer.2.weight": (64,),
    }  # fmt: skip
    for number, (_, _, before, channels) in enumerate(_stages(IRESNET[depth])):
        name = f"body.{number}"
        if before != channels:
            shapes |= {f"{name}.shortcut_layer.0.weight": (channels, before, 1, 1)}
            shapes |= batch_norm(f"{name}.shortcut_layer.1", channels)
        shapes |= batch_norm(f"{name}.res_layer.0", before)
        shapes |= {f"{name}.res_layer.1.weight": (channels, before, 3, 3)}
        last = 3 if facex else 4
        if not facex:
            shapes |= batch_norm(f"{name}.res_layer.2", channels)
        shapes |= {f"{name}.res_layer.{last - 1}.weight": (channels,)}
        shapes |= {f"{name}.res_layer.{last}.weight": (channels, channels, 3, 3)}
        shapes |= batch_norm(f"{name}.res_layer.{last + 1}", channels)
        if excited:
            shapes |= {f"{name}.res_layer.5.fc1.weight": (channels // 16, channels, 1, 1)}
            shapes |= {f"{name}.res_layer.5.fc2.weight": (channels, channels // 16, 1, 1)}
    shapes |= batch_norm("output_layer.0", 512)
    shapes |= {"output_layer.3.weight": (dim, 512 * 7 * 7), "output_layer.3.bias": (dim,)}
    return {**shapes, **batch_norm("output_layer.4", dim, affine=facex)}


def facex_mobilefacenet(dim: int = 512) -> Shapes:
    def convolution(name: str, out: int, into: int, size: int, *, prelu: bool = True) -> Shapes:
        shapes: Shapes = {f"{name}.conv.weight": (out, into, size, size), **batch_norm(f"{name}.bn", out)}
        return {**shapes, f"{name}.prelu.weight": (out,)} if prelu else shapes

    def block(name: str, into: int, out: int, hidden: int) -> Shapes:
        return {
            **convolution(f"{name}.conv", hidden, into, 1),
            **convolution(f"{name}.conv_dw", hidden, 1, 3),
            **convolution(f"{name}.project", out, hidden, 1, prelu=False),
        }

    shapes = {**convolution("conv1", 64, 3, 3), **convolution("conv2_dw", 64, 1, 3), **block("conv_23", 64, 64, 128)}
    for name, count, channels, hidden in (("conv_3", 4, 64, 128), ("conv_4", 6, 128, 256), ("conv_5", 2, 128, 256)):
        for number in range(count):
            shapes |= block(f"{name}.model.{number}", channels, channels, hidden)
    shapes |= {**block("conv_34", 64, 128, 256), **block("conv_45", 128, 128, 512)}
    shapes |= {**convolution("conv_6_sep", 512, 128, 1), **convolution("conv_6_dw", 512, 1, 7, prelu=False)}
    return {**shapes, "linear.weight": (dim, 512), **batch_norm("bn", dim)}


def mbf(dim: int = 512, scale: int = 2) -> Shapes:
    """arcface_torch's MobileFaceNet."""

    def convolution(name: str, out: int, into: int, size: int, *, prelu: bool = True) -> Shapes:
        shapes: Shapes = {f"{name}.layers.0.weight": (out, into, size, size), **batch_norm(f"{name}.layers.1", out)}
        return {**shapes, f"{name}.layers.2.weight": (out,)} if prelu else shapes

    def block(name: str, into: int, out: int, hidden: int) -> Shapes:
        return {
            **convolution(f"{name}.layers.0", hidden, into, 1),
            **convolution(f"{name}.layers.1", hidden, 1, 3),
            **convolution(f"{name}.layers.2", out, hidden, 1, prelu=False),
        }

    narrow, wide = 64 * scale, 128 * scale
    shapes = {**convolution("layers.0", narrow, 3, 3), **convolution("layers.1", narrow, scale, 3)}
    shapes |= block("layers.2", narrow, narrow, 128)
    for layer, count, channels, hidden in ((3, 4, narrow, 128), (5, 6, wide, 256), (7, 2, wide, 256)):
        for number in range(count):
            shapes |= block(f"layers.{layer}.layers.{number}", channels, channels, hidden)
    shapes |= {**block("layers.4", narrow, wide, 256), **block("layers.6", wide, wide, 512)}
    shapes |= {**convolution("conv_sep", 512, wide, 1), **convolution("features.layers.0", 512, 1, 7, prelu=False)}
    return {**shapes, "features.layers.2.weight": (dim, 512), **batch_norm("features.layers.3", dim)}


def face_transformer(patch: int = 8, *, dim: int = 512, depth: int = 20) -> Shapes:
    shapes: Shapes = {
        "pos_embedding": (1, 197, dim), "cls_token": (1, 1, dim),
        "patch_to_embedding.weight": (dim, 3 * patch * patch), "patch_to_embedding.bias": (dim,),
    }  # fmt: skip
    for layer in range(depth):
        attention, perceptron = (f"transformer.layers.{layer}.{part}.fn" for part in (0, 1))
        for name in (attention, perceptron):
            shapes |= {f"{name}.norm.weight": (dim,), f"{name}.norm.bias": (dim,)}
        shapes |= {f"{attention}.fn.to_qkv.weight": (3 * 512, dim)}
        shapes |= {f"{attention}.fn.to_out.0.weight": (dim, 512), f"{attention}.fn.to_out.0.bias": (dim,)}
        shapes |= {f"{perceptron}.fn.net.0.weight": (2048, dim), f"{perceptron}.fn.net.0.bias": (2048,)}
        shapes |= {f"{perceptron}.fn.net.3.weight": (dim, 2048), f"{perceptron}.fn.net.3.bias": (dim,)}
    return {**shapes, "mlp_head.0.weight": (dim,), "mlp_head.0.bias": (dim,)}


def zeros(shapes: Shapes, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


def write(path: Path, state: dict[str, Tensor], *, inside: str | None = None, **beside: Any) -> Path:
    """A file of `state`; under the key `inside`, with other objects `beside` it, as training checkpoints are."""
    torch.save(state if inside is None else {inside: state, **beside}, path)
    return path
