"""How far an evaluation is: the images that have gone through the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def counted(network: nn.Module, total: int, show: Callable[[int, int], None], *, ranks: int = 1) -> Iterator[None]:
    """While the block lasts `show` is told, after each forward pass, how many images of `total` there have been.

    Args:
        ranks: that share the images; the others are taken to be as far as this one.
    """
    done = 0

    def count(module: nn.Module, arguments: tuple[Tensor, ...], embeddings: Tensor) -> None:
        nonlocal done
        done += ranks * len(embeddings)
        show(min(done, total), total)

    hook = network.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
