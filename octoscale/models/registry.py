"""Networks by name: the built-in ones and the user's own."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from octoscale.errors import OctoscaleError
from octoscale.models import dialects
from octoscale.models import mobilefacenet_prelu as mbf
from octoscale.models.batch_norm import set_epsilon
from octoscale.models.dialects import DialectName
from octoscale.models.face_transformer import FaceTransformer
from octoscale.models.graph_file import is_graph_file, read_graph
from octoscale.models.ir import IRNet
from octoscale.models.iresnet import IResNet
from octoscale.models.mobilefacenet import MobileFaceNet
from octoscale.models.mobilefacenet_prelu import PReluMobileFaceNet
from octoscale.models.mobilenetv2 import MobileNetV2
from octoscale.models.network import FaceNetwork, Preprocessing, PreprocessingConfig
from octoscale.models.resnet50 import ResNet50
from octoscale.models.tiny import TinyNet
from octoscale.models.weights import load_weights

_TIMM = "timm:"


@dataclass(frozen=True)
class _BuiltIn:
    build: Callable[..., nn.Module]
    preprocessing: Preprocessing = dialects.CENTRED_RGB


_BUILT_IN = {
    "mobilefacenet": _BuiltIn(MobileFaceNet, dialects.IMAGENET),
    **{f"iresnet{depth}": _BuiltIn(partial(IResNet, depth)) for depth in (18, 34, 50, 100, 200)},
    "mbf": _BuiltIn(PReluMobileFaceNet),
    "mbf_large": _BuiltIn(partial(PReluMobileFaceNet, scale=4, blocks=mbf.MBF_LARGE_BLOCKS)),
    **{
        f"adaface_ir{name}": _BuiltIn(partial(IRNet, depth, style="adaface"), dialects.CENTRED_BGR)
        for name, depth in ((18, 18), (34, 34), (50, 50), (101, 100))
    },
    **{
        f"facex_ir{'se' if excited else ''}{depth}": _BuiltIn(
            partial(IRNet, depth, style="facex", excited=excited), dialects.FACEX_BGR
        )
        for excited in (False, True)
        for depth in (50, 100, 152)
    },
    "facex_mobilefacenet": _BuiltIn(partial(PReluMobileFaceNet, scale=1), dialects.FACEX_BGR),
    "face_transformer_p8s8": _BuiltIn(partial(FaceTransformer, 8), dialects.RAW_RGB),
    "face_transformer_p12s8": _BuiltIn(partial(FaceTransformer, 12), dialects.RAW_RGB),
    "resnet50": _BuiltIn(ResNet50),
    "mobilenetv2": _BuiltIn(MobileNetV2),
    "tiny": _BuiltIn(TinyNet),
}
NAMES = tuple(_BUILT_IN)


def is_library_network(name: str) -> bool:
    """Whether a name is octoscale's or timm's own, and no code or file of somebody else."""
    return name in NAMES or (name.startswith(_TIMM) and not is_graph_file(name))


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    dialect: DialectName | None = None,
    embedding_dim: int | None = None,
    preprocessing: Preprocessing | PreprocessingConfig | None = None,
    batch_norm_epsilon: float | None = None,
) -> FaceNetwork:
    """Make a face network with its preprocessing attached.

    Args:
        name: one of `NAMES`; ``timm:NAME`` for a network of timm; the path of a TorchScript (.pt), torch.export (.pt2)
            or ONNX (.onnx) file; or ``package.module:function`` for your own: it is called without arguments (with
            `embedding_dim` if that is given) and returns an ``nn.Module``.
        weights: a local file with the backbone's weights, in any dialect that `octoscale.models.dialects` knows; None
            for random weights.
        dialect: whose weights they are, where the keys alone would say another.
        embedding_dim: the length of an embedding; None for the network's own (mostly 512).
        preprocessing: what the backbone expects; None, and what a PreprocessingConfig leaves open, for what the
            weights were trained with, or else the built-in network's own, or else (x − 127.5) / 127.5, RGB.
        batch_norm_epsilon: of all its BatchNorm layers; None for what the weights were trained with, or the network's.

    Returns:
        uint8 or float [n, 3, h, w] RGB on 0–255 -> embeddings, float [n, embedding_dim], not normalised. On the CPU,
        in training mode, as every new ``nn.Module``.

    Raises:
        OctoscaleError: no such network, a function or file that cannot be used, or weights that do not fit.
    """
    if embedding_dim is not None and embedding_dim < 1:
        raise OctoscaleError(f"embedding_dim is {embedding_dim}; it must be at least 1")
    if is_graph_file(name):
        others = {
            "weights": weights, "dialect": dialect, "embedding_dim": embedding_dim,
            "batch_norm_epsilon": batch_norm_epsilon,
        }  # fmt: skip
        given = [key for key, value in others.items() if value is not None]
        if given:
            raise OctoscaleError(f"{name} is a whole network, as it was exported: leave {given[0]} out")
        return _from_file(name, preprocessing)
    backbone, own, image_size = _build(name, {} if embedding_dim is None else {"embedding_dim": embedding_dim})
    if dialect is not None:
        own = dialects.PREPROCESSING[dialect]
        batch_norm_epsilon = batch_norm_epsilon or dialects.BATCH_NORM_EPSILON.get(dialect)
    if weights is not None:
        read = load_weights(backbone, weights, dialect)
        dialect, own = read.dialect, read.preprocessing or own
        batch_norm_epsilon = batch_norm_epsilon or read.batch_norm_epsilon
    if batch_norm_epsilon is not None:
        set_epsilon(backbone, batch_norm_epsilon)
    return FaceNetwork(
        backbone, _chosen(preprocessing, own), name=name, dialect=dialect, image_size=image_size,
        embedding_dim=embedding_dim,
    )  # fmt: skip


def _build(name: str, arguments: dict[str, int]) -> tuple[nn.Module, Preprocessing, int | None]:
    """The backbone, the preprocessing that it has by itself, and the image size, where it does not check it itself."""
    if name.startswith(_TIMM):
        return _from_timm(name.removeprefix(_TIMM), **arguments)
    if ":" in name:
        return _call_users_function(name, arguments), dialects.CENTRED_RGB, None
    if name in _BUILT_IN:
        return _BUILT_IN[name].build(**arguments), _BUILT_IN[name].preprocessing, None
    nearest = difflib.get_close_matches(name.lower(), _BUILT_IN, n=1)
    raise OctoscaleError(
        f"no network named {name!r}{f'; did you mean {nearest[0]!r}?' if nearest else ''}; "
        f"choose one of {', '.join(_BUILT_IN)}, timm:NAME, a .pt, .pt2 or .onnx file, or give your own as "
        "package.module:function"
    )


def _chosen(wanted: Preprocessing | PreprocessingConfig | None, own: Preprocessing) -> Preprocessing:
    if isinstance(wanted, PreprocessingConfig):
        return wanted.over(own)
    return wanted or own


def _from_file(path: str, preprocessing: Preprocessing | PreprocessingConfig | None) -> FaceNetwork:
    graph = read_graph(path)
    card = graph.card
    own = dialects.CENTRED_RGB if card is None else card.preprocessing
    name, dialect = (path, None) if card is None else (card.network, card.dialect)
    chosen = _chosen(preprocessing, own)
    return FaceNetwork(graph.backbone, chosen, name=name, dialect=dialect, image_size=graph.image_size)


def _from_timm(name: str, embedding_dim: int = 0) -> tuple[nn.Module, Preprocessing, int | None]:
    """A network of timm without its classes; with `embedding_dim`, a linear layer of that length in their place."""
    try:
        import timm
    except ImportError as error:
        raise OctoscaleError(f"timm:{name} needs timm ({error}): pip install timm") from error
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=1)
        raise OctoscaleError(f"timm has no network {name!r}{f'; did you mean {nearest[0]!r}?' if nearest else ''}")
    backbone = timm.create_model(name, pretrained=False, num_classes=embedding_dim)
    trained = backbone.pretrained_cfg
    mean, std = (tuple(255.0 * value for value in trained[key]) for key in ("mean", "std"))
    image_size = trained["input_size"][-1] if trained.get("fixed_input_size") else None
    return backbone, Preprocessing(mean, std), image_size


def _call_users_function(name: str, arguments: dict[str, int]) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise OctoscaleError(f"no module can be named {module_name!r}; give the network as package.module:function")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise OctoscaleError(
            f"cannot import {module_name!r} for the network {name!r} ({error}); "
            "install it, or put its folder on PYTHONPATH"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise OctoscaleError(f"{module_name!r} has no function {function_name!r} for the network {name!r}")
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise OctoscaleError(f"the network {name!r} cannot be called as {function_name}({given}): {error}") from error
    backbone = function(**arguments)
    if not isinstance(backbone, nn.Module):
        raise OctoscaleError(f"the network {name!r} returned a {type(backbone).__name__}; it must return an nn.Module")
    return backbone
