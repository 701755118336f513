"""A file of named tensors: of ``torch.save``, or safetensors. No code in it ever runs."""

import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from octoscale.errors import OctoscaleError
from octoscale.models import card
from octoscale.models.card import Card
from octoscale.models.graph_file import is_torchscript

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
# Where training checkpoints keep the backbone: most projects, and arcface_torch. Others have one state alone.
_CONTAINERS = ("state_dict", "state_dict_backbone")
# What torch.save wrote before its zip files, one after the other: its mark, a version, the machine, and the object.
_LEGACY_PICKLES = 4


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
        path: a state_dict of ``torch.save``, also inside a training checkpoint under ``"state_dict"``,
            ``"state_dict_backbone"`` or as its only state; or a ``.safetensors`` file.

    Raises:
        OctoscaleError: no such file, or it holds no state_dict.
    """
    path = path.expanduser()
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    loaded = _state_in(_load(path), path)
    # torch.save keeps this attribute of a state_dict, and torch's own loading does not mind an entry of ours.
    metadata = getattr(loaded, "_metadata", None)
    text = metadata.get(card.KEY) if isinstance(metadata, Mapping) else None
    return dict(loaded), card.read_card(text, source=str(path)) if isinstance(text, str) else None


def _state_in(loaded: Any, path: Path) -> Mapping[str, Tensor]:
    if _is_state(loaded):
        return loaded
    found = {key: value for key, value in loaded.items() if _is_state(value)} if isinstance(loaded, Mapping) else {}
    for name in _CONTAINERS if len(found) != 1 else found:
        if name in found:
            return found[name]
    has = f" with {', '.join(map(str, list(loaded)[:12]))}" if isinstance(loaded, Mapping) else ""
    what = f"{len(found)} states ({', '.join(map(str, found))})" if found else "no state_dict (names to tensors)"
    raise OctoscaleError(
        f"weights {path} hold a {type(loaded).__name__}{has}: not a state_dict, and {what} in it; "
        "save network.state_dict() alone"
    )


def _is_state(value: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())
    )


def _load(path: Path) -> Any:
    if is_torchscript(path):
        raise OctoscaleError(
            f"weights {path} are a whole TorchScript network: give it as model.name, in a file that ends in .pt"
        )
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            # Training checkpoints also hold options, callbacks, numpy scalars.
            inert: list[Any] = [(type(name.rpartition(".")[2], (_Inert,), {}), name) for name in _globals_in(path)]
            with torch.serialization.safe_globals(inert):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OctoscaleError(f"cannot read weights {path} ({error.strerror}); give the path of a local file") from error
    except _UNREADABLE as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        has = f": {refused[1]} in it is code, which never runs" if refused else ""
        raise OctoscaleError(f"weights {path} are not a readable state_dict{has}; save one with torch.save") from error
    if isinstance(loaded, _Inert):
        raise OctoscaleError(
            f"weights {path} are not a readable state_dict: they are a whole {type(loaded).__name__}, which is code; "
            "save its state_dict() with torch.save"
        )
    return loaded


def _globals_in(path: Path) -> set[str]:
    """What a file names of Python's modules, whether it may or not."""
    if zipfile.is_zipfile(path):
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    names = set()
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            names |= {
                str(text).replace(" ", ".") for code, text, _ in pickletools.genops(file) if code.name == "GLOBAL"
            }
    return names


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
