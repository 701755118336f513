"""The progress of a run: a bar in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[text]}", markup=False),
)


class ShowProgress(Protocol):
    """Called with what is done so far and a short text beside it."""

    def __call__(self, done: int, text: str = "") -> None:
        """Show that `done` are done."""


@contextmanager
def progress(console: Console, what: str, total: int, *, done: int = 0, quiet: bool = False) -> Iterator[ShowProgress]:
    """Show `what` from `done` to `total`.

    In a terminal a bar with elapsed and remaining time; elsewhere nothing, since the log's lines tell.
    """
    if quiet or not console.is_terminal:
        yield lambda done, text="": None
        return
    with Progress(*_COLUMNS, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done, text="")
        yield lambda done, text="": bar.update(task, completed=done, text=text)


@contextmanager
def stages(console: Console, *, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each named stage: yields a function of (stage, done, total)."""
    if quiet or not console.is_terminal:
        yield lambda stage, done, total: None
        return
    with Progress(*_COLUMNS, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, text="")
            bar.update(tasks[stage], completed=done, total=total)

        yield show
