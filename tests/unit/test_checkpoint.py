"""Commits: whole or not at all, verified when read, swept when no longer kept."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octoscale.checkpoint import CheckpointConfig, Checkpoints, Commit, DamagedError, FencedError, Position, best_of
from octoscale.checkpoint.attempts import claims
from octoscale.data.storage import Store
from octoscale.distributed.world import World
from octoscale.errors import OctoscaleError

RECORD = {"identity": {"seed": 1}, "config": {}}
SETTINGS: dict[str, Any] = {}


@pytest.fixture(params=[False, True], ids=["synchronous", "asynchronous"], autouse=True)
def asynchronous(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test with both kinds of commit: what they leave is the same."""
    monkeypatch.setitem(SETTINGS, "asynchronous", request.param)
    return bool(request.param)


def checkpoints_in(folder: Path, **settings: Any) -> Checkpoints:
    settings = {**SETTINGS, **settings}
    return Checkpoints(str(folder), World(), CheckpointConfig(**settings))


def state_of(step: int) -> dict[str, Any]:
    """Tensors that tell the step."""
    return {"model": {"weight": torch.full((3, 5), float(step)), "count": torch.tensor(step)}, "optimizer": {"x": step}}


def commit(checkpoints: Checkpoints, step: int, score: float | None = None) -> None:
    checkpoints.commit(state_of(step), Position(step), RECORD, score)
    checkpoints.wait()


def weight(checkpoints: Checkpoints, found: Commit) -> float:
    state = state_of(-1)
    checkpoints.load(state, found)
    values: Tensor = state["model"]["weight"]
    assert (values == values[0, 0]).all()
    assert state["model"]["count"] == values[0, 0]
    return float(values[0, 0])


def steps(checkpoints: Checkpoints) -> list[int]:
    return [found.step for found in checkpoints.commits()]


def attempts(checkpoints: Checkpoints) -> set[str]:
    return {name.split("/")[0] for name in checkpoints.store.list() if name.startswith("step-")}


def test_a_commit_gives_back_its_state_and_its_record(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    state = {"model": {"w": torch.randn(4, 2), "half": torch.randn(3).bfloat16()}, "optimizer": {"rate": 0.125, "n": 3}}
    expected = {key: value.clone() for key, value in state["model"].items()}

    checkpoints.commit(state, Position(7, 1, 2, 112), RECORD, 0.5)
    checkpoints.wait()

    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.score) == (7, 0.5)
    position = {"step": 7, "epoch": 1, "batch": 2, "samples_seen": 112}
    assert checkpoints.record(found) == {**RECORD, "position": position}
    empty = {"model": {"w": torch.zeros(4, 2), "half": torch.zeros(3).bfloat16()}, "optimizer": {"rate": 0.0, "n": 0}}
    checkpoints.load(empty, found)
    assert torch.equal(empty["model"]["w"], expected["w"])  # type: ignore[arg-type]
    assert torch.equal(empty["model"]["half"], expected["half"])  # type: ignore[arg-type]
    assert empty["optimizer"] == {"rate": 0.125, "n": 3}


def test_an_object_is_named_by_its_content(tmp_path: Path) -> None:
    commit(checkpoints_in(tmp_path), 1)

    (folder,) = tmp_path.glob("step-*")
    found = {path for path in folder.iterdir() if path.name != "manifest.json"}
    assert {path.suffix for path in found} == {".distcp", ".metadata"}
    for path in found:
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_commit_whose_objects_have_the_names_of_their_files_is_read(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    (point,) = checkpoints.commits()
    folder = tmp_path / point.prefix
    content = json.loads((folder / "manifest.json").read_text())
    for name, part in content["parts"].items():
        (folder / part.pop("object")).rename(folder / name)
    data = json.dumps(content).encode()
    (folder / "manifest.json").write_bytes(data)
    former = point.model_copy(update={"manifest_sha256": hashlib.sha256(data).hexdigest()})
    (tmp_path / point.name).write_text(former.model_dump_json())

    state = state_of(-1)
    checkpoints.load(state, checkpoints.commits()[0])

    assert state["model"]["count"] == 1


def test_the_model_loads_without_its_optimizer(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 3)
    state = {"model": state_of(-1)["model"]}

    checkpoints.load(state, checkpoints.commits()[0])

    assert state["model"]["count"] == 3


def test_a_fresh_directory_holds_no_commit(tmp_path: Path) -> None:
    assert checkpoints_in(tmp_path / "absent").newest() is None


def test_nothing_that_a_commit_wrote_is_ever_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = checkpoints_in(tmp_path)
    written: list[str] = []
    upload, write = Store.upload, Store.write

    def note_upload(self: Store, local_path: Path, name: str) -> None:
        written.append(name)
        upload(self, local_path, name)

    def note_write(self: Store, name: str, data: bytes, *, exclusive: bool = False) -> None:
        written.append(name)
        write(self, name, data, exclusive=exclusive)

    monkeypatch.setattr(Store, "upload", note_upload)
    monkeypatch.setattr(Store, "write", note_write)
    for step in (1, 2, 3):
        commit(checkpoints, step)

    assert len(set(written)) == len(written)
    for last in (written[i] for i in range(len(written)) if written[i].startswith("commits/")):
        index = written.index(last)
        assert written[index - 1].endswith("/manifest.json")


# What is kept.


def test_the_last_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=2)
    scores = {1: 0.5, 2: 0.9, 3: None, 4: 0.9, 5: 0.7, 6: None}

    for step, score in scores.items():
        commit(checkpoints, step, score)

    assert steps(checkpoints) == [2, 5, 6]
    assert attempts(checkpoints) == {found.prefix for found in checkpoints.commits()}
    assert [weight(checkpoints, found) for found in checkpoints.commits()] == [2, 5, 6]
    best = best_of(checkpoints.commits())
    assert best is not None
    assert best.step == 2


def test_the_best_is_not_kept_where_that_is_switched_off(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=1, keep_best=False)
    for step, score in ((1, 0.9), (2, 0.1), (3, None)):
        commit(checkpoints, step, score)

    assert steps(checkpoints) == [3]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_neither_best_nor_worst(tmp_path: Path, score: float) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    for step, value in ((1, score), (2, 0.25), (3, score), (4, None)):
        commit(checkpoints, step, value)

    assert steps(checkpoints) == [2, 4]
    assert best_of(checkpoints.commits()[1:]) is None


def test_a_negative_score_can_be_the_best(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    for step, value in ((1, -0.1), (2, -0.5), (3, None)):
        commit(checkpoints, step, value)

    assert steps(checkpoints) == [1, 3]


def test_the_newest_is_kept_even_when_older_than_others(tmp_path: Path) -> None:
    """As when a run goes on from an earlier commit beside one that a second process made."""
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    commit(checkpoints, 9)
    commit(checkpoints, 4)

    assert steps(checkpoints) == [4, 9]
    assert [weight(checkpoints, found) for found in checkpoints.commits()] == [4, 9]


def test_what_is_not_ours_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    for name in ("step-notes/readme.txt", "step-00000001", "other/x", "commits/.DS_Store", "commits/note.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    # The file in the way of step 1's folder is the user's: later steps go on beside it.
    commit(checkpoints, 2)
    commit(checkpoints, 3)

    assert steps(checkpoints) == [3]
    assert (tmp_path / "step-notes/readme.txt").read_text() == "mine"
    assert (tmp_path / "commits/note.json").read_text() == "mine"
    assert checkpoints.newest() == checkpoints.commits()[0]


def test_a_failing_sweep_costs_no_commit_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    commit(checkpoints, 1)

    def refuse(self: Store, name: str) -> None:
        raise OctoscaleError(f"cannot delete {name}: try later")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", refuse)
        commit(checkpoints, 2)
    assert steps(checkpoints) == [1, 2]
    assert "not all old ones are removed" in caplog.text

    commit(checkpoints, 3)

    assert steps(checkpoints) == [3]
    assert len(attempts(checkpoints)) == 1


# A crash at each point.


class Crash(BaseException):
    """The end of the process, in so far as one process can play it: no handler sees it as an error."""


def crash_at(monkeypatch: pytest.MonkeyPatch, call: int, *, after: bool, error: type[BaseException]) -> list[int]:
    """Make the `call`-th change of any store (from 0) fail, before or after it took effect; counts the changes."""
    count = [0]

    def failing(method: Callable[..., None]) -> Callable[..., None]:
        def change(*arguments: Any, **settings: Any) -> None:
            number = count[0]
            count[0] += 1
            if number == call and not after:
                raise error("crash")
            method(*arguments, **settings)
            if number == call:
                raise error("crash")

        return change

    for name in ("write", "upload", "delete"):
        monkeypatch.setattr(Store, name, failing(getattr(Store, name)))
    return count


def changes_of_a_commit(folder: Path) -> int:
    """Changes of the store in the third commit of `keep_last=1`: parts, manifest, commit, and the sweep."""
    checkpoints = checkpoints_in(folder, keep_last=1, keep_best=False)
    commit(checkpoints, 1)
    with pytest.MonkeyPatch.context() as patch:
        count = crash_at(patch, -1, after=False, error=Crash)
        commit(checkpoints, 2)
    return count[0]


def test_after_a_crash_at_any_point_a_whole_commit_loads_and_the_rest_is_swept(tmp_path: Path) -> None:
    changes = changes_of_a_commit(tmp_path / "count")
    # Two parts (tensors, and the metadata), manifest, commit; the old commit and its parts.
    assert changes == 6
    outcomes = []
    for call in range(changes):
        for after in (False, True):
            folder = tmp_path / f"{call}-{after}"
            checkpoints = checkpoints_in(folder, keep_last=1, keep_best=False)
            commit(checkpoints, 1)
            with pytest.MonkeyPatch.context() as patch:
                crash_at(patch, call, after=after, error=Crash)
                with pytest.raises(Crash):
                    commit(checkpoints, 2)

            newest = checkpoints_in(folder).newest()
            assert newest is not None
            assert weight(checkpoints, newest) == newest.step
            outcomes.append(newest.step)
            # Going on: the same step again if it does not count, and the next one.
            for step in range(newest.step + 1, 4):
                commit(checkpoints, step)
            assert steps(checkpoints) == [3]
            assert attempts(checkpoints) == {checkpoints.commits()[0].prefix}
    assert outcomes == [1] * 7 + [2] * 5


@pytest.mark.parametrize("call", range(4))
def test_a_first_commit_that_fails_leaves_a_fresh_run(tmp_path: Path, call: int) -> None:
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.claim()
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, call, after=False, error=Crash)
        with pytest.raises(Crash):
            commit(checkpoints, 1)

    assert checkpoints.newest() is None
    commit(checkpoints, 1)
    assert steps(checkpoints) == [1]
    assert len(attempts(checkpoints)) == 1


@pytest.mark.parametrize("call", range(4))
def test_a_storage_that_refuses_is_named_and_nothing_counts(tmp_path: Path, call: int) -> None:
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.claim()
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, call, after=False, error=OSError)
        with pytest.raises(OctoscaleError, match=r"cannot commit step-00000001-000001-\w+: crash"):
            commit(checkpoints, 1)

    assert checkpoints.newest() is None


def test_parts_of_an_earlier_attempt_are_swept_and_those_of_a_later_one_left_alone(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path, keep_last=1)
    store = Store(str(tmp_path))
    store.write("step-00000009-000000-0123456789ab/__0_0.distcp", b"of a process that was killed")
    store.write("step-00000003-000002-0123456789ab/__0_0.distcp", b"on its way")
    # As a process leaves it that is killed while it writes its first part.
    (tmp_path / "step-00000002-000001-0123456789ab").mkdir()

    commit(checkpoints, 6)

    assert attempts(checkpoints) == {"step-00000003-000002-0123456789ab", checkpoints.commits()[0].prefix}
    assert not (tmp_path / "step-00000002-000001-0123456789ab").exists()


# Two processes.


def test_an_attempt_that_was_replaced_is_told_by_whom_and_keeps_nobody_from_its_step(tmp_path: Path) -> None:
    zombie, newer = checkpoints_in(tmp_path), checkpoints_in(tmp_path)
    commit(zombie, 4)
    newer.claim()

    with pytest.raises(
        FencedError, match=r"attempt 1 \(process \d+ on .*\) of the run in .* was replaced by attempt 2"
    ):
        commit(zombie, 5)
    commit(newer, 5)

    assert [(found.step, found.attempt) for found in newer.commits()] == [(4, 1), (5, 2)]


def test_what_a_replaced_attempt_commits_unseen_does_not_count_and_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked for a newer attempt, was stopped for an hour, and goes on."""
    zombie, newer = checkpoints_in(tmp_path, keep_last=1), checkpoints_in(tmp_path, keep_last=1)
    commit(zombie, 4)
    newer.claim()
    with monkeypatch.context() as patch:
        patch.setattr("octoscale.checkpoint.attempts.check_newest", lambda store, mine: None)
        patch.setattr("octoscale.checkpoint.checkpoints.sweep", lambda *arguments, **settings: None)
        commit(zombie, 9)

    assert steps(newer) == [4]
    assert [found.step for found in newer.listing().fenced] == [9]
    commit(newer, 5)
    assert steps(newer) == [5]
    assert attempts(newer) == {found.prefix for found in newer.commits()}
    assert newer.listing().fenced == []


def test_two_that_begin_at_once_get_two_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = checkpoints_in(tmp_path), checkpoints_in(tmp_path)
    write = Store.write
    begun = []

    def after_the_other(self: Store, name: str, data: bytes, *, exclusive: bool = False) -> None:
        if exclusive and not begun:
            begun.append(name)
            second.claim()
        write(self, name, data, exclusive=exclusive)

    monkeypatch.setattr(Store, "write", after_the_other)
    assert first.claim().number == 2
    assert second.attempt is not None
    assert second.attempt.number == 1


def test_claims_of_long_ago_are_swept(tmp_path: Path) -> None:
    for step in range(1, 12):
        commit(checkpoints_in(tmp_path), step)

    names = sorted(path.name for path in (tmp_path / "attempts").iterdir())
    assert len(names) == 2 * 8
    assert names[-2:] == ["000011-inherits.json", "000011.json"]
    assert [claim.number for claim in claims(Store(str(tmp_path)))] == list(range(4, 12))


def test_the_next_attempt_knows_how_long_the_run_trained_and_how_often_it_failed(tmp_path: Path) -> None:
    first = checkpoints_in(tmp_path)
    began = first.claim().unix_time
    commit(first, 1)
    second = checkpoints_in(tmp_path)
    mine = second.claim()
    assert mine.failures == 1
    assert mine.trained_seconds == pytest.approx(first.commits()[0].unix_time - began)
    second.commit(state_of(2), Position(2), RECORD, None, last=True)
    second.wait()

    assert checkpoints_in(tmp_path).claim().failures == 1


def test_a_repeated_request_is_not_taken_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that missed the answer writes again, and finds its own object there."""
    checkpoints = checkpoints_in(tmp_path)
    write = Store.write

    def twice(self: Store, name: str, data: bytes, *, exclusive: bool = False) -> None:
        write(self, name, data, exclusive=exclusive)
        if exclusive:
            write(self, name, data, exclusive=True)

    monkeypatch.setattr(Store, "write", twice)
    commit(checkpoints, 1)

    assert steps(checkpoints) == [1]


def test_a_commit_swept_while_it_is_listed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    commit(checkpoints, 2)
    read = Store.read

    def swept(self: Store, name: str) -> bytes:
        if name == "commits/00000001-000001.json":
            self.delete(name)
        return read(self, name)

    monkeypatch.setattr(Store, "read", swept)

    assert steps(checkpoints) == [2]


# Damage.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = [
    pytest.param("step-*/*.distcp", flip, "is not what was committed", id="bit flip in a part"),
    pytest.param("step-*/*.distcp", truncate, "is not what was committed", id="truncated part"),
    pytest.param("step-*/*.distcp", Path.unlink, "is missing", id="missing part"),
    pytest.param("step-*/*.metadata", flip, "is not what was committed", id="bit flip in the metadata"),
    pytest.param("step-*/*.metadata", Path.unlink, "is missing", id="missing metadata"),
    pytest.param("step-*/manifest.json", flip, "is not what was committed", id="changed manifest"),
    pytest.param("step-*/manifest.json", Path.unlink, "is missing", id="missing manifest"),
]


@pytest.mark.parametrize(("pattern", "damage", "cause"), DAMAGES)
def test_damage_is_found_before_the_state_is_touched(
    tmp_path: Path, pattern: str, damage: Callable[[Path], None], cause: str
) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    (path,) = tmp_path.glob(pattern)
    damage(path)
    state = state_of(-1)

    with pytest.raises(DamagedError, match=rf"step-00000001-000001-\w+/{path.name} {cause}"):
        checkpoints.load(state, checkpoints.commits()[0])

    assert (state["model"]["weight"] == -1).all()


def test_a_damaged_commit_put_aside_can_be_committed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    commit(checkpoints, 2)

    checkpoints.quarantine(checkpoints.commits()[1], DamagedError("a part is missing"))

    assert steps(checkpoints) == [1]
    assert "commits/00000002-000001.json is damaged (a part is missing): put aside" in caplog.text
    (note,) = (tmp_path / "damaged").iterdir()
    assert json.loads(note.read_text())["cause"] == "a part is missing"
    commit(checkpoints, 2)
    assert steps(checkpoints) == [1, 2]
    assert len(attempts(checkpoints)) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\xff\xfe", b"[]", b"null", b'{"step": 2}', b'{"step": "two", "prefix": 1, "score": []}'],
)
def test_a_commit_that_makes_no_sense_is_put_aside_and_its_step_is_free(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    (tmp_path / "commits/00000002-000001.json").write_bytes(content)

    newest = checkpoints.newest()

    assert newest is not None
    assert newest.step == 1
    assert "commits/00000002-000001.json is damaged" in caplog.text
    commit(checkpoints, 2)
    assert steps(checkpoints) == [1, 2]


def test_a_commit_under_another_steps_name_makes_no_sense(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    (tmp_path / "commits/00000002-000001.json").write_bytes((tmp_path / "commits/00000001-000001.json").read_bytes())

    assert steps(checkpoints) == [1]


def failing(method: Callable[..., Any], part: str) -> Callable[..., Any]:
    def read(self: Store, name: str, *arguments: Any) -> Any:
        if part in name:
            raise OctoscaleError(f"cannot read {name}: the server is busy")
        return method(self, name, *arguments)

    return read


@pytest.mark.parametrize(("method", "part"), [("download", ".distcp"), ("read", "manifest.json"), ("read", "commits/")])
def test_a_storage_that_does_not_answer_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, part: str
) -> None:
    """Else a moment's outage would put every commit aside, and the run would start from nothing."""
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    monkeypatch.setattr(Store, method, failing(getattr(Store, method), part))

    with pytest.raises(OctoscaleError, match="the server is busy") as raised:
        checkpoints.load(state_of(-1), checkpoints.newest() or checkpoints.commits()[0])

    assert not isinstance(raised.value, DamagedError)
    monkeypatch.undo()
    assert steps(checkpoints) == [1]


def test_a_sweep_that_cannot_read_the_commits_deletes_no_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)
    monkeypatch.setattr(Store, "read", failing(Store.read, "commits/00000001-000001.json"))
    commit(checkpoints, 2)
    monkeypatch.undo()

    assert [weight(checkpoints, found) for found in checkpoints.commits()] == [1, 2]
    assert "the server is busy" in caplog.text


def test_a_state_of_another_shape_is_a_clear_error(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path)
    commit(checkpoints, 1)

    with pytest.raises(OctoscaleError, match=r"step 1 in .* is not this network's: .*set `model` back") as raised:
        checkpoints.load({"model": {"weight": torch.zeros(2, 2)}}, checkpoints.commits()[0])
    assert "Traceback" not in str(raised.value)

    with pytest.raises(OctoscaleError, match=r"not this network's.*another"):
        checkpoints.load({"model": {"another": torch.zeros(2, 2)}}, checkpoints.commits()[0])


# All ranks learn of a fault of one.


def beside(monkeypatch: pytest.MonkeyPatch, other: Any) -> list[Any]:
    """As if there were a second rank that tells `other`; what this one tells."""
    told = []

    def gather(self: World, value: Any) -> list[Any]:
        told.append(value)
        return [value, other]

    monkeypatch.setattr(World, "gather", gather)
    return told


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("a defect"), MemoryError(), DamagedError("gone")])
def test_whatever_fails_on_one_rank_is_told_before_it_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    told = beside(monkeypatch, None)

    def fail(self: Store) -> None:
        raise error

    monkeypatch.setattr(Store, "probe_writable", fail)
    with pytest.raises(OctoscaleError if isinstance(error, OSError) else type(error)):
        checkpoints_in(tmp_path).check_writable()

    ((damaged, text),) = told
    assert text
    assert damaged == isinstance(error, DamagedError)


@pytest.mark.parametrize(("damaged", "kind"), [(True, DamagedError), (False, OctoscaleError)])
def test_a_fault_of_another_rank_is_raised_here_with_its_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool, kind: type[Exception]
) -> None:
    beside(monkeypatch, (damaged, "its disk is full"))

    with pytest.raises(kind, match="cannot write checkpoints: rank 1 failed: its disk is full") as raised:
        checkpoints_in(tmp_path).check_writable()
    assert type(raised.value) is kind


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(OctoscaleError, match=r"cannot write .*file/checkpoints.*Not a directory"):
        checkpoints_in(tmp_path / "file" / "checkpoints").check_writable()
