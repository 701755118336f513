"""Weights of a backbone in a local file, in the dialect of whoever trained it."""

import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError
from octoscale.models import card
from octoscale.models.dialects import BATCH_NORM_EPSILON, PREPROCESSING, DialectName, recognise
from octoscale.models.graph_file import Graph
from octoscale.models.network import FaceNetwork, Preprocessing
from octoscale.models.state_file import read_state

# Tensors of a state_dict that are not trained.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Weights:
    """What a file says, or its keys tell.

    Attributes:
        dialect: whose weights they are; None: of none that is known, the keys are the network's own; or one of
            `candidates`.
        network: the architecture's name for `octoscale.models.load`; None where it cannot be told.
        embedding_dim: None where it cannot be told.
        preprocessing, batch_norm_epsilon: what the network must have with these weights; None: its own.
        state: the backbone's tensors, under octoscale's names.
        heads: keys of the training's class layers, which are not the backbone's and are left out.
        octoscale: the version that wrote the file; None: something else did.
        candidates: dialects that the keys cannot tell apart; empty: `dialect` is what they say.
    """

    dialect: DialectName | None
    network: str | None
    embedding_dim: int | None
    preprocessing: Preprocessing | None
    batch_norm_epsilon: float | None
    state: Mapping[str, Tensor]
    heads: tuple[str, ...] = ()
    octoscale: str | None = None
    candidates: tuple[DialectName, ...] = ()

    @property
    def parameters(self) -> int:
        """Trained scalars of the backbone."""
        return sum(value.numel() for key, value in self.state.items() if not key.endswith(_STATISTICS))


def read_weights(path: str | Path, dialect: DialectName | None = None) -> Weights:
    """Read a file of weights; no code in it runs.

    Args:
        path: what `octoscale.models.state_file.read_state` reads.
        dialect: read it as this one, where the keys alone would say another.

    Raises:
        OctoscaleError: no such file, not a state_dict, or not of that dialect.
    """
    state, written = read_state(Path(path))
    if written is not None and dialect in (None, written.dialect):
        return Weights(
            written.dialect, written.network or None, written.embedding_dim, written.preprocessing,
            written.batch_norm_epsilon, state, octoscale=written.octoscale,
        )  # fmt: skip
    found = recognise(state, dialect)
    if dialect is not None and found.dialect is None:
        raise OctoscaleError(
            f"weights {path} are not {dialect}'s: they begin with {_first(state)}; leave model.dialect out, "
            f"`octoscale weights inspect {path}` says what they are"
        )
    return Weights(
        found.dialect,
        found.architecture,
        found.embedding_dim,
        None if found.dialect is None else PREPROCESSING[found.dialect],
        None if found.dialect is None else BATCH_NORM_EPSILON.get(found.dialect),
        found.state,
        found.heads,
        candidates=found.candidates,
    )


def load_weights(network: nn.Module, path: str | Path, dialect: DialectName | None = None) -> Weights:
    """Load a file's weights into a backbone, in place; every key and shape must match.

    Args:
        network: the backbone, or a FaceNetwork around it. Its preprocessing and epsilon stay as they are.
        path, dialect: as `read_weights` takes them.

    Returns:
        what was read.

    Raises:
        OctoscaleError: the file cannot be read, its dialect cannot be told, it does not fit the network, or it has
            numbers that are not finite; the network then stays as it was.
    """
    weights = read_weights(path, dialect)
    if weights.candidates:
        listed = ", ".join(f"{name} ({PREPROCESSING[name]})" for name in weights.candidates)
        raise OctoscaleError(
            f"weights {path} could be of {listed}, which write the same keys; say whose they are: model.dialect=NAME"
        )
    backbone = _backbone(network)
    expected = backbone.state_dict()
    # PyTorch before 0.4.1 did not count batches.
    counters = {key.replace(".running_mean", ".num_batches_tracked") for key in weights.state}
    uncounted = {key: torch.tensor(0, device="cpu") for key in expected if key in counters}
    state = uncounted | dict(weights.state)
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
        they = "check the model's name and embedding_dim"
        if weights.network is not None:
            they = f"they are {weights.network}'s, with embedding_dim {weights.embedding_dim or 'as usual'}"
        raise OctoscaleError(f"weights {path} do not fit {type(backbone).__name__}: {listed}; {they}")
    for key, value in state.items():
        if not value.isfinite().all():
            raise OctoscaleError(f"weights {path} are broken: {key} has numbers that are not finite; take another file")
    backbone.load_state_dict(state)
    return weights


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the backbone's state_dict (CPU tensors) to `path`, whole or not at all.

    Args:
        network: a FaceNetwork, whose preprocessing is then written beside the tensors and found again by
            `load_weights`; or a backbone alone.
        path: a local file; one that exists is replaced.

    Raises:
        OctoscaleError: the file cannot be written.
    """
    path = Path(path)
    # Clones: a view would be saved with the whole storage behind it.
    cloned = {key: value.detach().cpu().clone() for key, value in _backbone(network).state_dict().items()}
    state: Any = OrderedDict(cloned)
    if isinstance(network, FaceNetwork):
        written = card.card_of(network)
        if isinstance(network.backbone, Graph):
            # Its keys are the graph's own: no network of the library's has them.
            written = written.model_copy(update={"network": ""})
        state._metadata = OrderedDict({card.KEY: written.to_json()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
        temporary.replace(path)
    except OSError as error:
        raise OctoscaleError(f"cannot write weights to {path} ({error}); choose another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def _backbone(network: nn.Module) -> nn.Module:
    return network.backbone if isinstance(network, FaceNetwork) else network


def _first(keys: Collection[str], limit: int = 3) -> str:
    return ", ".join(list(keys)[:limit]) + (", …" if len(keys) > limit else "")
