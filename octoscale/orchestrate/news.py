"""What rank 0 tells of the run, wherever it is, reaches the driver: for its display, and for programs."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from octoscale.orchestrate.beside import LOOK_SECONDS, beside_the_driver, looking
from octoscale.telemetry.output import Tell

logger = logging.getLogger(__name__)

_LAST_SECONDS = 5.0
# News that nobody fetches are no reason to run out of memory.
_MOST_NEWS = 100_000

News = list[tuple[str, dict[str, Any]]]


class _Post:
    def __init__(self) -> None:
        self._news: News = []

    def put(self, news: News) -> None:
        self._news = [*self._news, *news][-_MOST_NEWS:]

    def take(self) -> News:
        news, self._news = self._news, []
        return news


@contextmanager
def heard(tell: Tell) -> Iterator[str]:
    """Hand on to `tell` what is told under the name that this yields; all of it has come when the block ends."""
    with beside_the_driver(_Post, "news") as (name, post):

        def fetch() -> bool:
            with suppress(ray.exceptions.RayError):
                for event, values in ray.get(post.take.remote()):
                    tell(event, **values)
            return False

        try:
            with looking(fetch, "news"):
                yield name
        finally:
            fetch()


@contextmanager
def telling(name: str) -> Iterator[Tell]:
    """Tell `heard` of this name: a few times a second, whatever the number of events. Only the end waits for it."""
    try:
        post = ray.get_actor(name)
    except ValueError:
        post = None
    lock = threading.Lock()
    waiting: News = []
    sent = 0.0

    def send() -> ray.ObjectRef | None:
        nonlocal waiting, sent
        news, waiting, sent = waiting, [], time.monotonic()
        return post.put.remote(news) if post is not None and news else None

    def tell(event: str, /, **values: Any) -> None:
        # Commits are told from a thread of their own.
        with lock:
            waiting.append((event, values))
            if event != "step" or time.monotonic() - sent >= LOOK_SECONDS:
                send()

    try:
        yield tell
    finally:
        with lock, suppress(ray.exceptions.RayError):
            # This process may end now, and what it has not sent with it.
            if (last := send()) is not None:
                ray.get(last, timeout=_LAST_SECONDS)
