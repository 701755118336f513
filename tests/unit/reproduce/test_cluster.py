"""Cells as jobs: what becomes of one that an earlier command has left running."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from octoscale.reproduce.cells import Cell, before_and_after_cell
from octoscale.reproduce.process import StoppedError, Wish
from tests.unit.reproduce.conftest import base_config

pytest.importorskip("ray")

from octoscale.errors import OctoscaleError
from octoscale.orchestrate.job import Job
from octoscale.orchestrate.submission import JobPlan
from octoscale.reproduce import cluster


class Server:
    """A job server on which one job runs; each that is followed ends as the next of `ends`: (status, exit code)."""

    ends: list[tuple[str, int | None]]
    submitted: list[int]
    plan: JobPlan

    def __init__(self, address: str) -> None:
        self.address = address

    def jobs(self) -> list[Job]:
        return [job(1, "RUNNING", None)]

    def follow(self, name: str, write: Callable[[str], None]) -> Job:
        return job(int(name), *self.ends.pop(0))

    def next_attempt(self, plan: JobPlan) -> SimpleNamespace:
        return SimpleNamespace(id="2", attempt=2)

    def submit(self, submission: SimpleNamespace) -> None:
        self.submitted.append(int(submission.id))


def job(attempt: int, status: str, code: int | None) -> Job:
    return Job(str(attempt), Server.plan.run, attempt, None, status, "", code, None, None)


def follow(cell: Cell, max_resubmissions: int, *ends: tuple[str, int | None], wish: Wish | None = None) -> list[int]:
    """The attempts that were submitted after the running one, the first."""
    train = cluster.TrainOnCluster(
        "http://head:8265", [cell], env=(), secrets=(), installed=True, max_resubmissions=max_resubmissions
    )
    Server.ends, Server.submitted, Server.plan = list(ends), [], train._plans[cell.name]
    train(cell, Path("unused"), wish or Wish(), lambda done, total: None)
    return Server.submitted


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cell:
    monkeypatch.setattr(cluster, "JobServer", Server)
    evaluate = {"pairs": str(tmp_path / "pairs.txt"), "images": str(tmp_path)}
    return before_and_after_cell(base_config(data={"url": str(tmp_path)}, evaluate=evaluate), str(tmp_path / "sweep"))


DIED, DONE = ("FAILED", None), ("SUCCEEDED", 0)


def test_one_that_ends_well_is_not_submitted_again(cell: Cell) -> None:
    assert follow(cell, 2, DONE) == []


def test_one_whose_driver_died_is_submitted_again(cell: Cell) -> None:
    assert follow(cell, 1, DIED, DONE) == [2]


@pytest.mark.parametrize(("left", "ends"), [(0, [DIED]), (1, [DIED, DIED]), (3, [("FAILED", 1)])])
def test_not_oftener_than_was_allowed_nor_after_an_error_of_its_own(
    cell: Cell, left: int, ends: list[tuple[str, int | None]]
) -> None:
    with pytest.raises(OctoscaleError, match="failed, exit code 1"):
        follow(cell, left, *ends)
    assert Server.ends == []


def test_nor_where_it_was_asked_to_stop(cell: Cell) -> None:
    wish = Wish()
    wish.ask()
    with pytest.raises(StoppedError):
        follow(cell, 3, ("FAILED", 75), wish=wish)
    assert Server.submitted == []
