"""Bars in a terminal, lines elsewhere, objects for programs."""

import io
import json
import re
import time
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from octoscale.telemetry import progress
from octoscale.telemetry.output import Output
from octoscale.telemetry.pace import Figures
from octoscale.telemetry.progress import stages, step_line, training

FIGURES = Figures(
    step=120, steps=5000, epoch=1, loss=0.25, active_ratio=0.455, learning_rate=1e-4, step_seconds=0.2,
    images_per_second=1234.5, data_wait_ratio=0.012, eta_seconds=750.0, checkpoint_age_seconds=61.0,
)  # fmt: skip


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=110, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Stages.


def test_a_terminal_has_a_bar_for_each_stage() -> None:
    terminal = console(terminal=True)
    with stages(Output(terminal)) as show:
        for done in range(1, 5):
            show("verify", done, 4)
        show("write [3]", 3, 3)

    for text in ("verify", "4/4", "write [3]", "3/3", "/s"):
        assert text in shown(terminal)


def test_elsewhere_a_line_tells_the_end_of_each_stage() -> None:
    plain = console(terminal=False)
    with stages(Output(plain)) as show:
        for done in range(1, 1501):
            show("verify", done, 1500)
        show("write", 3, 3)

    first, second = shown(plain).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  verify  1,500 of 1,500  in \d\.\d s, [\d,.]+/s", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  write  3 of 3  in \d\.\d s, [\d,.]+/s", second)


def test_a_long_stage_has_lines_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    plain = console(terminal=False)
    with stages(Output(plain)) as show:
        show("verify", 100, 2000)
        time.sleep(0.1)
        show("verify", 500, 2000)

    assert re.fullmatch(r"\S+  verify  500 of 2,000  25%  [\d,.]+/s  ETA \d+:\d\d\n", shown(plain))


def test_quiet_shows_nothing_but_programs_are_told() -> None:
    terminal, events = console(terminal=True), io.StringIO()
    with stages(Output(terminal, quiet=True, events=events)) as show:
        show("verify", 1, 2)
        show("verify", 2, 2)

    assert shown(terminal) == ""
    (told,) = (json.loads(line) for line in events.getvalue().splitlines())
    assert {key: told[key] for key in ("event", "stage", "done", "total", "eta_seconds")} == {
        "event": "progress", "stage": "verify", "done": 2, "total": 2, "eta_seconds": 0.0,
    }  # fmt: skip


def told_of(events: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in events.getvalue().splitlines()]


def test_stages_that_alternate_are_each_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVENT_SECONDS", 0.05)
    events = io.StringIO()
    with stages(Output(console(terminal=False), quiet=True, events=events)) as show:
        for done in range(1, 11):
            show("one", done, 10)
            time.sleep(0.02)
            show("other", 2 * done, 20)

    told = told_of(events)
    for name, per_second in (("one", 50), ("other", 100)):
        own = [event for event in told if event["stage"] == name]
        assert len(own) > 2
        assert own[-1]["done"] == own[-1]["total"]
        # No faster than it went; slower on a busy machine.
        assert all(0 < event["per_second"] <= 1.1 * per_second for event in own)


def test_what_a_stage_begins_with_is_not_counted_as_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVENT_SECONDS", 0.0)
    events = io.StringIO()
    with stages(Output(console(terminal=False), quiet=True, events=events)) as show:
        show("resumed", 1000, 1004)
        time.sleep(0.1)
        show("resumed", 1001, 1004)

    (event,) = told_of(events)
    assert 0 < event["per_second"] <= 10
    assert event["eta_seconds"] >= 0.3


# Training.


def test_a_terminal_shows_every_figure_of_the_last_step() -> None:
    terminal = console(terminal=True)
    with training(terminal) as tell:
        tell("geometry", steps=5000)
        tell("step", **asdict(FIGURES))

    for text in ("training", "120/5000", "12:30 left", "loss 0.2500", "active 46%", "1,234 images/s", "data wait 1.2%",
                 "commit 1:01 ago"):  # fmt: skip
        assert text in shown(terminal), text


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_elsewhere_and_when_quiet_no_bar_is_shown_but_listeners_hear_all(terminal: bool, quiet: bool) -> None:
    heard: list[str] = []

    def tell_on(event: str, /, **values: Any) -> None:
        heard.append(event)

    output = console(terminal=terminal)
    with training(output, quiet=quiet, tell=tell_on) as tell:
        tell("step", **asdict(FIGURES))
        tell("commit", step=120, seconds=0.5)

    assert shown(output) == ""
    assert heard == ["step", "commit"]


def test_the_log_has_the_same_figures() -> None:
    assert step_line(FIGURES) == (
        "step 120 of 5,000  loss 0.2500  active 46%  1,234 images/s  data wait 1.2%  commit 1:01 ago  ETA 12:30"
    )
