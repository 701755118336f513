"""A bar in a terminal, nothing elsewhere."""

import io

import pytest
from rich.console import Console

from octoscale.telemetry.progress import progress, stages


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_what_is_done_and_the_text_beside_it() -> None:
    terminal = console(terminal=True)
    with progress(terminal, "training", 10, done=3) as show:
        show(10, "loss 0.25")

    assert "training" in shown(terminal)
    assert "10/10" in shown(terminal)
    assert "loss 0.25" in shown(terminal)


def test_a_resumed_run_starts_where_it_left_off() -> None:
    terminal = console(terminal=True)
    with progress(terminal, "training", 10, done=3):
        pass

    assert "3/10" in shown(terminal)


def test_a_text_with_brackets_is_shown_as_it_is() -> None:
    terminal = console(terminal=True)
    with progress(terminal, "training", 1) as show:
        show(1, "weights[3] is [/odd]")

    assert "weights[3] is [/odd]" in shown(terminal)


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_elsewhere_and_when_quiet_nothing_is_shown(terminal: bool, quiet: bool) -> None:
    output = console(terminal=terminal)
    with progress(output, "training", 10, quiet=quiet) as show:
        show(5, "half")
    with stages(output, quiet=quiet) as show_stage:
        show_stage("verify", 1, 2)

    assert shown(output) == ""


def test_each_stage_has_a_bar_of_its_own() -> None:
    terminal = console(terminal=True)
    with stages(terminal) as show:
        show("verify", 1, 2)
        show("verify", 2, 2)
        show("write", 3, 3)

    for text in ("verify", "2/2", "write", "3/3"):
        assert text in shown(terminal)
