"""Whose weights these are, told by their keys; and what each project's training expects of an image."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.models import ir, iresnet
from octoscale.models import mobilefacenet_prelu as mbf
from octoscale.models.network import Preprocessing

DialectName = Literal[
    "arcface_torch", "magface", "adaface", "tface", "facex_zoo", "face_transformer", "face_evolve",
    "insightface_pytorch", "mobilefacenet",
]  # fmt: skip

CENTRED_RGB = Preprocessing()
CENTRED_BGR = Preprocessing(color="bgr")
# torchvision's ImageNet statistics, on the 0–255 scale.
IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
UNIT_BGR = Preprocessing(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), color="bgr")
FACEX_BGR = Preprocessing(std=(128.0, 128.0, 128.0), color="bgr")
RAW_RGB = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

PREPROCESSING: dict[DialectName, Preprocessing] = {
    "arcface_torch": CENTRED_RGB,
    "magface": UNIT_BGR,
    "adaface": CENTRED_BGR,
    "tface": CENTRED_RGB,
    "facex_zoo": FACEX_BGR,
    "face_transformer": RAW_RGB,
    "face_evolve": CENTRED_RGB,
    # TreB1eN's: its training images were written with their channels swapped.
    "insightface_pytorch": CENTRED_BGR,
    "mobilefacenet": IMAGENET,
}
# Where it is not what the network has by itself.
BATCH_NORM_EPSILON: dict[DialectName, float] = {"magface": 2e-5}


@dataclass(frozen=True)
class Recognised:
    """A file's tensors, read as one dialect.

    Attributes:
        dialect: None: no known one, the keys are the network's own; or one of `candidates`.
        architecture: the network's name for `octoscale.models.load`; None where it cannot be told.
        embedding_dim: None where it cannot be told.
        state: the backbone's tensors under octoscale's names, with whatever else was in the file and is no head.
        heads: keys of the training's class layers, which are left out.
        candidates: projects that write these very keys, and prepare images differently; empty: the dialect is told.
    """

    dialect: DialectName | None
    architecture: str | None
    embedding_dim: int | None
    state: dict[str, Tensor]
    heads: tuple[str, ...] = ()
    candidates: tuple[DialectName, ...] = ()


@dataclass(frozen=True)
class _Format:
    """How one project writes one kind of network.

    Attributes:
        prefixes: in front of each of the backbone's keys -> who writes it; the first that fits.
        signature: keys that only such a backbone has all of.
        last: the key of a tensor whose first dimension is the embedding's.
        architecture: the network's name, from the backbone's tensors.
        heads: prefixes of the training's class layers.
        rename: its name of a tensor -> ours.
    """

    prefixes: Mapping[str, tuple[DialectName, ...]]
    signature: tuple[str, ...]
    last: str
    architecture: Callable[[Mapping[str, Tensor]], str | None]
    heads: tuple[str, ...] = ()
    rename: Callable[[str], str] = str


def recognise(state: Mapping[str, Tensor], dialect: DialectName | None = None) -> Recognised:
    """Read the tensors of a file.

    Args:
        state: by their keys in the file.
        dialect: read them as this one, where the keys alone would say another (a MagFace network whose prefix
            somebody has removed has arcface_torch's keys); None: as the keys say.
    """
    plain = _unwrapped(state)
    for form in _FORMATS:
        known = {name for names in form.prefixes.values() for name in names}
        if dialect is not None and dialect not in known:
            continue
        for prefix in form.prefixes if dialect is None else (*form.prefixes, ""):
            if all(prefix + key in plain for key in form.signature):
                return _read(plain, form, prefix, form.prefixes[prefix] if dialect is None else (dialect,))
    whole = all(key.startswith("backbone.") for key in plain)  # of a FaceNetwork
    return Recognised(None, None, None, {key.removeprefix("backbone.") if whole else key: plain[key] for key in plain})


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel, DistributedDataParallel and torch.compile put in front of keys."""
    plain: dict[str, str] = {}
    for key in state:
        name = key
        while name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        if name in plain:
            raise OctoscaleError(
                f"the weights have {plain[name]} and {key}, two tensors for {name} (a network and its average?); "
                "save one of the two networks alone"
            )
        plain[name] = key
    return {name: state[key] for name, key in plain.items()}


def _read(plain: Mapping[str, Tensor], form: _Format, prefix: str, candidates: tuple[DialectName, ...]) -> Recognised:
    found = {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}
    strays = {key: value for key, value in plain.items() if not key.startswith(prefix)}
    # A class layer stands beside the backbone: where that has no prefix, only a name that is not its own can be one.
    heads = tuple(key for key in plain if key.startswith(form.heads)) if prefix in form.prefixes else ()
    state = {form.rename(key): value for key, value in found.items() if prefix + key not in heads}
    for key, value in strays.items():
        if key in heads:
            continue
        if key in state:
            raise OctoscaleError(
                f"the weights have {prefix}{key} and {key}, two tensors for {key} (a network and its average?); save "
                "one of the two networks alone"
            )
        state[key] = value
    told, *others = candidates
    return Recognised(
        None if others else told, form.architecture(found), found[form.last].shape[0], state, heads,
        candidates if others else (),
    )  # fmt: skip


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand where the group is in keys that begin like `pattern`."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def _iresnet(state: Mapping[str, Tensor]) -> str | None:
    counts = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    return next((f"iresnet{depth}" for depth, layers in iresnet.LAYERS.items() if layers == counts), None)


def _depth(state: Mapping[str, Tensor]) -> int | None:
    blocks = _count(state, r"body\.(\d+)\.")
    return next((depth for depth, layers in ir.LAYERS.items() if sum(layers) == blocks), None)


def _adaface(state: Mapping[str, Tensor]) -> str | None:
    depth = _depth(state)
    # Its authors call the network of 100 layers 101.
    return None if depth in (None, 152) else f"adaface_ir{101 if depth == 100 else depth}"


def _facex(state: Mapping[str, Tensor]) -> str | None:
    depth = _depth(state)
    excited = "se" if "body.0.res_layer.5.fc1.weight" in state else ""
    return f"facex_ir{excited}{depth}" if depth in (50, 100, 152) else None


def _mbf(state: Mapping[str, Tensor]) -> str | None:
    counts = tuple(_count(state, rf"layers\.{layer}\.layers\.(\d+)\.layers\.0\.layers") for layer in (1, 3, 5, 7))
    # Where the first stage is a single convolution it has no bottlenecks to count.
    names: dict[tuple[int, ...], str] = {(0, *mbf.MBF_BLOCKS[1:]): "mbf", mbf.MBF_LARGE_BLOCKS: "mbf_large"}
    return names.get(counts)


def _face_transformer(state: Mapping[str, Tensor]) -> str | None:
    sizes = {3 * 8 * 8: "face_transformer_p8s8", 3 * 12 * 12: "face_transformer_p12s8"}
    return sizes.get(state["patch_to_embedding.weight"].shape[1])


# FaceX-Zoo's MobileFaceNet: the parts of a block, and the layers, under their names in arcface_torch's.
_FACEX_BLOCK = {"conv": "layers.0", "conv_dw": "layers.1", "project": "layers.2"}
_FACEX_CONVOLUTION = {"conv": "layers.0", "bn": "layers.1", "prelu": "layers.2"}
_FACEX_LAYERS = {
    "conv1": "layers.0", "conv2_dw": "layers.1", "conv_23": "layers.2", "conv_3": "layers.3", "conv_34": "layers.4",
    "conv_4": "layers.5", "conv_45": "layers.6", "conv_5": "layers.7", "conv_6_sep": "conv_sep",
    "conv_6_dw": "features.layers.0",
}  # fmt: skip


def _facex_mobilefacenet(key: str) -> str:
    """E.g. ``conv_3.model.1.conv_dw.bn.weight`` -> ``layers.3.layers.1.layers.1.layers.1.weight``."""
    first, *parts, tensor = key.split(".")
    if first in ("linear", "bn"):
        return f"features.layers.{2 if first == 'linear' else 3}.{tensor}"
    if first not in _FACEX_LAYERS:
        return key
    # The last part is one of a convolution's, the one before it, if any, one of a block's.
    *blocks, last = parts
    inner = [_FACEX_BLOCK.get(part, "layers" if part == "model" else part) for part in blocks]
    return ".".join([_FACEX_LAYERS[first], *inner, _FACEX_CONVOLUTION.get(last, last), tensor])


_ARCFACE: dict[str, tuple[DialectName, ...]] = {"": ("arcface_torch",), "backbone.": ("arcface_torch",)}
# Three projects trained one code's IR networks and MobileFaceNet, and only FaceX-Zoo's checkpoints have a prefix.
_IR: dict[str, tuple[DialectName, ...]] = {
    "backbone.": ("facex_zoo",), "feat_net.": ("facex_zoo",), "": ("face_evolve", "insightface_pytorch", "facex_zoo"),
}  # fmt: skip
_FORMATS = (
    _Format(
        {"features.module.": ("magface",), "features.": ("magface",)}, ("layer1.0.bn1.weight", "features.weight"),
        "features.weight", _iresnet, heads=("fc.", "parallel_fc."),
    ),
    _Format(_ARCFACE, ("layer1.0.bn1.weight", "features.weight"), "features.weight", _iresnet),
    _Format(
        _ARCFACE, ("layers.0.layers.0.weight", "conv_sep.layers.0.weight"), "features.layers.2.weight", _mbf
    ),
    _Format(
        # AdaFace took its network from TFace.
        {"model.": ("adaface",), "": ("adaface", "tface")},
        ("input_layer.0.weight", "body.0.res_layer.5.running_mean"), "output_layer.3.weight", _adaface,
        heads=("head.",),
    ),
    _Format(
        _IR, ("input_layer.0.weight", "body.0.res_layer.4.running_mean"), "output_layer.3.weight", _facex,
        heads=("head.",),
    ),
    _Format(
        _IR, ("conv2_dw.conv.weight", "conv_6_dw.conv.weight", "linear.weight"), "linear.weight",
        lambda state: "facex_mobilefacenet", heads=("head.",), rename=_facex_mobilefacenet,
    ),
    _Format(
        {"": ("face_transformer",), "backbone.": ("face_transformer",)},
        ("pos_embedding", "patch_to_embedding.weight", "mlp_head.0.weight"), "mlp_head.0.weight", _face_transformer,
        heads=("loss.",),
    ),
    _Format(
        {"": ("face_evolve",), "backbone.": ("face_evolve",)}, ("layer1.0.conv3.weight", "bn_o1.weight"), "fc.weight",
        lambda state: "resnet50",
    ),
    _Format(
        {"": ("mobilefacenet",), "backbone.": ("mobilefacenet",)},
        ("dw_conv.depthwise.weight", "gdconv.depthwise.weight"), "conv3.weight", lambda state: "mobilefacenet",
    ),
)  # fmt: skip
