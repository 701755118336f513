"""An octoscale command in a process of its own."""

from pathlib import Path
from typing import Any

import pytest

from octoscale.errors import OctoscaleError
from octoscale.interruption import Interruption
from octoscale.reproduce.process import run_command


def test_its_error_is_its_message_and_its_events_are_handed_on(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    absent = tmp_path / "absent.yaml"
    with pytest.raises(OctoscaleError, match=rf"exit code 1: cannot read the configuration {absent}"):
        run_command(["train", str(absent)], Interruption(), take=events.append, warn=lambda line: None)
    assert [event["event"] for event in events] == ["error"]


def test_wrong_use_has_the_last_of_its_stderr() -> None:
    with pytest.raises(OctoscaleError, match=r"exit code 2: (?s:.*)No such command"):
        run_command(["nonsense"], Interruption(), take=lambda event: None, warn=lambda line: None)
