"""Write the Grafana dashboards in cluster/grafana/dashboards from the tables in tools/grafana.

    python tools/dashboards.py            # write them
    python tools/dashboards.py --check    # exit code 1 where a written one is not what the tables give

A dashboard names no data source of its own: its variable `datasource` lets one choose, so it can be imported anywhere.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from grafana.data import DATA
from grafana.faults import FAULTS
from grafana.loss import LOSS
from grafana.panels import Dashboard, Panel
from grafana.run import RUN

DASHBOARDS = (RUN, LOSS, DATA, FAULTS)
FOLDER = Path(__file__).resolve().parents[1] / "cluster/grafana/dashboards"
# Of Grafana's grid.
COLUMNS = 24
# Grafana 11's; later versions migrate it when they load it.
SCHEMA_VERSION = 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana reads."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, section in dashboard.sections:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": place})  # fmt: skip
        left, top, lowest = 0, top + 1, 0
        for panel in section:
            if left + panel.width > COLUMNS:
                left, top, lowest = 0, top + lowest, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append({"id": len(panels) + 1, **panel_json(panel), "gridPos": place})
            left, lowest = left + panel.width, max(lowest, panel.height)
        top += lowest
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": ["octoscale"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "octoscale", "tags": ["octoscale"], "asDropdown": True,
                   "includeVars": True, "keepTime": True}],
        "annotations": {"list": []},
        "templating": {"list": variables(with_rank="$rank" in json.dumps([panel["targets"] for panel in panels
                                                                          if "targets" in panel]))},
        "panels": panels,
    }  # fmt: skip


def variables(*, with_rank: bool) -> list[dict[str, Any]]:
    """`datasource`, `run`, and where a query asks for it `rank`, all of them at first."""
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "regex": "",
              "refresh": 1, "hide": 0, "includeAll": False, "multi": False, "options": [], "current": {}}  # fmt: skip
    run = query_variable("run", "label_values(octoscale_world_size, run)", sort=1)
    rank = query_variable("rank", 'label_values(octoscale_world_size{run="$run"}, rank)', sort=3)
    rank |= {"includeAll": True, "multi": True, "allValue": ".*",
             "current": {"text": ["All"], "value": ["$__all"]}}  # fmt: skip
    return [source, run, *([rank] if with_rank else [])]


def query_variable(name: str, query: str, *, sort: int) -> dict[str, Any]:
    """One value of a label, asked for again whenever the time range changes."""
    return {"type": "query", "name": name, "label": name.capitalize(), "datasource": SOURCE, "definition": query,
            "query": {"query": query, "refId": name}, "refresh": 2, "sort": sort, "regex": "", "hide": 0,
            "includeAll": False, "multi": False, "options": [], "current": {}}  # fmt: skip


def panel_json(panel: Panel) -> dict[str, Any]:
    """One panel, without its number and place."""
    steps = [{"value": None, "color": panel.color}, *({"value": at, "color": color} for at, color in panel.thresholds)]
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    limits = {"min": panel.minimum, "max": panel.maximum}
    defaults |= {name: limit for name, limit in limits.items() if limit is not None}
    options: dict[str, Any]
    if panel.kind == "timeseries":
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 40 if panel.stack else 0, "showPoints": "auto",
            "spanNulls": False, "stacking": {"mode": panel.stack or "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.thresholds else "off"},
        }  # fmt: skip
        options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                   "tooltip": {"mode": "multi", "sort": "desc"}}  # fmt: skip
    elif panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                   "graphMode": "area", "textMode": "auto", "justifyMode": "auto", "orientation": "auto"}  # fmt: skip
    else:
        options = {"showHeader": True, "cellHeight": "sm"}
    instant = panel.kind == "table"
    targets = [
        {"refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", "expr": expression,
         "legendFormat": legend, "instant": instant, "range": not instant, "format": "table" if instant else
         "time_series"}
        for number, (expression, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    return {"type": panel.kind, "title": panel.title, "description": panel.text, "datasource": SOURCE,
            "targets": targets, "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}  # fmt: skip


def files() -> dict[Path, str]:
    """Each dashboard's file and its text."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(dashboard_json(dashboard), indent=1, ensure_ascii=False) + "\n"
        for dashboard in DASHBOARDS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say which file differs")
    check = parser.parse_args().check
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    stale += [path for path in FOLDER.glob("*.json") if path not in wanted]
    for path in stale:
        print(f"{'differs' if check else 'written'}  {path.relative_to(FOLDER.parents[2])}")
        if not check and path in wanted:
            path.write_text(wanted[path])
        elif not check:
            path.unlink()
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
