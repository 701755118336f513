"""The committed dashboards are those of the tables, and show what there is."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import dashboards
import pytest

from octoscale.telemetry.table import METRICS, Metric

ROOT = Path(__file__).resolve().parents[3]
METRIC = {metric.name: metric for metric in METRICS}
BOARDS = [dashboards.dashboard_json(it) for it in dashboards.DASHBOARDS]
EACH = pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the titles of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> list[tuple[str, str]]:
    """Every query with its legend."""
    return [(it["expr"], it["legendFormat"]) for panel in panels(board) for it in panel["targets"]]


def metric_of(series: str) -> Metric | None:
    """The metric of a series' name."""
    parent = re.sub(r"_(bucket|sum|count)$", "", series)
    histogram = METRIC.get(parent)
    return METRIC.get(series) or (histogram if histogram and histogram.kind == "histogram" else None)


def test_the_committed_files_are_those_that_the_tables_give() -> None:
    wanted = dashboards.files()
    assert set(dashboards.FOLDER.glob("*.json")) == wanted.keys()
    stale = [path.name for path, text in wanted.items() if path.read_text() != text]
    assert not stale, "python tools/dashboards.py writes them"


@EACH
def test_queries_ask_for_metrics_and_labels_that_there_are(board: dict[str, Any]) -> None:
    for query, legend in queries(board):
        found = {name: metric_of(name) for name in re.findall(r"octoscale_\w+", query)}
        assert found
        assert None not in found.values(), query
        known = {"run", "rank", "le"}.union(*(metric.labels for metric in found.values() if metric))
        grouped = {label for group in re.findall(r"by \((.*?)\)", query) for label in group.split(", ") if label}
        matched = set(re.findall(r"(\w+)=~?\"", query))
        assert grouped | matched <= known, query
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped, query


def test_every_metric_is_on_a_panel() -> None:
    shown = {metric_of(name) for board in BOARDS for query, _ in queries(board)
             for name in re.findall(r"octoscale_\w+", query)}  # fmt: skip
    assert {metric.name for metric in METRICS} == {metric.name for metric in shown if metric}


@EACH
def test_a_panel_says_what_good_and_bad_look_like_and_has_a_unit(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert "Good: " in panel["description"], panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]


@EACH
def test_panels_are_in_the_grid_and_do_not_overlap(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(it["x"] >= 0 and it["x"] + it["w"] <= dashboards.COLUMNS for it in places)
    for a, b in combinations(places, 2):
        apart = (a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
                 or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"])  # fmt: skip
        assert apart, (a, b)
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


@EACH
def test_variables_are_defined_and_used_and_no_data_source_is_fixed(board: dict[str, Any]) -> None:
    defined = {it["name"] for it in board["templating"]["list"]}
    text = json.dumps([panel.get("targets", []) for panel in board["panels"]])
    used = set(re.findall(r"\$(?:{)?(?!__)(\w+)", text))
    assert used == defined
    assert {"datasource", "run"} <= defined
    for panel in panels(board):
        assert {it["datasource"]["uid"] for it in [panel, *panel["targets"]]} == {"${datasource}"}


def test_identifiers_are_unique_and_of_a_form_that_grafana_takes() -> None:
    uids = [board["uid"] for board in BOARDS]
    assert len(uids) == len(set(uids)) == 4
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)


@EACH
def test_the_documentation_names_every_panel(board: dict[str, Any]) -> None:
    page = (ROOT / "docs/dashboards.md").read_text()
    part = page.partition(f"**{board['title']}**")[2].partition("\n**")[0]
    assert board["description"] in part
    written = [title for row in re.findall(r"^\| (.*) \| (.*) \|$", part, re.MULTILINE)[1:]
               for title in (row[0], *row[1].split(" · "))]  # fmt: skip
    assert written == [panel["title"] for panel in board["panels"]]
