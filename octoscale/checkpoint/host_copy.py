"""A copy of a state in host memory, while the training goes on changing the state itself."""

from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """Copies into the memory of the copy before, which must not be in use any more.

    New memory would be a page fault for every 4 KiB; for a GPU's tensors it is pinned, so that the copies overlap.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[Any, ...], Tensor] = {}

    def take(self, state: dict[str, Any]) -> dict[str, Any]:
        """`state` (nested dicts and lists) with every tensor on the CPU, its own memory apart from the original."""
        used: dict[tuple[Any, ...], Tensor] = {}
        with torch.no_grad():
            copy: dict[str, Any] = self._copy(state, (), used)
        self._memory = used
        if any(tensor.is_pinned() for tensor in used.values()):
            torch.cuda.synchronize()
        return copy

    def _copy(self, value: Any, path: tuple[Any, ...], used: dict[tuple[Any, ...], Tensor]) -> Any:
        if isinstance(value, dict):
            return {key: self._copy(item, (*path, key), used) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(item, (*path, index), used) for index, item in enumerate(value))
        if not isinstance(value, Tensor):
            return value
        memory = self._memory.get(path)
        if memory is None or (memory.shape, memory.dtype) != (value.shape, value.dtype):
            memory = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
        used[path] = memory.copy_(value, non_blocking=True)
        return memory
