"""Accuracy before and after: its intervals, its ROC curves, several data sets and several runs."""

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from octoscale.evaluate.evaluation import Evaluation
from octoscale.report.accuracy import accuracy_section, data_sets_section, evaluated, interval, roc_section
from octoscale.report.charts import Changes, Lines
from octoscale.report.items import Missing, Section, Table
from tests.unit.report.made_up import evaluation, made_up_run


def charts(section: Section | None) -> list[Lines]:
    assert section is not None
    return [item for item in section.items if isinstance(item, Lines)]


@pytest.mark.parametrize(("right", "pairs"), [(0, 10), (5, 10), (10, 10), (480, 600), (5990, 6000)])
def test_the_interval_is_wilsons(right: int, pairs: int) -> None:
    expected = binomtest(right, pairs).proportion_ci(0.95, "wilson")

    assert interval(right / pairs, pairs) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_accuracy_by_resolution_shows_before_and_after_in_each_mode() -> None:
    first, second = charts(accuracy_section([made_up_run()]))

    assert (first.title, second.title) == ("pairs, cross-resolution", "pairs, same resolution")
    assert [line.name for line in first.series] == ["before, mean 60.50 %", "after, mean 80.50 %"]
    assert [line.dashed for line in first.series] == [True, False]
    assert first.series[1].x == (7, 112)
    assert first.series[1].y == pytest.approx((0.8, 0.81))
    assert (first.series[1].low[0], first.series[1].high[0]) == interval(0.8, 100)


def test_an_evaluations_own_intervals_are_taken() -> None:
    known = evaluation(4)
    scores = {key: replace(score, intervals={"accuracy": (0.5, 0.9)}) for key, score in known.scores.items()}
    chart = charts(accuracy_section([made_up_run(evaluations={"pairs": (replace(known, scores=scores),)})]))[0]

    assert (chart.series[0].low, chart.series[0].high) == ((0.5, 0.5), (0.9, 0.9))


def test_operating_points_are_a_table() -> None:
    (table,) = (item for item in accuracy_section([made_up_run()]).items if isinstance(item, Table))

    assert table.title == "Operating points: pairs, 50 genuine and 50 impostor pairs"
    # There are too few impostor pairs for a FAR of 0.001.
    assert table.columns == ("", "equal error rate, %", "area under ROC, %", "TAR at FAR 0.1, %")
    assert table.rows[0] == ("cross, 7 px", "40.00 → 20.00", "60.00 → 80.00", "60.00 → 80.00")


def test_evaluations_in_between_are_drawn_over_the_steps() -> None:
    steps = tuple(evaluation(step, accuracy=0.6 + step / 100) for step in (0, 5, 10))
    chart = charts(accuracy_section([made_up_run(evaluations={"pairs": steps})]))[-1]

    assert chart.title == "pairs, during the training"
    assert chart.series[0].x == (0, 5, 10)
    assert chart.series[0].y == pytest.approx((0.605, 0.655, 0.705))


@pytest.mark.parametrize("first", [evaluation(0, resolutions=(7,)), replace(evaluation(0), flip=True)])
def test_only_like_is_shown_beside_like(first: Evaluation) -> None:
    changed = (first, evaluation(4))
    (one,) = evaluated([made_up_run(evaluations={"pairs": changed})])

    assert one.before is None
    chart = charts(accuracy_section([made_up_run(evaluations={"pairs": changed})]))[0]
    assert [line.name for line in chart.series] == ["after, mean 80.50 %"]


def test_a_run_at_its_start_has_one_evaluation() -> None:
    (one,) = evaluated([made_up_run(evaluations={"pairs": (evaluation(0),)})])

    assert (one.before, one.after.step) == (None, 0)


def test_a_run_without_evaluation_says_what_to_set() -> None:
    runs = [made_up_run(evaluations={})]

    for section in (accuracy_section(runs), roc_section(runs)):
        (missing,) = section.items
        assert isinstance(missing, Missing)
        assert "set evaluate.pairs and evaluate.images" in missing.why
    assert data_sets_section(runs) is None


def test_the_roc_of_one_run_has_a_curve_for_each_resolution() -> None:
    first, _ = charts(roc_section([made_up_run()]))

    assert [line.name for line in first.series] == [
        "7 px before, EER 40.00 %", "7 px after, EER 20.00 %",
        "112 px before, EER 39.00 %", "112 px after, EER 19.00 %",
    ]  # fmt: skip
    after = first.series[1]
    assert after.color == first.series[0].color != first.series[2].color
    # From one impostor pair to all of them, each TAR that of the corner to its left.
    assert (after.x[0], after.x[-1]) == (pytest.approx(1 / 50), 1)
    assert all(y == (0.4 if x < 0.1 else 0.8 if x < 1 else 1) for x, y in zip(after.x, after.y, strict=True))
    assert first.diagonal == "equal error rate"


def test_the_roc_of_several_runs_compares_them_at_each_resolution() -> None:
    found = charts(roc_section([made_up_run("a"), made_up_run("b", evaluations={"pairs": (evaluation(4),)})]))

    assert [chart.title for chart in found] == [
        f"pairs, {mode}, {px} px" for mode in ("cross-resolution", "same resolution") for px in (7, 112)
    ]
    assert [line.name for line in found[0].series] == [
        "a before, EER 40.00 %", "a after, EER 20.00 %", "b after, EER 20.00 %"
    ]  # fmt: skip


def test_several_runs_share_a_chart_and_keep_their_colours() -> None:
    chart = charts(accuracy_section([made_up_run("a"), made_up_run("b")]))[0]

    assert [line.name.split(",")[0] for line in chart.series] == ["a before", "a after", "b before", "b after"]
    colors = [line.color for line in chart.series]
    assert colors[0] == colors[1] != colors[2] == colors[3]


def test_several_data_sets_are_drawn_as_changes() -> None:
    evaluations = {
        "lfw": (evaluation(0, accuracy=0.9), evaluation(4, accuracy=0.95)),
        "xqlfw": (evaluation(0, accuracy=0.7, resolutions=(112,)), evaluation(4, accuracy=0.65, resolutions=(112,))),
    }
    section = data_sets_section([made_up_run(evaluations=evaluations)])

    assert section is not None
    cross, _ = section.items
    assert isinstance(cross, Changes)
    assert [(bar.group, bar.name) for bar in cross.bars] == [("lfw", "7 px"), ("lfw", "112 px"), ("xqlfw", "112 px")]
    assert cross.table().rows[2] == ("xqlfw", "112 px", "70.00", "65.00", "-5.00")


def test_data_sets_of_several_runs_are_drawn_run_by_run() -> None:
    lfw = (evaluation(0, modes=("cross",)), evaluation(4, modes=("cross",)))
    section = data_sets_section([made_up_run("a"), made_up_run("b", evaluations={"lfw": lfw})])

    assert section is not None
    titles = [item.title for item in section.items if isinstance(item, Changes)]
    assert titles == ["a, cross-resolution", "a, same resolution", "b, cross-resolution"]


def test_one_data_set_needs_no_chart_of_data_sets() -> None:
    assert data_sets_section([made_up_run("a"), made_up_run("b")]) is None
