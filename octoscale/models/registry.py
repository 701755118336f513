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
from octoscale.models.iresnet import IResNet
from octoscale.models.mobilefacenet import MobileFaceNet
from octoscale.models.network import FaceNetwork, Preprocessing
from octoscale.models.tiny import TinyNet
from octoscale.models.weights import load_weights

_CENTRED = Preprocessing()
# torchvision's ImageNet statistics, on the 0–255 scale.
_IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@dataclass(frozen=True)
class _BuiltIn:
    build: Callable[..., nn.Module]
    preprocessing: Preprocessing


_BUILT_IN = {
    "mobilefacenet": _BuiltIn(MobileFaceNet, _IMAGENET),
    "iresnet18": _BuiltIn(partial(IResNet, 18), _CENTRED),
    "iresnet34": _BuiltIn(partial(IResNet, 34), _CENTRED),
    "iresnet50": _BuiltIn(partial(IResNet, 50), _CENTRED),
    "iresnet100": _BuiltIn(partial(IResNet, 100), _CENTRED),
    "tiny": _BuiltIn(TinyNet, _CENTRED),
}


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    embedding_dim: int | None = None,
    preprocessing: Preprocessing | None = None,
) -> FaceNetwork:
    """Make a face network with its preprocessing attached.

    Args:
        name: ``mobilefacenet``, ``iresnet18``, ``iresnet34``, ``iresnet50``, ``iresnet100``, ``tiny``, or
            ``package.module:function`` for your own: it is called without arguments (with `embedding_dim` if that is
            given) and returns an ``nn.Module``.
        weights: a local file with the backbone's state_dict; None for random weights.
        embedding_dim: the length of an embedding; None for the network's own (128 for mobilefacenet, 512 for iresnet,
            64 for tiny).
        preprocessing: what the backbone expects; None for the built-in network's own, (x − 127.5) / 127.5 for yours.

    Returns:
        uint8 or float [n, 3, h, w] RGB on 0–255 -> embeddings, float [n, embedding_dim], not normalised. On the CPU,
        in training mode, as every new ``nn.Module``.

    Raises:
        OctoscaleError: no such network, a function that cannot be used, or weights that do not fit.
    """
    if embedding_dim is not None and embedding_dim < 1:
        raise OctoscaleError(f"embedding_dim is {embedding_dim}; it must be at least 1")
    arguments = {} if embedding_dim is None else {"embedding_dim": embedding_dim}
    if ":" in name:
        backbone = _call_users_function(name, arguments)
        default = _CENTRED
    elif name in _BUILT_IN:
        backbone = _BUILT_IN[name].build(**arguments)
        default = _BUILT_IN[name].preprocessing
    else:
        nearest = difflib.get_close_matches(name.lower(), _BUILT_IN, n=1)
        raise OctoscaleError(
            f"no network named {name!r}{f'; did you mean {nearest[0]!r}?' if nearest else ''}; "
            f"choose one of {', '.join(_BUILT_IN)}, or give your own as package.module:function"
        )
    if weights is not None:
        load_weights(backbone, weights)
    return FaceNetwork(backbone, preprocessing or default)


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
