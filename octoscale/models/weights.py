"""Weights of a backbone as a plain state_dict in a local file."""

import os
import pickle
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models.network import FaceNetwork

# What torch.load raises, besides OSError, for files that are damaged or something else altogether.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a state_dict into a backbone, in place; every key and shape must match.

    Args:
        network: the backbone, or a FaceNetwork around it.
        path: a file of ``torch.save``: a state_dict, or a dict that holds one under ``"state_dict"``. A ``module.``
            prefix (DataParallel's) is removed. Only tensors are read: no code in the file runs.

    Raises:
        OctoscaleError: no such file, not a state_dict, or it does not fit the network.
    """
    state = _read_state(Path(path))
    backbone = _backbone(network)
    expected = backbone.state_dict()
    wrong_shape = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    faults = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": wrong_shape,
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults.items() if keys)
        raise OctoscaleError(
            f"weights {path} do not fit {type(backbone).__name__}: {listed}; check the model's name and embedding_dim"
        )
    backbone.load_state_dict(state)


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the backbone's state_dict (CPU tensors) to `path`, whole or not at all.

    Args:
        network: the backbone, or a FaceNetwork around it.
        path: a local file; one that exists is replaced.

    Raises:
        OctoscaleError: the file cannot be written.
    """
    path = Path(path)
    # Clones: a view would be saved with the whole storage behind it.
    state = {key: value.detach().cpu().clone() for key, value in _backbone(network).state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
        temporary.replace(path)
    except OSError as error:
        raise OctoscaleError(f"cannot write weights to {path} ({error}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OctoscaleError(f"cannot read weights {path} ({error.strerror}); give the path of a local file") from error
    except _UNREADABLE as error:
        raise OctoscaleError(f"weights {path} are not a readable state_dict; save one with torch.save") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise OctoscaleError(
            f"weights {path} hold a {type(loaded).__name__} that is not a state_dict (names to tensors); "
            "save network.state_dict()"
        )
    return {key.removeprefix("module."): value for key, value in loaded.items()}


def _backbone(network: nn.Module) -> nn.Module:
    return network.backbone if isinstance(network, FaceNetwork) else network


def _first(keys: Collection[str], limit: int = 3) -> str:
    return ", ".join(list(keys)[:limit]) + (", …" if len(keys) > limit else "")
