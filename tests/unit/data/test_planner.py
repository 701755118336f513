"""Plans of a run: files, background processes, and many processes that ask at once. Real processes throughout."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from octoscale.data import planner as planner_module
from octoscale.data.index import Index
from octoscale.data.plan import epoch_plan
from octoscale.data.planner import Planner
from octoscale.data.windowed_plan import windowed_plan
from octoscale.errors import OctoscaleError
from tests.unit.data.test_plan_background import until

# What a training process does, with a plan that is slow to compute: what it does is noted in a file.
PROCESS = """
import sys, time
from pathlib import Path
from octoscale.data import plan_file, planner
from octoscale.data.index import Index

packed, cache, log, seconds = sys.argv[1:]
compute = plan_file.PlanRequest.compute

def slow(request):
    with open(log, "a") as file:
        file.write("computing\\n")
    time.sleep(float(seconds))
    return compute(request)

plan_file.PlanRequest.compute = slow
planner._IN_PROCESS_IMAGES = 0
plans = planner.Planner(
    Index.load(packed), global_batch_size=4, seed=7, window_fraction=None, cache_dir=Path(cache)
)
with open(log, "a") as file:
    file.write("asking\\n")
print(plans.epoch(0).sum())
"""


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data sets are treated like large ones."""
    monkeypatch.setattr(planner_module, "_IN_PROCESS_IMAGES", 0)


@pytest.fixture
def make(packed: Index, tmp_path: Path, large: None) -> Iterator[Callable[..., Planner]]:
    """Make a planner of `packed` that keeps files."""
    made = []

    def planner(
        *, seed: int = 7, window_fraction: float | None = None, cache_dir: Path = tmp_path / "cache"
    ) -> Planner:
        made.append(
            Planner(packed, global_batch_size=4, seed=seed, window_fraction=window_fraction, cache_dir=cache_dir)
        )
        return made[-1]

    yield planner
    for one in made:
        one.close()


def files(folder: Path, pattern: str = "plan-*.npy") -> list[Path]:
    return sorted((folder / "plans").glob(pattern))


def parent_of(process_id: str) -> int | None:
    try:
        return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def children() -> set[int]:
    """The processes that this one has started and not waited for."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if parent_of(path.name) == os.getpid()}


@pytest.mark.parametrize("window_fraction", [None, 0.5])
def test_a_plan_of_a_large_data_set_is_kept_as_a_file(
    make: Callable[..., Planner], packed: Index, tmp_path: Path, window_fraction: float | None
) -> None:
    plan = make(window_fraction=window_fraction).epoch(3)

    if window_fraction is None:
        expected = epoch_plan(packed.images_per_identity, global_batch_size=4, seed=7, epoch=3)
    else:
        expected = windowed_plan(
            packed.identity_offsets, packed.shard_ids, global_batch_size=4, seed=7, epoch=3, window_fraction=0.5
        )
    assert np.array_equal(plan, expected)
    assert plan.dtype == np.int32
    assert isinstance(plan, np.memmap)
    assert not plan.flags.writeable
    assert len(files(tmp_path / "cache")) == 1
    assert np.array_equal(np.load(files(tmp_path / "cache")[0]), expected), "not an ordinary .npy file"


def test_a_plan_of_a_small_data_set_needs_no_file(packed: Index, tmp_path: Path) -> None:
    with Planner(packed, global_batch_size=4, seed=7, window_fraction=None, cache_dir=tmp_path / "cache") as planner:
        planner.prepare(1)
        plan = planner.epoch(1)

    assert np.array_equal(plan, epoch_plan(packed.images_per_identity, global_batch_size=4, seed=7, epoch=1))
    assert plan.dtype == np.int32
    assert not plan.flags.writeable
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="truncated"),
        pytest.param(lambda data: data[:20], id="truncated in its header"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:150] + bytes([data[150] ^ 1]) + data[151:], id="one bit is another"),
    ],
)
def test_a_damaged_plan_is_computed_again(
    make: Callable[..., Planner], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    plan = np.array(make().epoch(0))
    (path,) = files(tmp_path / "cache")
    path.write_bytes(damage(path.read_bytes()))

    assert np.array_equal(make().epoch(0), plan)


def test_plans_of_a_run_are_deleted_when_two_epochs_old(make: Callable[..., Planner], tmp_path: Path) -> None:
    other = make(seed=8)
    other.epoch(0)
    (others,) = files(tmp_path / "cache")
    planner = make()

    for epoch in range(4):
        planner.epoch(epoch)

    kept = set(files(tmp_path / "cache"))
    assert kept == {others, planner._file(2).path, planner._file(3).path}
    assert {path.stem for path in files(tmp_path / "cache", "*.lock")} == {path.stem for path in kept}


def test_runs_with_other_settings_have_other_files(make: Callable[..., Planner], tmp_path: Path) -> None:
    for planner in (make(), make(seed=8), make(window_fraction=0.5), make(window_fraction=0.6)):
        planner.epoch(0)

    assert len(files(tmp_path / "cache")) == 4


def test_a_prepared_plan_is_there_and_no_process_is_left(
    make: Callable[..., Planner], packed: Index, tmp_path: Path
) -> None:
    planner = make()
    before = children()

    planner.prepare(5)
    until(lambda: files(tmp_path / "cache"))
    until(lambda: not children() - before)

    assert np.array_equal(
        planner.epoch(5), epoch_plan(packed.images_per_identity, global_batch_size=4, seed=7, epoch=5)
    )


def test_closing_ends_the_background_process_and_leaves_nothing(make: Callable[..., Planner], tmp_path: Path) -> None:
    planner = make()
    before = children()

    planner.prepare(5)
    planner.close()

    assert not children() - before
    assert not files(tmp_path / "cache", "*.partial")


def test_a_failed_preparation_is_logged_and_made_up_for(
    make: Callable[..., Planner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planner = make()
    monkeypatch.setattr(planner_module, "_BACKGROUND", "raise OSError('no space left')")

    planner.prepare(1)
    until(lambda: caplog.records)

    assert "the plan of epoch 1 was not prepared in the background (OSError: no space left)" in caplog.text
    assert planner.epoch(1).shape[1] == 4


def start(packed: Index, folder: Path, seconds: float) -> "subprocess.Popen[str]":
    """A process that asks for a plan which takes `seconds` longer than usual."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROCESS,
            str(packed.directory),
            str(folder / "cache"),
            str(folder / "log"),
            str(seconds),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_ranks_that_ask_at_the_same_time_compute_once(packed: Index, tmp_path: Path) -> None:
    ranks = [start(packed, tmp_path, 1) for _ in range(4)]

    sums = {rank.communicate(timeout=120)[0] for rank in ranks}

    assert [rank.returncode for rank in ranks] == [0] * 4
    assert len(sums) == 1
    assert (tmp_path / "log").read_text().count("computing") == 1


def test_when_the_computing_rank_is_killed_a_waiting_one_takes_over(
    packed: Index, tmp_path: Path, make: Callable[..., Planner]
) -> None:
    log = tmp_path / "log"
    killed = start(packed, tmp_path, 600)
    until(lambda: log.exists() and "computing" in log.read_text())
    # What a process that is killed while it writes leaves behind.
    make()._file(0).path.with_suffix(".partial").write_bytes(b"half a plan, and longer than the whole" * 100)
    waiting = start(packed, tmp_path, 0)
    until(lambda: log.read_text().count("asking") == 2)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=0.5)

    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    assert int(waiting.communicate(timeout=60)[0]) == make().epoch(0).sum()
    assert log.read_text().count("computing") == 2
    assert not files(tmp_path / "cache", "*.partial")


def test_a_full_disk_is_a_clear_error(
    make: Callable[..., Planner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OctoscaleError, match=r"cannot write the plan .*No space left on device; free some space"):
        make().epoch(0)

    assert not files(tmp_path / "cache")
    assert not files(tmp_path / "cache", "*.partial")


def test_an_unusable_folder_is_named(make: Callable[..., Planner], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OctoscaleError, match=r"the plan .*file/plans/plan-.*choose another cache_dir"):
        make(cache_dir=tmp_path / "file").epoch(0)


def test_impossible_settings_are_refused_at_once(packed: Index, tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="needs 50 identities"):
        Planner(packed, global_batch_size=100, seed=0, window_fraction=None, cache_dir=tmp_path)
    with pytest.raises(OctoscaleError, match="window_fraction 0 must be above 0"):
        Planner(packed, global_batch_size=4, seed=0, window_fraction=0, cache_dir=tmp_path)
