"""The backbone under torch.compile: fewer and larger kernels, forward and backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from octoscale.errors import OctoscaleError, first_line
from octoscale.models.network import FaceNetwork

# Dropout draws from PyTorch's generators, as without a compiler: the second pass of a step repeats the first one's.
_OPTIONS: dict[str, Any] = {"fallback_random": True}
_NEEDED = {
    "cpu": "a C++ compiler and Python's headers (Debian: apt-get install g++ python3-dev; CXX names another compiler)",
    "cuda": "Triton, which PyTorch for Linux brings, and a C compiler with Python's headers "
    "(Debian: apt-get install gcc python3-dev; CC names another compiler)",
}


def compile_backbone(network: FaceNetwork) -> None:
    """From now on the backbone is compiled, when it is first called without gradient, with it, in another mode.

    The size of the first batch is compiled as it is; from the second size on one compilation serves all. Names of
    parameters and buffers stay what they are. To be called before a wrapper, such as DDP, is put around the network.
    """
    # Not the whole forward pass: how a CPU cuts a batch into slices is Python, and would be compiled for each batch
    # size. And not `backbone.compile()`: of an nn.Sequential that compiles only what modules of one's own it holds.
    network.embed_slice = torch.compile(FaceNetwork.plain, options=_OPTIONS)


@contextmanager
def uncompiled(network: nn.Module) -> Iterator[None]:
    """While it lasts, `network` computes what it would have computed had it never been compiled."""
    if not isinstance(network, FaceNetwork):
        yield
        return
    compiled, network.embed_slice = network.embed_slice, FaceNetwork.plain
    try:
        yield
    finally:
        network.embed_slice = compiled


def check_compiler(device: torch.device) -> None:
    """Compile an addition for `device`.

    Raises:
        OctoscaleError: torch.compile does not work on this machine; it is said what is missing.
    """
    try:
        # Without the cache: what an earlier process has compiled needs no compiler.
        torch.compile(_addition, options={"fx_graph_cache": False})(torch.zeros(8, device=device))
    except Exception as error:  # the compiler, the linker, Triton: they have no common base
        first = first_line(error)
        raise OctoscaleError(
            f"model.compile=true, but PyTorch cannot compile here ({first}): install "
            f"{_NEEDED.get(device.type, 'what torch.compile needs on this device')}, or set model.compile=false"
        ) from error


def _addition(x: Tensor) -> Tensor:
    return x + 1
