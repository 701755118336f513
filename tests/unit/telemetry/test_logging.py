"""One line per event, on stderr."""

import io
import logging
import re

import pytest
from rich.console import Console

from octoscale.telemetry.logging import set_up_logging

LOGGER = logging.getLogger("octoscale.somewhere")


def say() -> None:
    LOGGER.info("step %d", 5)
    LOGGER.warning("a commit is damaged")


def test_the_main_rank_logs_what_it_does_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    say()

    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"\d\d:\d\d:\d\d  step 5\n\d\d:\d\d:\d\d  a commit is damaged\n", err)


@pytest.mark.parametrize(("rank", "quiet"), [(1, False), (0, True)])
def test_other_ranks_and_the_quiet_one_log_their_warnings_alone(
    rank: int, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(rank=rank, world_size=2, quiet=quiet)
    say()

    assert re.fullmatch(rf"\S+  rank {rank}  a commit is damaged\n", capsys.readouterr().err)


def test_setting_up_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging()
    set_up_logging()
    say()

    assert capsys.readouterr().err.count("step 5") == 1


def test_in_a_terminal_the_lines_go_through_its_console_and_brackets_stay() -> None:
    file = io.StringIO()
    set_up_logging(console=Console(file=file, force_terminal=True, width=100, color_system=None))
    LOGGER.info("wrote %s", "[red]faces[/x].png")

    assert "wrote [red]faces[/x].png" in file.getvalue()
