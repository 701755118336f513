"""The course of the training, of one run by term and of several side by side."""

from dataclasses import replace

import pytest

from octoscale.report.charts import Lines
from octoscale.report.items import Missing
from octoscale.report.runs import Run
from octoscale.report.training import training_section
from tests.unit.report.made_up import made_up_run, step_line


def charts(*runs: Run) -> dict[str, Lines]:
    return {item.title: item for item in training_section(runs).items if isinstance(item, Lines)}


def test_one_run_is_shown_by_term() -> None:
    found = charts(made_up_run())

    assert list(found) == [
        "Loss by term", "Distances of anchor to positive and negative", "Triplets inside the margin",
        "Negatives nearer than the positive", "Embedding norm", "Effective rank of the embeddings", "Gradient norm",
        "Learning rate",
    ]  # fmt: skip
    assert found["Loss by term"].table().columns == ("step", "hhh", "lll")
    assert found["Loss by term"].table().rows[:2] == (("1", "4", "8"), ("2", "2", "4"))
    distances = found["Distances of anchor to positive and negative"]
    assert [(line.name, line.dashed) for line in distances.series] == [
        ("hhh d(a,p)", False), ("hhh d(a,n)", True), ("lll d(a,p)", False), ("lll d(a,n)", True)
    ]  # fmt: skip
    assert distances.table().rows[0] == ("1", "1", "2", "2", "3")
    assert found["Triplets inside the margin"].table().rows[0] == ("1", "50.00", "50.00")
    assert found["Learning rate"].series[0].y == pytest.approx((0.001, 0.002, 0.003, 0.004))


def test_what_is_measured_now_and_then_has_points_now_and_then() -> None:
    rank = charts(made_up_run())["Effective rank of the embeddings"]

    assert rank.series[0].x == (1, 3)
    assert rank.series[0].y == (8, 10)


def test_what_was_never_measured_is_left_out_and_says_so() -> None:
    lines = tuple(replace(line, result=replace(line.result, diagnostics=None)) for line in map(step_line, range(1, 4)))
    section = training_section([made_up_run(lines=lines)])

    (missing,) = (item for item in section.items if isinstance(item, Missing))
    assert missing.what == "Effective rank of the embeddings"
    assert "telemetry.diagnose_every_steps" in missing.why


def test_several_runs_are_shown_side_by_side_over_the_same_windows() -> None:
    found = charts(made_up_run("a", steps=90), made_up_run("b", steps=200))

    loss = found["Loss, sum of the terms"]
    assert [line.name for line in loss.series] == ["a", "b"]
    short, long = loss.series
    assert len(long.x) <= 60
    # The last window of the shorter run is not whole.
    assert set(short.x[:-1]) <= set(long.x)
    assert long.y[0] == pytest.approx(sum(12.0 / step for step in (1, 2, 3, 4)) / 4)
    assert "mean of 4 steps" in training_section([made_up_run(steps=200)]).intro
    assert [line.name for line in found["Distances, mean of the terms"].series] == [
        "a d(a,p)", "a d(a,n)", "b d(a,p)", "b d(a,n)"
    ]  # fmt: skip
    assert found["Triplets inside the margin, mean of the terms"].series[0].y[0] == 0.5


def test_a_run_without_a_journal_says_so_beside_the_others() -> None:
    section = training_section([made_up_run("a"), made_up_run("b", lines=())])

    missing = section.items[-1]
    assert isinstance(missing, Missing)
    assert missing.why.startswith("b: the run has no journal")
    assert len(training_section([made_up_run("b", lines=())]).items) == 1
