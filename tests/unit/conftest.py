"""Fixtures of unit tests."""

import sys
from pathlib import Path

import pytest

import octoscale.cli
from tests.unit.commands import Answer, Octoscale


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Octoscale:
    """Runs the command line with these arguments."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["octoscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            octoscale.cli.main()
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run
