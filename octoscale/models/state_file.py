"""A file of named tensors: of ``torch.save``, or safetensors. No code in it ever runs."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.models import card
from octoscale.models.card import Card

# What torch.load raises, besides OSError, for files that are damaged or something else altogether.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
)
# Where training checkpoints keep the backbone: most projects, and arcface_torch.
_CONTAINERS = ("state_dict", "state_dict_backbone")


class _Inert:
    """Stands for any object of a training checkpoint that is no tensor: takes everything, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def read_state(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    """The tensors of a file by their keys, and what octoscale wrote about them, if it wrote the file.

    Args:
        path: a state_dict of ``torch.save``, also inside a training checkpoint under ``"state_dict"`` or
            ``"state_dict_backbone"``; or a ``.safetensors`` file.

    Raises:
        OctoscaleError: no such file, or it holds no state_dict.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    loaded = _load(path)
    for name in _CONTAINERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
            break
    if not isinstance(loaded, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise OctoscaleError(
            f"weights {path} hold a {type(loaded).__name__} that is not a state_dict (names to tensors); "
            "save network.state_dict()"
        )
    # torch.save keeps this attribute of a state_dict, and torch's own loading does not mind an entry of ours.
    metadata = getattr(loaded, "_metadata", None)
    text = metadata.get(card.KEY) if isinstance(metadata, Mapping) else None
    return dict(loaded), card.read_card(text, source=str(path)) if isinstance(text, str) else None


def _load(path: Path) -> Any:
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # Training checkpoints also hold options, callbacks, numpy scalars.
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            inert: list[Any] = [(type(name.rpartition(".")[2], (_Inert,), {}), name) for name in names]
            with torch.serialization.safe_globals(inert):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OctoscaleError(f"cannot read weights {path} ({error.strerror}); give the path of a local file") from error
    except _UNREADABLE as error:
        raise OctoscaleError(f"weights {path} are not a readable state_dict; save one with torch.save") from error
    if isinstance(loaded, _Inert):
        raise OctoscaleError(f"weights {path} are not a readable state_dict; save one with torch.save")
    return loaded


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise OctoscaleError(f"weights {path} need safetensors: pip install 'octoscale[export]'") from error
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no iterator)
            text = (file.metadata() or {}).get(card.KEY)
    except OSError as error:
        cause = error.strerror or error
        raise OctoscaleError(f"cannot read weights {path} ({cause}); give the path of a local file") from error
    except SafetensorError as error:
        raise OctoscaleError(f"weights {path} are not a readable safetensors file ({error})") from error
    return state, None if text is None else card.read_card(text, source=str(path))
