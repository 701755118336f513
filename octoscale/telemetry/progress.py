"""The progress of long work: bars in a terminal, plain lines elsewhere, objects for programs."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from octoscale.telemetry.output import Output, Tell, silent
from octoscale.telemetry.pace import Figures
from octoscale.telemetry.words import duration, rate, share

# Between two lines, or two objects, of one stage.
_LINE_SECONDS = 10.0
_EVENT_SECONDS = 1.0


class ShowStage(Protocol):
    """Called with a stage's name, what is done of it so far, and how much there is."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Show it."""


@contextmanager
def stages(output: Output) -> Iterator[ShowStage]:
    """Show the stages of one piece of work, one after the other or several at once.

    In a terminal a bar for each; elsewhere a line now and then and one at a stage's end; for programs an object a
    second.
    """
    shown: list[ShowStage] = []
    with ExitStack() as stack:
        if output.has_events:
            shown.append(_Now(_EVENT_SECONDS, lambda stage: output.event("progress", **stage)))
        if not output.quiet:
            bars = output.console.is_terminal
            shown.append(
                stack.enter_context(_bars(output.console)) if bars else _Now(_LINE_SECONDS, _line(output.console))
            )

        def show(stage: str, done: int, total: int, /) -> None:
            for each in shown:
                each(stage, done, total)

        yield show


@dataclass
class _Stage:
    """A stage as it was first heard of, and last told of; moments are of the monotonic clock."""

    began: float
    told: float
    first_seen: float
    first_done: int
    done: int
    ended: bool = False


class _Now:
    """Tells of each stage every so many seconds, and when it is done; several may go on at once."""

    def __init__(self, every_seconds: float, tell: Callable[[dict[str, Any]], None]) -> None:
        self._every_seconds = every_seconds
        self._tell = tell
        self._stages: dict[str, _Stage] = {}
        self._seen = time.monotonic()

    def __call__(self, name: str, done: int, total: int, /) -> None:
        now, ends = time.monotonic(), done >= total
        stage = self._stages.get(name)
        if is_new := stage is None or done < stage.done:
            # Something of it is done when it is first heard of: it began when any other was last seen.
            stage = self._stages[name] = _Stage(self._seen, self._seen, now, done, done)
        assert stage is not None
        self._seen, stage.done = now, done
        # What is done at first may have been done long ago, by a run that goes on: its rate is not known yet.
        if stage.ended or not (ends or (not is_new and now - stage.told >= self._every_seconds)):
            return
        stage.told, stage.ended = now, ends
        elapsed = max(now - stage.began, 1e-9)
        made, seconds = (done, elapsed) if is_new else (done - stage.first_done, max(now - stage.first_seen, 1e-9))
        self._tell(
            {
                "stage": name, "done": done, "total": total, "elapsed_seconds": elapsed,
                "per_second": made / seconds, "eta_seconds": (total - done) * seconds / made if made else None,
            }
        )  # fmt: skip


def _line(console: Console) -> Callable[[dict[str, Any]], None]:
    def write(stage: dict[str, Any]) -> None:
        done, total = stage["done"], stage["total"]
        seconds, speed = stage["elapsed_seconds"], rate(stage["per_second"])
        text = f"{stage['stage']}  {done:,} of {total:,}  "
        if done < total:
            left = "unknown" if stage["eta_seconds"] is None else duration(stage["eta_seconds"])
            text += f"{share(done / total)}  {speed}/s  ETA {left}"
        else:
            text += f"in {f'{seconds:.1f} s' if seconds < 60 else duration(seconds)}, {speed}/s"
        console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, highlight=False, soft_wrap=True)

    return write


@contextmanager
def _bars(console: Console) -> Iterator[ShowStage]:
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Speed(),
        TimeElapsedColumn(), _TimeLeft(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, /) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


class _Speed(ProgressColumn):
    def render(self, task: Task) -> RenderableType:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{rate(speed)}/s")


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> RenderableType:
        return Text("" if task.finished or task.time_remaining is None else f"{duration(task.time_remaining)} left")


# Training.


@contextmanager
def training(console: Console, *, quiet: bool = False, tell: Tell = silent) -> Iterator[Tell]:
    """Show the events of a run that are told to what this yields: a bar and the last step's figures.

    Only in a terminal; elsewhere the log's lines have them. `tell` is told them too.
    """
    if quiet or not console.is_terminal:
        yield tell
        return
    with _Training(console) as display:

        def both(event: str, /, **values: Any) -> None:
            display.take(event, **values)
            tell(event, **values)

        yield both


class _Training(Progress):
    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )  # fmt: skip
        self._figures: Figures | None = None
        self._came = 0.0
        self._task: TaskID | None = None
        super().__init__(*columns, console=console, transient=True, expand=True)

    def take(self, event: str, /, **values: Any) -> None:
        """What happened in the run; from any thread."""
        if event != "step":
            return
        figures = Figures(**values)
        left = f"{duration(figures.eta_seconds)} left"
        self._figures, self._came = figures, time.monotonic()
        if self._task is None:
            self._task = self.add_task("training", completed=figures.step, total=figures.steps, left=left)
        else:
            self.update(self._task, completed=figures.step, total=figures.steps, left=left)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self._figures is not None:
            figures, age = self._figures, self._figures.checkpoint_age_seconds
            if age is not None:
                # The commit gets older while a step takes long.
                figures = replace(figures, checkpoint_age_seconds=age + time.monotonic() - self._came)
            yield Text(" · ".join(_parts(figures)), style="dim", overflow="ellipsis", no_wrap=True)


def step_line(figures: Figures) -> str:
    """A step's figures in the log."""
    left = f"ETA {duration(figures.eta_seconds)}"
    return "  ".join([f"step {figures.step:,} of {figures.steps:,}", *_parts(figures), left])


def _parts(figures: Figures) -> list[str]:
    age = figures.checkpoint_age_seconds
    return [
        f"loss {figures.loss:.4f}",
        f"active {share(figures.active_ratio)}",
        f"{rate(figures.images_per_second)} images/s",
        f"data wait {share(figures.data_wait_ratio)}",
        "no commit yet" if age is None else f"commit {duration(age)} ago",
    ]
