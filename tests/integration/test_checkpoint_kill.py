"""kill -9 at every stage of a commit, and two writers of one run in every order: the run always loads and goes on."""

import random
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from octoscale.checkpoint import CheckpointConfig, Checkpoints, Position
from octoscale.config import parse_config
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError
from octoscale.journal import read_journal
from octoscale.train import train
from tests.conftest import SmallRun
from tests.integration.killed import in_process, kill_at

# Of the commit of a step, by the change of the store that is the last one before the kill, or the first one after it.
STAGES: dict[str, tuple[str, str, bool]] = {
    "before the parts": ("upload", "/step-{step}-", False),
    "between two parts": ("upload", "/step-{step}-", True),
    "before the manifest": ("write", "/manifest.json", False),
    "before the commit": ("write", "/manifest.json", True),
    "after the commit": ("write", "/commits/{step}-", True),
    "before the sweep": ("delete", "/commits/", False),
    "amid the sweep": ("delete", "/commits/", True),
    "after the sweep of the parts": ("delete", "/step-", True),
}


def state_of(step: int) -> dict[str, Any]:
    return {"model": {"weight": torch.full((64,), float(step)), "count": torch.tensor(step)}}


def go_on(folder: str, until: int, *, asynchronous: bool = True) -> None:
    """An attempt: load the newest commit, check it, commit every step up to `until`."""
    torch.set_num_threads(1)
    settings = CheckpointConfig(keep_last=1, keep_best=False, asynchronous=asynchronous)
    with Checkpoints(folder, World(), settings) as checkpoints:
        checkpoints.claim()
        newest = checkpoints.newest()
        step = 0 if newest is None else newest.step
        if newest is not None:
            state = state_of(-1)
            checkpoints.load(state, newest)
            assert (state["model"]["weight"] == step).all()
            assert state["model"]["count"] == step
        for following in range(step + 1, until + 1):
            checkpoints.commit(state_of(following), Position(following), {}, None)


def go_on_until_killed(folder: str, until: int, stage: str, step: int) -> None:
    kind, pattern, after = STAGES[stage]
    part = pattern.format(step=f"{step:08d}")
    begun = [False]

    def is_it(number: int, method: str, name: str) -> bool:
        begun[0] |= f"/step-{step:08d}-" in name
        return begun[0] and method == kind and part in name

    kill_at(is_it, after=after)
    go_on(folder, until)


def whole_and_swept(folder: Path, step: int) -> None:
    checkpoints = Checkpoints(str(folder), World(), CheckpointConfig())
    (commit,) = checkpoints.commits()
    assert commit.step == step
    state = state_of(-1)
    checkpoints.load(state, commit)
    assert (state["model"]["weight"] == step).all()
    assert [path.name for path in folder.glob("step-*")] == [commit.prefix]
    assert not list(folder.rglob("*.partial"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_at_any_stage_of_a_commit_loads_and_goes_on(tmp_path: Path, stage: str) -> None:
    assert in_process(go_on_until_killed, str(tmp_path), 5, stage, 3) == -9
    newest = Checkpoints(str(tmp_path), World(), CheckpointConfig()).commits()[-1]
    assert newest.step == (2 if list(STAGES).index(stage) < 4 else 3)

    assert in_process(go_on, str(tmp_path), 5) == 0

    whole_and_swept(tmp_path, 5)


def train_until_killed(values: dict[str, Any], number: int, after: bool) -> None:
    torch.set_num_threads(1)
    changes = count()

    def is_it(_: int, method: str, name: str) -> bool:
        return "/checkpoints/" in name and next(changes) == number

    kill_at(is_it, after=after)
    train(parse_config(values, source="of the test"), World(), quiet=True)


def train_whole(values: dict[str, Any]) -> None:
    train_until_killed(values, -1, False)


def assert_same_run(found: Path, expected: Path) -> None:
    lines = [
        [(line.step, line.sample_ids_crc32, line.result.loss) for line in read_journal(Store(str(folder)))]
        for folder in (found, expected)
    ]
    assert lines[0] == lines[1]
    weights, wanted = (torch.load(folder / "weights.pt", weights_only=True) for folder in (found, expected))
    for name, value in wanted.items():
        assert torch.equal(weights[name], value), name


def test_a_training_killed_in_three_commits_gives_the_bits_of_an_undisturbed_one(
    tmp_path: Path, small_run: SmallRun
) -> None:
    changes = {"steps": 6, "checkpoint": {"every_steps": 1}}
    assert in_process(train_whole, small_run(tmp_path / "whole", **changes)) == 0
    values = small_run(tmp_path / "killed", **changes)
    # The probe and the claim are four changes, a commit is four, and a sweep two.
    for number in (9, 13, 17):
        assert in_process(train_until_killed, values, number, False) == -9
    assert in_process(train_whole, values) == 0

    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def go_on_until_a_random_kill(folder: str, until: int, seed: int) -> None:
    draw = random.Random(seed)
    number, after = draw.randrange(60), draw.random() < 0.5
    kill_at(lambda change, method, name: change == number, after=after)
    go_on(folder, until, asynchronous=draw.random() < 0.8)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_after_two_hundred_kills_at_random_points_every_run_loads(tmp_path: Path) -> None:
    kills = run = 0
    while kills < 220:
        folder = tmp_path / str(run)
        for _ in range(10):
            seed = run * 1000 + kills
            ended = in_process(go_on_until_a_random_kill, str(folder), 40, seed)
            assert ended in (0, -9), (run, seed)
            kills += ended == -9
        assert in_process(go_on, str(folder), 45) == 0
        whole_and_swept(folder, 45)
        run += 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_training_killed_at_twenty_random_points_gives_the_bits_of_an_undisturbed_one(
    tmp_path: Path, small_run: SmallRun
) -> None:
    changes = {"steps": 80, "checkpoint": {"every_steps": 1}}
    assert in_process(train_whole, small_run(tmp_path / "whole", **changes)) == 0
    values = small_run(tmp_path / "killed", **changes)
    draw, kills = random.Random(0), 0
    for _ in range(20):
        kills += in_process(train_until_killed, values, draw.randrange(5, 25), draw.random() < 0.5) == -9
    assert in_process(train_whole, values) == 0

    assert kills >= 10
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


# Two writers.


class Stepped(Store):
    """A store whose every request waits for its writer's turn."""

    def __init__(self, url: str, turn: Callable[[], None]) -> None:
        super().__init__(url)
        object.__setattr__(self, "turn", turn)

    def __getattribute__(self, name: str) -> Any:
        if name in ("read", "write", "upload", "download", "list", "delete", "exists"):
            object.__getattribute__(self, "turn")()
        return super().__getattribute__(name)


class Turns:
    """Lets the zombie make `pauses[0]` requests, then the other writer `pauses[1]`, and so on; then the rest."""

    def __init__(self, pauses: list[int]) -> None:
        self._pauses = pauses
        self._done = [False, False]
        self._condition = threading.Condition()

    def turn(self, who: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._whose() == who, timeout=30)
            if self._pauses:
                self._pauses[0] -= 1
                if self._pauses[0] == 0:
                    self._pauses.pop(0)
                    self._first = 1 - self._first
            self._condition.notify_all()

    _first = 0

    def _whose(self) -> int:
        return 1 - self._first if self._done[self._first] else self._first

    def end(self, who: int) -> None:
        with self._condition:
            self._done[who] = True
            self._condition.notify_all()


def attempt_in(folder: Path) -> Checkpoints:
    settings = CheckpointConfig(keep_last=1, keep_best=False, asynchronous=False)
    return Checkpoints(str(folder), World(), settings)


def commit_marked(checkpoints: Checkpoints, step: int, mark: float) -> None:
    state = {"weight": torch.full((4,), mark), "step": torch.tensor(step)}
    checkpoints.commit(state, Position(step), {}, None)


def load_marked(checkpoints: Checkpoints) -> tuple[int, float]:
    newest = checkpoints.newest()
    assert newest is not None
    state = {"weight": torch.zeros(4), "step": torch.tensor(-1)}
    checkpoints.load(state, newest)
    assert int(state["step"]) == newest.step
    return newest.step, float(state["weight"][0])


def race(folder: Path, pauses: list[int]) -> tuple[int, int]:
    """A zombie commits steps 2 and 3 while a newer attempt begins, loads and commits one; requests of both."""
    zombie, newer = attempt_in(folder), attempt_in(folder)
    commit_marked(zombie, 1, 1.0)
    turns, requests, faults = Turns(pauses), [0, 0], []
    resumed: list[tuple[int, float]] = []

    def turn(who: int) -> None:
        turns.turn(who)
        requests[who] += 1

    zombie.store = Stepped(str(folder), partial(turn, 0))
    newer.store = Stepped(str(folder), partial(turn, 1))

    def old() -> None:
        for step in (2, 3):
            commit_marked(zombie, step, 1.0)

    def new() -> None:
        newer.claim()
        resumed.append(load_marked(newer))
        commit_marked(newer, resumed[0][0] + 1, 2.0)

    def run(who: int, work: Callable[[], None]) -> None:
        try:
            work()
        except OctoscaleError as error:
            # The zombie may also find that the newer attempt has swept the parts that it was writing.
            if who == 1:
                faults.append(error)
        except BaseException as error:
            faults.append(error)
        finally:
            turns.end(who)

    threads = [threading.Thread(target=run, args=(who, work), daemon=True) for who, work in enumerate((old, new))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    # The newer attempt went on from a whole commit, and its own is the newest: no later one of the zombie counts.
    last = attempt_in(folder)
    assert load_marked(last) == (resumed[0][0] + 1, 2.0)
    last.claim()
    commit_marked(last, 9, 3.0)
    assert load_marked(last) == (9, 3.0)
    assert [path.name for path in folder.glob("step-*")] == [last.commits()[-1].prefix]
    return requests[0], requests[1]


def test_a_zombie_that_is_stopped_at_any_request_corrupts_nothing(tmp_path: Path) -> None:
    zombie_requests, _ = race(tmp_path / "none", [10_000])
    for pause in range(1, zombie_requests, 3):
        race(tmp_path / str(pause), [pause, 10_000])


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_writers_in_every_order_of_two_switches_corrupt_nothing(tmp_path: Path) -> None:
    zombie_requests, newer_requests = race(tmp_path / "none", [10_000])
    for first in range(1, zombie_requests):
        for second in range(1, newer_requests + 3):
            race(tmp_path / f"{first}-{second}", [first, second])
