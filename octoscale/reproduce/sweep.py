"""Runs the cells that are not finished, one after the other or a few at a time; one that fails stops no other."""

import json
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from octoscale.errors import OctoscaleError
from octoscale.interruption import Interruption, interruption
from octoscale.reproduce.cells import Cell
from octoscale.reproduce.found import Found, look
from octoscale.reproduce.process import StoppedError, run_command
from octoscale.telemetry.progress import ShowStage

logger = logging.getLogger(__name__)


class Train(Protocol):
    """Trains one cell to its end, wherever that is."""

    def __call__(self, cell: Cell, file: Path, wish: Interruption, show: Callable[[int, int], None]) -> None:
        """Train it; `file` is its configuration, `show` is told steps done and to do.

        Raises:
            StoppedError: asked to stop.
            OctoscaleError: it has failed.
        """


class TellCell(Protocol):
    """Called when a cell begins, ends, fails or is stopped."""

    def __call__(self, cell: Cell, status: str, error: str | None = None, /) -> None:
        """Tell of it. From any thread."""


@dataclass(frozen=True)
class Swept:
    """How a sweep went.

    Attributes:
        found: what there is now, by cell.
        errors: of the cells that failed.
        stopped: the sweep was asked to stop before its end.
    """

    found: Mapping[str, Found]
    errors: Mapping[str, str]
    stopped: bool


def sweep(cells: Sequence[Cell], train: Train, *, parallel: int, show: ShowStage, tell: TellCell) -> Swept:
    """Run what is not finished of `cells`, until SIGTERM or Ctrl-C.

    Args:
        parallel: cells at a time.
        show: told of each cell's steps.

    Raises:
        OctoscaleError: a cell's directory holds another run; nothing has run then.
    """
    found = {cell.name: look(cell) for cell in cells}
    waiting = [cell for cell in cells if found[cell.name].status != "finished"]
    errors: dict[str, str] = {}
    show = _one_at_a_time(show)
    with _asked_to_stop() as wish:

        def run(cell: Cell) -> None:
            if wish.asked:
                return
            tell(cell, "running")
            try:
                _run(cell, found[cell.name], train, wish, show)
                found[cell.name] = look(cell)
                if found[cell.name].status != "finished":
                    raise OctoscaleError("it has ended without its evaluation or its weights; run this again")
            except StoppedError:
                # A process that was stopped from outside is the machine's wish, not that of one cell.
                wish.ask()
                found[cell.name] = look(cell)
                tell(cell, "stopped")
            except OctoscaleError as error:
                errors[cell.name] = str(error)
                tell(cell, "failed", str(error))
            else:
                tell(cell, "finished")

        with ThreadPoolExecutor(parallel) as pool:
            for future in [pool.submit(run, cell) for cell in waiting]:
                future.result()
    stopped = wish.asked and any(
        found[cell.name].status != "finished" and cell.name not in errors for cell in waiting
    )  # fmt: skip
    return Swept(found, errors, stopped)


def _run(cell: Cell, found: Found, train: Train, wish: Interruption, show: ShowStage) -> None:
    """Whatever `found` lacks: the training, then the benchmarks after and before it."""
    with tempfile.TemporaryDirectory(prefix="octoscale-cell-") as folder:
        file = Path(folder, "run.yaml")
        file.write_text(cell.config.to_yaml())
        if not found.trained:
            train(cell, file, wish, lambda done, total: show(cell.name, done, total))
        # The run's newest network, and the one that its configuration starts from. What the run has written down may
        # name fewer benchmarks than are wanted now.
        here = [f"{key}={json.dumps(cell.config.model_dump(mode='json')[key])}" for key in ("storage", "evaluate")]
        for target, lacking in (
            ([cell.config.directory, *here], found.lacking_after), ([str(file)], found.lacking_before),
        ):  # fmt: skip
            if lacking:
                options = [part for name in lacking for part in ("--benchmark", name)]
                run_command(
                    ["evaluate", *target, *options, "--keep"], wish,
                    take=partial(_show_progress, cell.name, show), warn=partial(_warn, cell.name),
                )  # fmt: skip


def train_here(cell: Cell, file: Path, wish: Interruption, show: Callable[[int, int], None]) -> None:
    """`Train` in a process of its own on this machine."""

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            show(event["step"], event["steps"])

    run_command(["train", str(file)], wish, take=take, warn=partial(_warn, cell.name))


def _show_progress(name: str, show: ShowStage, event: dict[str, Any]) -> None:
    if event["event"] == "progress":
        show(f"{name}: {event['stage']}", event["done"], event["total"])


def _warn(name: str, line: str) -> None:
    logger.warning("%s: %s", name, line)


def _one_at_a_time(show: ShowStage) -> ShowStage:
    lock = threading.Lock()

    def locked(stage: str, done: int, total: int, /) -> None:
        with lock:
            show(stage, done, total)

    return locked


@contextmanager
def _asked_to_stop() -> Iterator[Interruption]:
    """SIGTERM and the first Ctrl-C as a wish; a second Ctrl-C is what it always was."""
    with interruption() as wish:
        if threading.current_thread() is not threading.main_thread():
            yield wish
            return
        before = signal.getsignal(signal.SIGINT)

        def first(signum: int, frame: FrameType | None) -> None:
            wish.ask()
            logger.warning("asked to stop: what runs commits first")
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)

        signal.signal(signal.SIGINT, first)
        try:
            yield wish
        finally:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
