"""Asks all workers of one group to commit at their next step and leave: heard wherever they are, rung once."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from octoscale.interruption import Interruption

_LOOK_SECONDS = 0.2


class _Bell:
    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._why = ""

    async def ring(self, why: str) -> None:
        self._why = self._why or why
        self._rung.set()

    async def heard(self) -> str:
        await self._rung.wait()
        return self._why


@contextmanager
def hung_up(stop: Interruption) -> Iterator[str]:
    """A bell for one group of workers, while the block runs: yields its name. It rings when `stop` is asked."""
    name = f"octoscale-bell-{uuid.uuid4().hex[:8]}"
    # With the driver: where its node dies, the run does.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    bell = ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(_Bell).remote()
    over = threading.Event()

    def watch() -> None:
        # Not in the signal's handler: that may interrupt Ray in a call of its own.
        while not over.wait(_LOOK_SECONDS):
            if stop.asked:
                ring(name, "the run was asked to end")
                return

    thread = threading.Thread(target=watch, name="bell", daemon=True)
    thread.start()
    try:
        yield name
    finally:
        over.set()
        thread.join()
        ray.kill(bell)


def ring(name: str, why: str) -> None:
    """Ask the workers to leave; a group that has left hears nothing any more."""
    with suppress(ValueError, ray.exceptions.RayError):
        ray.get_actor(name).ring.remote(why)


def listen(name: str) -> str | None:
    """Wait until the bell of this name rings; why it did, None where it is gone."""
    with suppress(ValueError, ray.exceptions.RayError):
        why: str = ray.get(ray.get_actor(name).heard.remote())
        return why
    return None
