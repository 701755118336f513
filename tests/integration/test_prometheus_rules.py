"""The rules in ``cluster/prometheus/``, by Prometheus's own tool; on real runs: test_alerts.py."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from octoscale.telemetry.table import METRICS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster/prometheus"
TABLE = ROOT / "docs/metrics.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on PATH: apt-get install prometheus"
)


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / name).read_text())["groups"] for rule in group["rules"]]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["check", "config", "prometheus.yml"], id="configuration"),
        pytest.param(["check", "rules", "recording.yml", "alerts.yml"], id="rules"),
        pytest.param(["test", "rules", "alerts_test.yml"], id="alerts on made-up series"),
    ],
)
def test_promtool_finds_no_fault(arguments: list[str]) -> None:
    found = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "FAILED" not in found.stdout + found.stderr


def test_the_rules_speak_of_metrics_that_there_are() -> None:
    known = {metric.name for metric in METRICS}
    known |= {f"{metric.name}_{part}" for metric in METRICS if metric.kind == "histogram" for part in ("sum", "count")}
    recorded = {rule["record"] for rule in rules("recording.yml")}
    for rule in rules("recording.yml") + rules("alerts.yml"):
        for name in re.findall(r"(?:\w+:)?octoscale_\w+(?::\w+)?", rule["expr"]):
            assert name in (recorded if ":" in name else known), rule.get("alert", rule.get("record"))


def test_every_alert_says_how_bad_it_is_what_happened_and_what_to_do() -> None:
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert "$labels.run" in rule["annotations"]["summary"], rule["alert"]
        assert len(rule["annotations"]["description"]) > 80, rule["alert"]


def test_every_alert_is_fired_by_made_up_series() -> None:
    text = (FOLDER / "alerts_test.yml").read_text()
    for rule in rules("alerts.yml"):
        assert f'alertname="{rule["alert"]}"' in text


def test_every_alert_is_documented() -> None:
    rows = re.findall(r"^\| `(Octoscale\w+)` \| (\w+) \|", TABLE.read_text(), re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in rules("alerts.yml")]
