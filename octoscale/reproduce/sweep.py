"""Runs the cells that are not finished, one after the other or a few at a time; one that fails stops no other."""

import json
import logging
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from octoscale.data.storage_config import StorageConfig
from octoscale.errors import OctoscaleError
from octoscale.evaluate.config import EvaluateConfig
from octoscale.evaluate.evaluation import Verification
from octoscale.interruption import interruption
from octoscale.reproduce.cells import Cell
from octoscale.reproduce.found import Found, look
from octoscale.reproduce.process import StoppedError, Wish, run_command
from octoscale.resilience import Workers
from octoscale.telemetry.progress import ShowStage

logger = logging.getLogger(__name__)

# What is left to what runs when it is ended at once.
_END_SECONDS = 5.0


class Train(Protocol):
    """Trains one cell to its end, wherever that is."""

    def __call__(self, cell: Cell, file: Path, wish: Wish, show: Callable[[int, int], None]) -> None:
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
        OctoscaleError: a cell's directory holds another run, or a benchmark cannot be read; nothing has run then.
    """
    found = {cell.name: look(cell) for cell in cells}
    waiting = [cell for cell in cells if found[cell.name].status != "finished"]
    _check_benchmarks(waiting, found)
    errors: dict[str, str] = {}
    show = _one_at_a_time(show)
    with _asked_to_stop() as wish:

        def run(cell: Cell) -> None:
            tell(cell, "running")
            try:
                _run(cell, found[cell.name], train, wish, show)
                found[cell.name] = look(cell)
                if found[cell.name].status != "finished":
                    raise OctoscaleError("it has ended without its evaluation or its weights; run this again")
            except StoppedError:
                # A process that was stopped from outside is the machine's wish, not that of one cell.
                wish.ask()
                with suppress(OctoscaleError, OSError):
                    found[cell.name] = look(cell)
                tell(cell, "stopped")
            except Exception as error:  # Whatever it is, it is this cell's alone.
                known = isinstance(error, OctoscaleError)
                errors[cell.name] = str(error) if known else f"{type(error).__name__}: {error}"
                if not known:
                    logger.warning("%s: unforeseen", cell.name, exc_info=True)
                tell(cell, "failed", errors[cell.name])
            else:
                tell(cell, "finished")

        _run_all(waiting, run, wish, parallel)
    stopped = wish.asked and any(
        found[cell.name].status != "finished" and cell.name not in errors for cell in waiting
    )  # fmt: skip
    return Swept(found, errors, stopped)


def _run_all(cells: Sequence[Cell], run: Callable[[Cell], None], wish: Wish, parallel: int) -> None:
    """Run the cells in threads until `wish`. What is raised meanwhile here, as by a second Ctrl-C, ends all at once."""
    waiting = deque(cells)
    over = threading.Semaphore(0)
    errors: list[Exception] = []

    def work() -> None:
        try:
            while not wish.asked and waiting:
                try:
                    cell = waiting.popleft()
                except IndexError:
                    # Another thread has taken the last.
                    return
                run(cell)
        except Exception as error:
            errors.append(error)
            wish.ask()
        finally:
            over.release()

    # The interpreter would wait at its end for those of a ThreadPoolExecutor, and a job is followed while it runs.
    left = min(parallel, len(cells))
    for _ in range(left):
        threading.Thread(target=work, daemon=True).start()
    try:
        # Not by join: what is raised in one takes the thread for ended, until Python 3.12.
        while left:
            over.acquire()
            left -= 1
    except BaseException:
        wish.ask_at_once()
        deadline = time.monotonic() + _END_SECONDS
        for _ in range(left):
            over.acquire(timeout=max(0.0, deadline - time.monotonic()))
        raise
    for error in errors:
        raise error


def _check_benchmarks(cells: Sequence[Cell], found: Mapping[str, Found]) -> None:
    """Read every benchmark that is yet to be evaluated once, so that what is missing is not found after the training.

    Raises:
        OctoscaleError: a file is missing or malformed.
    """
    wanted: dict[str, tuple[EvaluateConfig, StorageConfig]] = {}
    for cell in cells:
        evaluate, there = cell.config.evaluate, found[cell.name]
        for name in (*there.lacking_before, *there.lacking_after):
            assert evaluate is not None
            wanted[name] = evaluate.on(evaluate.pair_benchmarks[name]), cell.config.storage
    for name, (settings, storage) in wanted.items():
        try:
            Verification.load(settings, storage)
        except OctoscaleError as error:
            raise OctoscaleError(f"evaluate.benchmarks.{name}: {error}") from error


def _run(cell: Cell, found: Found, train: Train, wish: Wish, show: ShowStage) -> None:
    """Whatever `found` lacks: the benchmarks before the training, it, and the benchmarks after it."""
    with tempfile.TemporaryDirectory(prefix="octoscale-cell-") as folder:
        file = Path(folder, "run.yaml")
        file.write_text(cell.config.to_yaml())
        # What the network scored before it is known at once; and what its evaluation lacks, before the training.
        if found.lacking_before:
            _evaluate(cell, [str(file)], found.lacking_before, wish, show)
        if not found.trained:
            train(cell, file, wish, lambda done, total: show(cell.name, done, total))
        if found.lacking_after:
            # What the run has written down may name fewer data sets than are wanted now.
            values = cell.config.model_dump(mode="json")
            now = [f"{key}={json.dumps(values[key], ensure_ascii=False)}" for key in ("storage", "evaluate")]
            _evaluate(cell, [cell.config.directory, *now], found.lacking_after, wish, show)


def _evaluate(cell: Cell, target: Sequence[str], benchmarks: Sequence[str], wish: Wish, show: ShowStage) -> None:
    options = [part for name in benchmarks for part in ("--benchmark", name)]
    run_command(
        ["evaluate", *target, *options, "--keep"], wish,
        take=partial(_show_progress, cell.name, show), warn=partial(_warn, cell.name),
    )  # fmt: skip


def train_here(cell: Cell, file: Path, wish: Wish, show: Callable[[int, int], None]) -> None:
    """`Train` on this machine: in a process of its own, or under Ray where `resilience.workers` wants several."""

    def take(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            show(event["step"], event["steps"])

    several = Workers.parse(cell.config.resilience.workers).maximum > 1
    run_command(["launch" if several else "train", str(file)], wish, take=take, warn=partial(_warn, cell.name))


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
def _asked_to_stop() -> Iterator[Wish]:
    """SIGTERM and the first Ctrl-C as a wish; a second Ctrl-C is what it always was."""
    wish = Wish()
    with interruption(wish):
        before = signal.getsignal(signal.SIGINT)
        # Where Ctrl-C is ignored, as under nohup, it stays so.
        if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
            yield wish
            return

        def first(signum: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
            wish.ask()
            logger.warning("asked to stop: what runs commits first; Ctrl-C again ends it at once")

        signal.signal(signal.SIGINT, first)
        try:
            yield wish
        finally:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
