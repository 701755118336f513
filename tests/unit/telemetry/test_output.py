"""Text for people, objects for programs."""

import io
import json
import logging
import math

import pytest
from rich.console import Console

from octoscale.telemetry.output import Output, line_of


def test_an_event_is_one_object_on_a_line_of_its_own() -> None:
    events = io.StringIO()
    output = Output(Console(file=io.StringIO()), events=events)
    output.event("step", step=3, loss=0.5)
    output.event("commit", step=3)

    assert [json.loads(line) for line in events.getvalue().splitlines()] == [
        {"event": "step", "step": 3, "loss": 0.5}, {"event": "commit", "step": 3},
    ]  # fmt: skip


def test_without_json_nothing_is_written() -> None:
    output = Output(Console(file=io.StringIO()))
    output.event("step", step=3)

    assert not output.has_events


def test_what_is_no_number_is_null_and_every_line_can_be_read() -> None:
    line = line_of("step", {"loss": math.nan, "terms": {"hhh": [math.inf, 1.0]}, 7: "größer\n"})

    assert line.count("\n") == 1
    assert json.loads(line) == {"event": "step", "loss": None, "terms": {"hhh": [None, 1.0]}, "7": "größer\n"}


def test_a_reader_that_has_gone_ends_the_events_and_not_the_command(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    output = Output(Console(file=io.StringIO()), events=Gone())
    with caplog.at_level(logging.WARNING, "octoscale"):
        output.event("step", step=1)
        output.event("step", step=2)

    assert [record.getMessage() for record in caplog.records] == ["no more events: Broken pipe"]
