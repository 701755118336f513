"""Asks all workers of one group to commit at their next step and leave: heard wherever they are, rung once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray

from octoscale.interruption import Interruption
from octoscale.orchestrate.beside import beside_the_driver, looking


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
    with beside_the_driver(_Bell, "bell") as (name, _):

        def ring_when_asked() -> bool:
            # Not in the signal's handler: that may interrupt Ray in a call of its own.
            if not stop.asked:
                return False
            ring(name, "the run was asked to end")
            return True

        with looking(ring_when_asked, "bell"):
            yield name


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
