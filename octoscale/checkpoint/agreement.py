"""A fault of one rank becomes an error on all."""

from collections.abc import Iterator
from contextlib import contextmanager

from octoscale.checkpoint.layout import DamagedError
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError


@contextmanager
def together(world: World, what: str) -> Iterator[None]:
    """So that no rank waits for the others in vain; `what` completes "cannot …"."""
    fault: Exception | None = None
    try:
        yield
    except OSError as error:
        fault = OctoscaleError(f"cannot {what}: {error}")
    except Exception as error:  # Any: it is raised again when the others know.
        fault = error
    told = None if fault is None else (isinstance(fault, DamagedError), str(fault) or repr(fault))
    faults = world.gather(told)
    if fault is not None:
        raise fault
    for rank, other in enumerate(faults):
        if other is not None:
            damaged, text = other
            raise (DamagedError if damaged else OctoscaleError)(f"cannot {what}: rank {rank} failed: {text}")
