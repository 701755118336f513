"""Where the time went."""

import pytest

from octoscale.report.charts import Stack
from octoscale.report.items import Missing
from octoscale.report.runs import Run
from octoscale.report.timing import timing_section
from tests.unit.report.made_up import made_up_run


def stacks(*runs: Run) -> list[Stack]:
    return [item for item in timing_section(runs).items if isinstance(item, Stack)]


def parts(stack: Stack) -> dict[str, tuple[float, ...]]:
    return {name: values for name, _, values in stack.parts}


def test_a_step_is_its_phases_the_wait_and_the_rest() -> None:
    phases, _ = stacks(made_up_run())

    # The exchange took no time.
    assert list(parts(phases)) == ["data_wait", "embed", "loss", "other"]
    assert parts(phases)["other"] == pytest.approx((0.4 - 0.3,))
    assert sum(values[0] for values in parts(phases).values()) == pytest.approx(0.5)


def test_the_wall_time_is_that_of_the_newest_commit_whatever_its_states() -> None:
    seconds = {"idle": 1.0, "productive": 60.0, "of the future": 2.0, "lost": 3.0}
    _, wall = stacks(made_up_run(record={"ledger": {"seconds": seconds}}))

    assert parts(wall) == {"productive": (60.0,), "idle": (1.0,), "lost": (3.0,), "of the future": (2.0,)}
    assert list(parts(wall)) == ["productive", "idle", "lost", "of the future"]
    assert wall.note == "Over all attempts, up to the newest commit: 1 min 6 s."


def test_phases_of_all_ranks_tell_the_mean_from_the_slowest() -> None:
    of_ranks = {"optimizer": (0.1, 0.15), "embed": (0.2, 0.4), "exchange": (0.0, 0.0)}

    _, ranks, _ = stacks(made_up_run(rank_phases=of_ranks))

    assert ranks.rows == ("mean of ranks", "slowest rank")
    assert parts(ranks) == {"embed": (0.2, 0.4), "optimizer": (0.1, 0.15)}


def test_one_rank_has_no_slowest() -> None:
    assert len(stacks(made_up_run(rank_phases={"embed": (0.2, 0.2)}))) == 2


def test_several_runs_are_bars_of_one_chart() -> None:
    _, wall = stacks(made_up_run("a"), made_up_run("b", record={"ledger": {"seconds": {"evaluate": 5.0}}}))

    assert wall.rows == ("a", "b")
    assert parts(wall)["productive"] == (60.0, 0.0)
    assert parts(wall)["evaluate"] == (0.0, 5.0)


def test_what_a_run_does_not_hold_is_said() -> None:
    items = timing_section([made_up_run(lines=(), record={})]).items

    assert [item.what for item in items if isinstance(item, Missing)] == [
        "run: the phases of a step", "run: wall time by state"
    ]  # fmt: skip
