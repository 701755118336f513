"""Which cells run, and what becomes of failures and of the wish to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import octoscale.reproduce.sweep
from octoscale.errors import OctoscaleError
from octoscale.reproduce.cells import Cell, before_and_after_cell, figure4_cells
from octoscale.reproduce.process import StoppedError, Wish
from octoscale.reproduce.sweep import Swept, sweep, train_here
from tests.unit.reproduce.conftest import Finish, base_config


class Told:
    def __init__(self) -> None:
        self.cells: list[tuple[str, str]] = []
        self.stages: list[tuple[str, int, int]] = []

    def cell(self, cell: Cell, status: str, error: str | None = None, /) -> None:
        self.cells.append((cell.name, status))

    def stage(self, stage: str, done: int, total: int, /) -> None:
        self.stages.append((stage, done, total))


@pytest.fixture
def cells(sweep_folder: str) -> Sequence[Cell]:
    return figure4_cells(base_config(), sweep_folder, [1.0, 2.0, 3.0], [64])


@pytest.fixture
def _ctrl_c_interrupts() -> Iterator[None]:
    """As in a terminal; pytest's worker processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


A, B, C = (f"margin-{number}-batch-64" for number in (1, 2, 3))


def run(cells: Sequence[Cell], train: Callable[[Cell, Wish], None], parallel: int = 1) -> tuple[Swept, Told]:
    told = Told()

    def here(cell: Cell, file: Path, wish: Wish, show: Callable[[int, int], None]) -> None:
        assert cell.config.to_yaml() == file.read_text()
        show(50, 100)
        train(cell, wish)

    return sweep(cells, here, parallel=parallel, show=told.stage, tell=told.cell), told


@pytest.mark.parametrize("parallel", [1, 3])
def test_what_is_finished_does_not_run_again(cells: Sequence[Cell], finish: Finish, parallel: int) -> None:
    finish(cells[1], 0.9)

    swept, told = run(cells, lambda cell, wish: finish(cell, 0.8), parallel)

    assert sorted(told.cells) == [(A, "finished"), (A, "running"), (C, "finished"), (C, "running")]
    assert sorted(told.stages) == [(A, 50, 100), (C, 50, 100)]
    assert {found.status for found in swept.found.values()} == {"finished"}
    assert (swept.errors, swept.stopped) == ({}, False)
    assert run(cells, lambda cell, wish: finish(cell, 0.8))[1].cells == []


def test_one_that_fails_stops_no_other(cells: Sequence[Cell], finish: Finish) -> None:
    def train(cell: Cell, wish: Wish) -> None:
        if cell.name == A:
            raise OctoscaleError("out of memory")
        finish(cell, 0.9)

    swept, told = run(cells, train)

    assert [(name, status) for name, status in told.cells if status != "running"] == [
        (A, "failed"), (B, "finished"), (C, "finished"),
    ]  # fmt: skip
    assert (swept.errors, swept.found[A].status, swept.stopped) == ({A: "out of memory"}, "missing", False)


def test_one_that_ends_without_a_result_has_failed(cells: Sequence[Cell]) -> None:
    swept, _ = run(cells, lambda cell, wish: None)
    assert set(swept.errors) == {A, B, C}
    assert "without its evaluation or its weights" in swept.errors[A]


@pytest.mark.usefixtures("_ctrl_c_interrupts")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_running_one_and_begins_no_other(
    cells: Sequence[Cell], finish: Finish, signum: signal.Signals
) -> None:
    def train(cell: Cell, wish: Wish) -> None:
        finish(cell, 0.9)
        if cell.name == B:
            os.kill(os.getpid(), signum)
            while not wish.asked:
                pass
            raise StoppedError

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    swept, told = run([cells[0], cells[1], cells[2]], train)

    assert told.cells == [(A, "running"), (A, "finished"), (B, "running"), (B, "stopped")]
    assert (swept.stopped, swept.found[C].status) == (True, "missing")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_one_that_was_stopped_from_outside_ends_the_sweep(cells: Sequence[Cell]) -> None:
    def train(cell: Cell, wish: Wish) -> None:
        raise StoppedError

    swept, told = run(cells, train)
    assert told.cells == [(A, "running"), (A, "stopped")]
    assert swept.stopped


def test_nothing_runs_where_a_directory_holds_another_run(cells: Sequence[Cell], finish: Finish) -> None:
    other = figure4_cells(base_config(seed=9), str(Path(cells[2].config.directory).parent), [3.0], [64])
    finish(other[0], 0.9)
    with pytest.raises(OctoscaleError, match="seed was 9, is 0"):
        run(cells, lambda cell, wish: pytest.fail("it ran"))


def test_what_no_one_has_foreseen_stops_no_other_either(cells: Sequence[Cell], finish: Finish) -> None:
    def train(cell: Cell, wish: Wish) -> None:
        if cell.name == A:
            raise OSError("no space left")
        finish(cell, 0.9)

    swept, told = run(cells, train)

    assert [(name, status) for name, status in told.cells if status != "running"] == [
        (A, "failed"), (B, "finished"), (C, "finished"),
    ]  # fmt: skip
    assert swept.errors == {A: "OSError: no space left"}


def test_one_that_is_stopped_and_cannot_be_looked_at_is_stopped_all_the_same(cells: Sequence[Cell]) -> None:
    def train(cell: Cell, wish: Wish) -> None:
        folder = Path(cell.config.directory)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("[1]")
        raise StoppedError

    swept, told = run(cells, train)
    assert told.cells == [(A, "running"), (A, "stopped")]
    assert (swept.errors, swept.stopped) == ({}, True)


def test_a_benchmark_that_is_not_there_is_found_before_anything_runs(tmp_path: Path, sweep_folder: str) -> None:
    evaluate = {"benchmarks": {"calfw": {"pairs": str(tmp_path / "absent.txt"), "images": str(tmp_path)}}}
    cell = before_and_after_cell(base_config(evaluate=evaluate), sweep_folder)
    with pytest.raises(OctoscaleError, match=r"^evaluate\.benchmarks\.calfw: .*absent\.txt"):
        run([cell], lambda cell, wish: pytest.fail("it ran"))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_the_second_ctrl_c_ends_what_runs_at_once(cells: Sequence[Cell]) -> None:
    ended = threading.Event()

    def train(cell: Cell, wish: Wish) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: wish.asked)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: wish.at_once)
        ended.set()
        raise StoppedError

    with pytest.raises(KeyboardInterrupt):
        run(cells, train)
    assert ended.is_set()


@pytest.mark.parametrize(("workers", "command"), [("1", "train"), ("2", "launch"), ("1..4", "launch")])
def test_several_workers_are_launched(
    monkeypatch: pytest.MonkeyPatch, sweep_folder: str, tmp_path: Path, workers: str, command: str
) -> None:
    called: list[str] = []
    monkeypatch.setattr(octoscale.reproduce.sweep, "run_command", lambda arguments, *_, **__: called.extend(arguments))
    cell = before_and_after_cell(base_config(resilience={"workers": workers}), sweep_folder)
    train_here(cell, tmp_path / "run.yaml", Wish(), lambda done, total: None)
    assert called == [command, str(tmp_path / "run.yaml")]
