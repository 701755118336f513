"""Which runs a table or a figure is made of."""

from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.loss.config import LossConfig
from octoscale.reproduce.cells import TERMS, before_and_after_cell, figure4_cells, table4_cells
from octoscale.reproduce.margins import VARIANTS, variant_of
from tests.unit.reproduce.conftest import base_config


def test_table_4_has_every_subset_of_the_terms_once_and_four_more_metrics() -> None:
    cells, (terms, metrics) = table4_cells(base_config(), "out", {})

    assert len(cells) == len({cell.name for cell in cells}) == 19
    assert len({frozenset(cell.config.loss.terms) for cell in cells}) == 15
    assert [name for _, name in terms.rows] == [cell.name for cell in cells[:15]]
    assert terms.rows[:2] == (("hhh + hll + lhh + lll", "hhh+hll+lhh+lll"), ("hhh", "hhh"))
    assert [name for _, name in metrics.rows] == ["hhh+hll+lhh+lll", *list(VARIANTS)[1:]]


def test_the_metrics_have_all_terms_and_a_margin_of_their_own() -> None:
    base = base_config(loss={"terms": ["hhh"], "margin": 10.0})
    cells, _ = table4_cells(base, "out", {"cosine": 0.2})

    found = {variant_of(cell.config.loss): cell.config.loss for cell in cells if cell.config.loss.terms == TERMS}
    assert {name: loss.margin for name, loss in found.items()} == {
        "euclidean": 10.0, "euclidean-normalized": 0.3, "euclidean_squared": 100.0,
        "euclidean_squared-normalized": 0.6, "cosine": 0.2,
    }  # fmt: skip


def test_terms_are_studied_with_the_configured_metric_which_its_row_shares() -> None:
    cells, (terms, metrics) = table4_cells(base_config(loss={"metric": "cosine", "margin": 0.4}), "out", {})

    assert {cell.config.loss.metric for cell in cells[:15]} == {"cosine"}
    assert "cosine, margin 0.4" in terms.title
    assert metrics.rows[0] == ("euclidean, margin 25", "euclidean")
    assert metrics.rows[-1] == ("cosine, margin 0.4", "hhh+hll+lhh+lll")


def test_a_margin_given_for_the_configured_metric_counts_for_the_terms_too() -> None:
    cells, _ = table4_cells(base_config(), "out", {"euclidean": 20.0})
    assert {cell.config.loss.margin for cell in cells[:15]} == {20.0}


def test_a_run_has_places_of_its_own_and_is_else_as_configured() -> None:
    base = base_config(
        seed=3, checkpoint={"url": "s3://bucket/commits/"}, telemetry={"folder": "metrics"},
        evaluate={"at_start": False},
    )  # fmt: skip
    cell = table4_cells(base, "s3://bucket/table4/", {})[0][1]

    assert cell.config.directory == "s3://bucket/table4/hhh"
    assert (cell.config.checkpoint.url, cell.config.telemetry.folder) == ("s3://bucket/commits/hhh", "metrics/hhh")
    assert cell.settings == {"loss.terms": ["hhh"]}
    same = {"directory": "unused", "loss": base.loss, "checkpoint": base.checkpoint, "telemetry": base.telemetry}
    assert cell.config.model_copy(update=same) == base


def test_the_network_that_all_runs_start_from_is_evaluated_by_the_first_alone() -> None:
    base = base_config(evaluate={"at_start": False})
    whole = before_and_after_cell(base, "out")
    for first, *others in (table4_cells(base, "out", {})[0], figure4_cells(base, "out", (), ()), [whole]):
        assert first.config.evaluate is not None
        assert first.config.evaluate.at_start
        assert not any(cell.config.evaluate.at_start for cell in others if cell.config.evaluate)


def test_only_the_first_run_of_table_4_evaluates_benchmarks_before_it() -> None:
    cells, _ = table4_cells(base_config(evaluate={"benchmarks": {"calfw": {"pairs": "p", "images": "i"}}}), "out", {})
    assert [cell.name for cell in cells if cell.before] == ["hhh+hll+lhh+lll"]
    assert {cell.wanted_benchmarks for cell in cells} == {("calfw",)}


def test_figures_2_and_3_are_one_run() -> None:
    cell = before_and_after_cell(base_config(), "out")
    assert (cell.name, cell.config.directory, cell.settings, cell.before) == ("octuplet", "out/octuplet", {}, True)
    assert cell.config.loss == LossConfig()


def test_figure_4_has_each_margin_with_each_batch() -> None:
    cells = figure4_cells(base_config(), "out", [25.0, 0.5], [128, 64])
    assert [cell.name for cell in cells] == [
        "margin-0.5-batch-64", "margin-25-batch-64", "margin-0.5-batch-128", "margin-25-batch-128",
    ]  # fmt: skip


def test_margins_that_are_close_have_runs_of_their_own() -> None:
    cells = figure4_cells(base_config(), "out", [0.3, 0.3000001, 25], [64])
    assert [cell.name for cell in cells] == [
        "margin-0.3-batch-64", "margin-0.3000001-batch-64", "margin-25-batch-64",
    ]  # fmt: skip


def test_default_margins_are_the_papers_and_follow_the_metric() -> None:
    def margins(**loss: Any) -> list[float]:
        return [cell.config.loss.margin for cell in figure4_cells(base_config(loss=loss), "out", [], [64])]

    assert margins(margin=3.0) == [1, 5, 10, 25, 50, 100, 500]
    assert margins(metric="cosine", margin=3.0) == [0.012, 0.06, 0.12, 0.3, 0.6, 1.2, 6]
    assert sorted({cell.config.global_batch_size for cell in figure4_cells(base_config(), "out", [1], [])}) == [
        64, 128, 256,
    ]  # fmt: skip


def test_every_batch_size_sees_as_many_images() -> None:
    schedule = {"name": "step", "milestones": [40, 80], "warmup_steps": 8}
    cells = figure4_cells(base_config(schedule=schedule), "out", [25], [32, 64, 256])

    configs = [cell.config for cell in cells]
    assert [config.steps for config in configs] == [200, 100, 25]
    assert {(config.steps or 0) * config.global_batch_size for config in configs} == {6400}
    assert [config.schedule.milestones for config in configs] == [(80, 160), (40, 80), (10, 20)]
    assert [config.schedule.warmup_steps for config in configs] == [16, 8, 2]


def test_equal_steps_are_the_configured_ones() -> None:
    cells = figure4_cells(base_config(schedule={"warmup_steps": 8}), "out", [25], [32, 256], equal_steps=True)
    assert [(cell.config.steps, cell.config.schedule.warmup_steps) for cell in cells] == [(100, 8), (100, 8)]


def test_epochs_stay_and_are_no_equal_steps() -> None:
    base = base_config(steps=None, epochs=2)
    assert [cell.config.epochs for cell in figure4_cells(base, "out", [25], [32, 256])] == [2, 2]
    with pytest.raises(OctoscaleError, match="--equal-steps takes a run whose length is in steps"):
        figure4_cells(base, "out", [25], [32], equal_steps=True)


def test_a_batch_smaller_than_the_configured_chunk_is_one_chunk() -> None:
    cells = figure4_cells(base_config(micro_batch_size=48), "out", [25], [32, 64])
    assert [cell.config.micro_batch_size for cell in cells] == [32, 48]


def test_an_odd_batch_is_refused_with_its_cell() -> None:
    with pytest.raises(OctoscaleError, match=r"margin-25-batch-33 does not fit:\n  global_batch_size: .*33"):
        figure4_cells(base_config(), "out", [25], [33])


@pytest.mark.parametrize(
    ("evaluate", "text"), [(None, "evaluates nothing"), ({"modes": ["same"]}, r"\['same'\], and this needs cross")]
)
def test_without_cross_resolution_evaluation_there_is_nothing_to_draw(evaluate: Any, text: str) -> None:
    base = base_config(evaluate=evaluate)
    for make in (lambda: table4_cells(base, "out", {}), lambda: before_and_after_cell(base, "out"),
                 lambda: figure4_cells(base, "out", [], [])):  # fmt: skip
        with pytest.raises(OctoscaleError, match=text):
            make()
