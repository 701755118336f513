"""Runs side by side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.evaluate.compared_table import cells, signed_points
from octoscale.evaluate.comparison import Scores, compare, scores_of
from octoscale.evaluate.evaluation import Evaluation
from octoscale.evaluate.identification import IdentificationEvaluation, IdentificationScore
from octoscale.evaluate.kept import keep_scores, read_scores, write_scores
from octoscale.evaluate.kinds import from_json
from octoscale.evaluate.templates import TemplateEvaluation, TemplateScore


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
    cross, lfw, same = compare({"run": several(made)}).tables

    assert cross.title == "Cross-resolution accuracy, % (mean of lfw, calfw)"
    assert cross.columns == ("LFW", "4 px", "8 px", "32 px", "mean", "XQLFW")
    before, after = cross.rows
    assert (before.step, before.changes) == (0, None)
    assert before.rates == pytest.approx((0.7, 0.49, 0.59, 0.69, 0.59, 0.66))
    assert after.step == 9
    assert after.rates == pytest.approx((0.8, 0.59, 0.69, 0.79, 0.69, 0.76))
    assert after.changes == pytest.approx((0.1,) * 6)
    assert lfw.columns == ("4 px", "8 px", "32 px", "mean")
    assert lfw.rows[0].rates == pytest.approx((0.5, 0.6, 0.7, 0.6))
    assert same.title == "Same resolution accuracy, % (mean of lfw, calfw)"
    assert same.columns == ("4 px", "8 px", "32 px", "mean")
    assert same.rows[0].rates == pytest.approx((0.39, 0.49, 0.59, 0.49))


def test_texts_are_percentages_with_their_change(made: Evaluation) -> None:
    (table, _) = compare({"run": {"lfw": several(made)["lfw"]}}).tables

    assert [texts for _, texts in cells(table)] == [
        ["50.00", "60.00", "70.00", "60.00"],
        ["60.00 (+10.00)", "70.00 (+10.00)", "80.00 (+10.00)", "70.00 (+10.00)"],
    ]


def test_a_change_that_rounds_to_nothing_has_no_sign() -> None:
    shown = [signed_points(change) for change in (1.25, -0.5, 0.005, 1e-14, -1e-14, -0.0049)]
    assert shown == ["+1.25", "-0.50", "+0.01", "0.00", "0.00", "0.00"]


def test_only_what_all_runs_have_is_compared_and_the_rest_is_named(made: Evaluation) -> None:
    wide = several(made)
    two = {"calfw": {5: narrow(replace(made, name="calfw", step=5), 8, 32)}}

    found = compare({"one": wide, "two": two})

    cross, _ = found.tables
    assert cross.title.endswith("(calfw)")
    assert cross.columns == ("8 px", "32 px", "mean")
    assert [(row.run, row.step) for row in cross.rows] == [("one", 0), ("one", 9), ("two", 5)]
    assert found.left_out == (
        "lfw: no evaluation of it in two",
        "xqlfw: no evaluation of it in two",
        "4 px of calfw: calfw of two (step 5) lacks it",
    )


def test_a_mode_that_one_evaluation_lacks_is_named(made: Evaluation) -> None:
    only_cross = {key: score for key, score in made.scores.items() if key[0] == "cross"}
    other = replace(made, step=5, scores=only_cross)

    found = compare({"one": {"lfw": {0: made}}, "two": {"lfw": {5: other}}})

    assert [table.title for table in found.tables] == ["Cross-resolution accuracy, % (lfw)"]
    assert found.left_out == ("same resolution of lfw: lfw of two (step 5) was not evaluated in this mode",)
    # Nobody wanted it.
    assert not compare({"two": {"lfw": {5: other}}}).left_out


def test_a_set_at_other_resolutions_has_tables_of_its_own(made: Evaluation) -> None:
    """The paper's table 3: LFW at more sizes, which the other tables do not have."""
    sizes = {step: renamed(better(made, "lfw_sizes", step, 0.0), {4: 5, 8: 9}) for step in (0, 9)}

    found = compare({"run": {**several(made), "lfw_sizes": sizes}})

    assert [(table.title.split(" accuracy")[0], table.columns) for table in found.tables] == [
        ("Cross-resolution", ("LFW", "4 px", "8 px", "32 px", "mean", "XQLFW")),
        ("Cross-resolution", ("4 px", "8 px", "32 px", "mean")),
        ("Same resolution", ("4 px", "8 px", "32 px", "mean")),
        ("Cross-resolution", ("5 px", "9 px", "32 px", "mean")),
        ("Same resolution", ("5 px", "9 px", "32 px", "mean")),
    ]
    assert found.tables[3].title.endswith("(lfw_sizes)")
    assert not found.left_out


@pytest.mark.parametrize(("name", "protocol"), [("xqlfw", "lfw"), ("XQLFW", "lfw"), ("mixed", "xqlfw")])
def test_xqlfw_is_told_by_its_protocol_or_its_name_and_may_be_alone(made: Evaluation, name: str, protocol: str) -> None:
    alone = {step: replace(better(made, name, step, 0.01 * step), protocol=protocol) for step in (0, 9)}

    (table,) = compare({"run": {name: alone}}).tables

    assert (table.title, table.columns) == (f"Cross-resolution accuracy, % ({name})", ("XQLFW",))
    assert [row.rates for row in table.rows] == [pytest.approx((0.7,)), pytest.approx((0.79,))]
    beside = compare({"run": {"lfw": {9: replace(made, step=9)}, name: {9: narrow(alone[9], 32)}}})
    assert beside.tables[0].columns == ("4 px", "8 px", "32 px", "mean", "XQLFW")
    assert not beside.left_out


def renamed(evaluation: Evaluation, sizes: dict[int, int]) -> Evaluation:
    """At other resolutions."""
    scores = {(mode, sizes.get(size, size)): score for (mode, size), score in evaluation.scores.items()}
    return replace(evaluation, scores=scores)


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


def test_before_and_after_are_of_the_same(made: Evaluation, tmp_path: Path) -> None:
    """Kept evaluations of another list than the run's own, under its name, are never mixed with these."""
    (tmp_path / "evaluations").mkdir()
    for step in (0, 4):
        (tmp_path / f"evaluations/{step:08d}.json").write_text(replace(made, step=step).to_json())
    same, other = replace(made, name="lfw", step=4), replace(made, name="lfw", step=4, flip=True)
    for kept, steps in ((same, [0, 4]), (other, [4]), (replace(same, genuine_pairs=9), [4]), (narrow(same, 8), [4])):
        keep_scores([kept], str(tmp_path))
        assert list(scores_of(str(tmp_path))["lfw"]) == steps
        assert scores_of(str(tmp_path))["lfw"][4] == kept


def narrow(evaluation: Evaluation, *resolutions: int) -> Evaluation:
    scores = {key: score for key, score in evaluation.scores.items() if key[1] in resolutions}
    return replace(evaluation, scores=scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": True}, "flip False and True"),
        ({"genuine_pairs": 600}, "genuine pairs 10 and 600"),
        ({"protocol": "calfw"}, "protocol lfw and calfw"),
        ({"pairs_digest": "ab"}, "pairs digest .* and ab"),
    ],
)
def test_different_lists_under_one_name_are_not_compared(
    made: Evaluation, change: dict[str, Any], message: str
) -> None:
    start, other = better(made, "x", 0, 0.0), replace(better(made, "x", 9, 0.0), **change)
    with pytest.raises(OctoscaleError, match=rf"x is not the same in one \(step 0\) and two \(step 9\): {message};"):
        compare({"one": {"x": {0: start}}, "two": {"x": {9: other}}})
    with pytest.raises(OctoscaleError, match=r"in one \(step 0\) and one \(step 9\)"):
        compare({"one": {"x": {0: start, 9: other}}})
    # Earlier versions did not record the list, and where it lay says nothing.
    old = replace(better(made, "x", 9, 0.0), pairs_digest="", pairs_url="elsewhere", mean_embedding_norm=9.0)
    assert compare({"one": {"x": {0: start}}, "two": {"x": {9: old}}})


def test_different_templates_and_galleries_under_one_name_are_not_compared() -> None:
    aligned = replace(templates(9), aligned=True)
    with pytest.raises(OctoscaleError, match=r"ijbc is not the same in .*: aligned False and True; evaluate both"):
        compare({"run": {"ijbc": {0: templates(0), 9: aligned}}})
    larger = replace(gallery(9), distractors=5, flip=True)
    with pytest.raises(OctoscaleError, match=r"tiny is not the same in .*: distractors 4 and 5; flip False and True"):
        compare({"one": {"tiny": {9: gallery(9)}}, "two": {"tiny": {9: larger}}})


def test_stray_files_in_a_run_count_for_nothing_and_bad_ones_are_named(made: Evaluation, tmp_path: Path) -> None:
    keep_scores([better(made, "calfw", 4, 0.1)], str(tmp_path))
    (tmp_path / "evaluations").mkdir()
    for stray in ("evaluations/.DS_Store", "benchmarks/.DS_Store", "benchmarks/calfw/notes.json"):
        (tmp_path / stray).write_bytes(b"\x00\xff\xfe")

    assert list(scores_of(str(tmp_path))) == ["calfw"]

    for text in ("{}", "[]", "null", "\udcff"):
        for name in ("evaluations/00000004.json", "benchmarks/calfw/00000005.json"):
            (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
            with pytest.raises(OctoscaleError, match=rf"{name} is not an evaluation in JSON"):
                scores_of(str(tmp_path))
            (tmp_path / name).unlink()


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


def templates(step: int, gain: float = 0.0, *resolutions: int | None) -> TemplateEvaluation:
    score = TemplateScore(0.2 - gain, 0.9 + gain, {0.1: 0.7 + gain, 1e-6: None}, ((0.0, 0.5), (1.0, 1.0)))
    return TemplateEvaluation(
        "ijbc", step, "ijbc", 9, 4, 10, 50, False, False, False, dict.fromkeys(resolutions or (None,), score)
    )


def gallery(step: int, gain: float = 0.0, *, fpir: float | None = 0.5, name: str = "tiny") -> IdentificationEvaluation:
    rate = None if fpir is None else fpir + gain
    score = IdentificationScore({1: 0.6 + gain, 5: 0.7 + gain}, {0.1: rate})
    return IdentificationEvaluation(name, step, "tinyface", 9, 4, 10, 50, False, {None: score})


def test_templates_and_galleries_have_tables_after_the_papers(made: Evaluation) -> None:
    """At their own steps: pairs are evaluated more often."""
    one: Scores = {
        "ijbc": {0: templates(0, 0.0, 7, 14), 8: templates(8, 0.1, 7, 14)},
        "lfw": {0: made, 9: better(made, "lfw", 9, 0.1)},
        "tiny": {8: gallery(8)},
    }
    two: Scores = {
        "ijbc": {3: templates(3, 0.05, 14, 28)},
        "lfw": {5: better(made, "lfw", 5, 0.1)},
        "tiny": {3: gallery(3, fpir=None), 4: gallery(4, 0.1, fpir=None)},
    }

    found = compare({"one": one, "two": two})
    tables = found.tables

    assert found.left_out == ("ijbc, 7 px: two (step 3) lacks it", "ijbc, 28 px: one (step 0) lacks it")
    assert [table.title for table in tables[2:]] == ["Templates, % (ijbc, 14 px)", "Identification, % (tiny)"]
    # Of the rates those that were measurable everywhere.
    assert [table.columns for table in tables[2:]] == [("EER", "TAR at FAR 0.1"), ("rank 1", "rank 5")]
    assert [(row.run, row.step) for row in tables[2].rows] == [("one", 0), ("one", 8), ("two", 3)]
    assert tables[2].rows[1].rates == pytest.approx((0.1, 0.8))
    assert tables[2].rows[1].changes == pytest.approx((-0.1, 0.1))
    assert [(row.run, row.step, row.changes) for row in tables[3].rows] == [("one", 8, None), ("two", 4, None)]
    assert tables[3].rows[1].rates == pytest.approx((0.7, 0.8))


def test_sets_of_one_name_and_two_kinds_are_not_compared(made: Evaluation) -> None:
    runs: dict[str, Scores] = {"one": {"x": {0: made}}, "two": {"x": {0: templates(0)}}}
    with pytest.raises(OctoscaleError, match="different data sets: one has x; two has x"):
        compare(runs)
    found = compare({run: {**runs[run], "tiny": {0: gallery(0)}} for run in runs})
    assert [table.title for table in found.tables] == ["Identification, % (tiny)"]
    assert found.left_out == ("x: no evaluation of it in two", "x: no evaluation of it in one")


def test_templates_at_different_resolutions_are_refused() -> None:
    with pytest.raises(OctoscaleError, match="no resolution in common"):
        compare({"one": {"ijbc": {0: templates(0, 0.0, 7)}}, "two": {"ijbc": {0: templates(0, 0.0, 14)}}})


def test_kept_scores_of_all_kinds_are_told_apart(made: Evaluation, tmp_path: Path) -> None:
    kept = [better(made, "calfw", 4, 0.1), templates(4, 0.1, 7), gallery(4)]
    keep_scores(kept, str(tmp_path))
    write_scores(kept, tmp_path / "all.json")

    for target in (tmp_path, tmp_path / "all.json"):
        found = scores_of(str(target))
        assert [found[name][4] for name in ("calfw", "ijbc", "tiny")] == kept
    # Those of earlier versions name no kind.
    values = json.loads(made.to_json())
    assert values.pop("kind") == "pairs"
    assert read_scores(json.dumps(values), "") == [made]


def test_other_kinds_and_other_files_are_refused(made: Evaluation) -> None:
    with pytest.raises(OctoscaleError, match="its kind is templates, not pairs"):
        Evaluation.from_json(templates(0).to_json())
    with pytest.raises(OctoscaleError, match="another kind than is known here, video"):
        read_scores(made.to_json().replace('"pairs"', '"video"', 1), "file")
    with pytest.raises(OctoscaleError, match=r"not an evaluation in JSON \(KeyError\('rank'\)\)"):
        from_json('{"kind": "identification", "scores": [{"resolution": 7}]}')
