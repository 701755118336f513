"""A small actor that lives beside the driver, and a thread of the driver's that looks at it now and then."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOOK_SECONDS = 0.2


@contextmanager
def beside_the_driver(kind: type, what: str) -> Iterator[tuple[str, Any]]:
    """An actor of the class `kind` while the block runs: its name, unlike any other, and its handle."""
    name = f"octoscale-{what}-{uuid.uuid4().hex[:8]}"
    # With the driver: where its node dies, the run does.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, name=name, scheduling_strategy=here)(kind).remote()
    try:
        yield name, actor
    finally:
        ray.kill(actor)


@contextmanager
def looking(look: Callable[[], bool], what: str) -> Iterator[None]:
    """Call `look` a few times a second, in a thread, until it is True or the block ends."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if look():
                return

    thread = threading.Thread(target=watch, name=what, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
