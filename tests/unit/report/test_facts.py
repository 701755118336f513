"""Summary, comparison, configuration and history of runs."""

import pytest

from octoscale.report.facts import comparison, facts_section, tiles
from octoscale.report.items import Missing, Table, Text, duration, number, percentage
from octoscale.report.runs import Run
from tests.unit.report.made_up import evaluation, made_up_run


def shown(run: Run) -> dict[str, str]:
    return {tile.label: tile.value for tile in tiles(run)}


def tables(run: Run) -> dict[str, Table]:
    return {item.title: item for item in facts_section(run, [run]).items if isinstance(item, Table)}


def test_the_summary_of_a_run() -> None:
    assert shown(made_up_run()) == {
        "accuracy": "60.50 → 80.50 %", "steps": "4", "images": "64", "goodput": "60.0 %", "restarts": "1",
    }  # fmt: skip
    notes = [tile.note for tile in tiles(made_up_run())]
    assert notes == [
        "mean of 2 resolutions, cross-resolution", "of 4", "16 a step, each high and low",
        "of 1 min 40 s advanced the training", "1 after a failure",
    ]  # fmt: skip


def test_the_summary_has_no_tile_for_what_is_not_known() -> None:
    run = made_up_run(evaluations={}, commits=(), record={}, attempts=())

    assert shown(run) == {"steps": "4", "images": "64"}


def test_the_summary_names_several_data_sets() -> None:
    evaluations = {"lfw": (evaluation(4),), "xqlfw": (evaluation(4, accuracy=0.5),)}

    found = shown(made_up_run(evaluations=evaluations))
    assert (found["accuracy, lfw"], found["accuracy, xqlfw"]) == ("80.50 %", "50.50 %")


def test_several_runs_are_compared_in_a_table() -> None:
    other = made_up_run("b", evaluations={"lfw": (evaluation(4),)}, attempts=(), lines=(), record={})

    results, _ = comparison([made_up_run("a"), other]).items

    assert isinstance(results, Table)
    assert results.columns == ("", "a", "b")
    assert {row[0]: row[1:] for row in results.rows} == {
        "accuracy, pairs, cross, %": ("60.50 → 80.50", "–"),
        "accuracy, pairs, same, %": ("60.50 → 80.50", "–"),
        "accuracy, lfw, cross, %": ("–", "80.50"),
        "accuracy, lfw, same, %": ("–", "80.50"),
        "steps": ("4", "4"),
        "images": ("64", "64"),
        "last loss": ("3", "–"),
        "wall time": ("1 min 40 s", "–"),
        "goodput, %": ("60.00", "–"),
        "restarts": ("1", "–"),
    }


def test_settings_that_differ_are_told_apart() -> None:
    values = {"directory": "b", "global_batch_size": 32, "steps": 4, "loss": {"margin": 25.0, "metric": "cosine"}}

    _, differing = comparison([made_up_run("a"), made_up_run("b", values=values)]).items

    assert isinstance(differing, Table)
    assert differing.rows == (("global_batch_size", "16", "32"), ("loss.metric", "–", "cosine"))


def test_versions_starts_and_commits_are_tables() -> None:
    found = tables(made_up_run())

    assert found["Versions"].rows == (("octoscale", "0.1.0"), ("torch", "2.11.0"))
    assert found["Starts of the run"].rows[1] == ("2", "2023-11-14 22:13:20 UTC", "0.1.0", "node", "1")
    assert found["Commits that are kept"].rows[1] == ("4", "2", "2023-11-14 22:13:20 UTC", "87.50")


def test_the_configuration_is_shown_as_it_was_written() -> None:
    run = made_up_run(values={"steps": 4, "global_batch_size": 16, "a key of the future": ["ü"]})

    (text,) = (item for item in facts_section(run, [run]).items if isinstance(item, Text))

    assert text.text == "steps: 4\nglobal_batch_size: 16\na key of the future:\n- ü\n"


def test_what_cannot_be_read_is_told() -> None:
    run = made_up_run(problems=("steps/1.jsonl is damaged",), record={}, commits=())

    missing = [item for item in facts_section(run, [run]).items if isinstance(item, Missing)]

    assert [item.what for item in missing] == ["Versions", "Commits", "Something"]
    assert missing[-1].why == "steps/1.jsonl is damaged"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (59.94, "59.9 s"), (61.0, "1 min 1 s"), (3600.0, "1 h 0 min"), (5430.0, "1 h 30 min"),
     (259_200.0, "3 d 0 h")],
)  # fmt: skip
def test_durations_are_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_have_four_digits_and_no_number_a_dash() -> None:
    assert [number(value) for value in (0.123456, 12345.6, 1e-5, float("nan"), None)] == [
        "0.1235", "12,346", "1e-05", "–", "–"
    ]  # fmt: skip
    assert [percentage(value) for value in (0.12345, None, float("inf"))] == ["12.35", "–", "–"]
