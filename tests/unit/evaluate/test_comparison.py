"""Runs side by side."""

from dataclasses import replace
from pathlib import Path

import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.comparison import Scores, cells, compare, scores_of
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.kept import keep_scores, read_scores, write_scores


@pytest.fixture
def made(evaluation: Evaluation) -> Evaluation:
    """An evaluation with accuracies that are easy to tell apart: cross .5 .6 .7, same .4 .5 .6 at 4, 8 and 32 px."""
    start = {"cross": 0.5, "same": 0.4}
    scores = {
        (mode, resolution): replace(score, accuracy=start[mode] + 0.1 * (4, 8, 32).index(resolution))
        for (mode, resolution), score in evaluation.scores.items()
    }
    return replace(evaluation, name="", scores=scores)


def better(evaluation: Evaluation, name: str, step: int, gain: float) -> Evaluation:
    scores = {key: replace(score, accuracy=score.accuracy + gain) for key, score in evaluation.scores.items()}
    return replace(evaluation, name=name, step=step, scores=scores)


def several(made: Evaluation, *, gain: float = 0.1) -> Scores:
    """LFW, CALFW two points below it, and XQLFW four points below, before and after."""
    offsets = {"lfw": 0.0, "calfw": -0.02, "xqlfw": -0.04}
    return {
        name: {step: better(made, name, step, offset + (gain if step else 0)) for step in (0, 9)}
        for name, offset in offsets.items()
    }


def test_the_tables_are_those_of_the_paper(made: Evaluation) -> None:
    cross, lfw, same = compare({"run": several(made)})

    assert cross.title == "Cross-resolution accuracy, % (mean of lfw, calfw)"
    assert cross.columns == ("LFW", "4 px", "8 px", "32 px", "mean", "XQLFW")
    before, after = cross.rows
    assert (before.step, before.changes) == (0, None)
    assert before.accuracies == pytest.approx((0.7, 0.49, 0.59, 0.69, 0.59, 0.66))
    assert after.step == 9
    assert after.accuracies == pytest.approx((0.8, 0.59, 0.69, 0.79, 0.69, 0.76))
    assert after.changes == pytest.approx((0.1,) * 6)
    assert lfw.columns == ("4 px", "8 px", "32 px", "mean")
    assert lfw.rows[0].accuracies == pytest.approx((0.5, 0.6, 0.7, 0.6))
    assert same.title == "Same resolution accuracy, % (mean of lfw, calfw)"
    assert same.columns == ("4 px", "8 px", "32 px", "mean")
    assert same.rows[0].accuracies == pytest.approx((0.39, 0.49, 0.59, 0.49))


def test_texts_are_percentages_with_their_change(made: Evaluation) -> None:
    (table, _) = compare({"run": {"lfw": several(made)["lfw"]}})

    assert [texts for _, texts in cells(table)] == [
        ["50.00", "60.00", "70.00", "60.00"],
        ["60.00 (+10.00)", "70.00 (+10.00)", "80.00 (+10.00)", "70.00 (+10.00)"],
    ]


def test_only_what_all_runs_have_is_compared(made: Evaluation) -> None:
    wide = several(made)
    narrow_scores = {key: score for key, score in made.scores.items() if key[1] != 4}
    narrow = {"calfw": {5: replace(made, name="calfw", step=5, scores=narrow_scores)}}

    cross, _ = compare({"one": wide, "two": narrow})

    assert cross.title.endswith("(calfw)")
    assert cross.columns == ("8 px", "32 px", "mean")
    assert [(row.run, row.step) for row in cross.rows] == [("one", 0), ("one", 9), ("two", 5)]


def test_runs_with_nothing_in_common_are_refused(made: Evaluation) -> None:
    with pytest.raises(OctoscaleError, match="different data sets: one has lfw; two has calfw"):
        compare({"one": {"lfw": {0: made}}, "two": {"calfw": {0: made}}})
    with pytest.raises(OctoscaleError, match=r"run was evaluated at different steps .*lfw at 4; calfw at 8"):
        compare({"run": {"lfw": {4: made}, "calfw": {8: made}}})
    other = replace(made, scores={(mode, 9): score for (mode, _), score in made.scores.items()})
    with pytest.raises(OctoscaleError, match="no resolution in common"):
        compare({"one": {"lfw": {0: made}}, "two": {"lfw": {0: other}}})


def test_a_run_has_what_its_training_made_and_what_was_kept(made: Evaluation, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "evaluations").mkdir(parents=True)
    for step in (0, 4):
        (run / f"evaluations/{step:08d}.json").write_text(replace(made, step=step).to_json())
    keep_scores([better(made, "calfw", 4, 0.1)], str(run))

    scores = scores_of(str(run))

    assert {name: sorted(steps) for name, steps in scores.items()} == {"lfw": [0, 4], "calfw": [4]}
    assert scores["calfw"][4] == better(made, "calfw", 4, 0.1)


def test_files_of_scores_hold_one_or_several(made: Evaluation, tmp_path: Path) -> None:
    one, several_sets = made, [better(made, "lfw", 3, 0.0), better(made, "calfw", 3, 0.1)]
    write_scores([one], tmp_path / "one.json")
    write_scores(several_sets, tmp_path / "several.json")

    assert read_scores((tmp_path / "one.json").read_text(), "") == [one]
    assert read_scores((tmp_path / "several.json").read_text(), "") == several_sets
    assert list(scores_of(str(tmp_path / "several.json"))) == ["lfw", "calfw"]


def test_what_holds_no_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctoscaleError, match="has no evaluations; run octoscale evaluate"):
        scores_of(str(tmp_path))
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(OctoscaleError, match=r"other\.json holds no scores"):
        scores_of(str(tmp_path / "other.json"))
