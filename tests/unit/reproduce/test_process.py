"""An octoscale command in a process of its own."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.reproduce import process
from octoscale.reproduce.process import StoppedError, Wish, run_command


def test_its_error_is_its_message_and_its_events_are_handed_on(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    absent = tmp_path / "absent.yaml"
    with pytest.raises(OctoscaleError, match=rf"exit code 1: cannot read the configuration {absent}"):
        run_command(["train", str(absent)], Wish(), take=events.append, warn=lambda line: None)
    assert [event["event"] for event in events] == ["error"]


def test_wrong_use_has_the_last_of_its_stderr() -> None:
    with pytest.raises(OctoscaleError, match=r"exit code 2: (?s:.*)No such command"):
        run_command(["nonsense"], Wish(), take=lambda event: None, warn=lambda line: None)


def test_what_is_no_event_is_a_warning_and_the_events_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["a library's notice", "[1]", '{"no": "event"}', '{"event": "step"}']
    _as_command(monkeypatch, "".join(f"print({line!r})\n" for line in lines))
    events: list[dict[str, Any]] = []
    warnings: list[str] = []

    run_command([], Wish(), take=events.append, warn=warnings.append)

    assert (events, warnings) == ([{"event": "step"}], lines[:3])


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LAST_LINES_SECONDS", 0.2)
    _as_command(monkeypatch, "import subprocess, sys\nsubprocess.Popen(['sleep', '40'])\n")
    began = time.monotonic()
    run_command([], Wish(), take=lambda event: None, warn=lambda line: None)
    assert time.monotonic() - began < 30


def test_at_once_it_is_killed_though_it_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    _as_command(monkeypatch, deaf)
    wish = Wish()
    with pytest.raises(StoppedError):
        run_command([], wish, take=lambda event: None, warn=lambda line: wish.ask_at_once())


def _as_command(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Instead of octoscale's: a program that starts at once."""
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-c", program])
