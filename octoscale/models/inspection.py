"""What is in a file of weights, or of a whole network, without making the network."""

from pathlib import Path
from typing import Any

from octoscale.errors import OctoscaleError
from octoscale.models.dialects import DialectName
from octoscale.models.graph_facts import graph_facts
from octoscale.models.graph_file import holds_graph
from octoscale.models.network import Preprocessing
from octoscale.models.weights import read_weights


def inspect_file(path: Path, dialect: DialectName | None = None) -> dict[str, Any]:
    """Whose weights these are, and what their network expects; None where it cannot be told. Nothing in it runs.

    Args:
        dialect: of weights: read them as this one.

    Raises:
        OctoscaleError: no such file, or it can be read as nothing of the kind.
    """
    if not path.is_file():
        raise OctoscaleError(f"no file {path}; give the path of a local file")
    if holds_graph(path):
        if dialect is not None:
            raise OctoscaleError(f"dialect is {dialect}, of weights, and {path} is a whole network; leave it out")
        return _graph(path)
    weights = read_weights(path, dialect)
    return {
        "dialect": weights.dialect,
        "candidates": list(weights.candidates),
        "network": weights.network,
        "embedding_dim": weights.embedding_dim,
        **_prepared(weights.preprocessing),
        "batch_norm_epsilon": weights.batch_norm_epsilon,
        "parameters": weights.parameters,
        "tensors": len(weights.state),
        "left_out": sorted(weights.heads),
        "octoscale": weights.octoscale,
    }


def _graph(path: Path) -> dict[str, Any]:
    facts = graph_facts(path)
    card = facts.card
    return {
        "dialect": card and card.dialect,
        "network": card and card.network,
        "embedding_dim": facts.embedding_dim,
        **_prepared(None if card is None else card.preprocessing),
        "image_size": facts.image_size,
        "parameters": facts.parameters,
        "tensor_bytes": facts.tensor_bytes,
        "octoscale": card and card.octoscale,
    }


def _prepared(preprocessing: Preprocessing | None) -> dict[str, Any]:
    if preprocessing is None:
        return {"color": None, "mean": None, "std": None}
    return {"color": preprocessing.color, "mean": list(preprocessing.mean), "std": list(preprocessing.std)}
