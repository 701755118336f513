"""Looks again and again, and shows what it sees."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

from rich.console import Console
from rich.live import Live

from octoscale.telemetry.output import Output
from octoscale.top.look import Look, Watch
from octoscale.top.screen import render
from octoscale.top.sources import Source

_TIMEOUT_SECONDS = 5.0
_PAGE_WIDTH = 160


def follow(source: Source, console: Console, output: Output, *, every_seconds: float, once: bool) -> bool:
    """Show `source` until the user ends it, or `once`; whether anything was known at the last look.

    A live screen in a terminal, text elsewhere, and for programs an object for each look.
    """
    if output.has_events:
        return _shown(source, every_seconds, once, lambda look: output.event("look", **asdict(look)))
    if once or not console.is_terminal:
        # A file has no width: nothing in it need be broken into two lines.
        page = console if console.is_terminal else Console(file=console.file, width=_PAGE_WIDTH, color_system=None)

        def write(look: Look) -> None:
            page.print(render(look, colours=page.color_system is not None))
            if not once:
                page.print()

        return _shown(source, every_seconds, once, write)
    screen = partial(render, colours=console.color_system is not None)
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        return _shown(source, every_seconds, once, lambda look: live.update(screen(look), refresh=True))


def _shown(source: Source, every_seconds: float, once: bool, show: Callable[[Look], None]) -> bool:
    known = False
    for look in _looks(source, every_seconds):
        show(look)
        known = look.is_known
        if once:
            break
    return known


def _looks(source: Source, every_seconds: float) -> Iterator[Look]:
    watch = Watch()
    while True:
        began = time.monotonic()
        yield watch.take(source.look(min(_TIMEOUT_SECONDS, max(1.0, every_seconds))))
        time.sleep(max(0.0, every_seconds - (time.monotonic() - began)))
