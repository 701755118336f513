"""Face networks: load one by name, with its preprocessing attached."""

from octoscale.models.batch_norm import set_training
from octoscale.models.compiled import check_compiler, compile_backbone, uncompiled
from octoscale.models.network import FaceNetwork, Preprocessing
from octoscale.models.recompute import recompute_activations
from octoscale.models.registry import load
from octoscale.models.weights import read_weights, save_weights

__all__ = [
    "FaceNetwork",
    "Preprocessing",
    "check_compiler",
    "compile_backbone",
    "load",
    "read_weights",
    "recompute_activations",
    "save_weights",
    "set_training",
    "uncompiled",
]
