"""A look as people see it."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from octoscale.telemetry.scrape import Scrape
from octoscale.top.look import Look, Rank, Watch
from octoscale.top.screen import render
from octoscale.top.sources import Seen, source_of
from tests.unit.commands import Octoscale, refused
from tests.unit.top.conftest import trained


def text_of(look: Look, *, colours: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=120, color_system=None).print(render(look, colours=colours))
    return file.getvalue()


@pytest.fixture
def look(directory: Path) -> Look:
    with trained(directory, attempt=2) as ranks:
        ranks.steps(3)
        ranks.commit_and_evaluate()
        return Watch().take(source_of(str(directory)).look(5))


def test_everything_that_is_known_is_on_the_screen(look: Look) -> None:
    text = text_of(look)

    # 48 images in three steps of 0.5 s and an evaluation of 1 s.
    for part in ("step 3 of 100 · epoch 1 · 19.2 images/s", "2 ranks · attempt 2, 1 restart · goodput ", "commit 0:0",
                 "embedding norm 4 ± 0.5 · effective rank 7.5 · gradient norm 3 · learning rate 0.001",
                 "embed 40%", "98.75%", "62.50%"):  # fmt: skip
        assert part in text, part
    rows = [line.split() for line in text.splitlines()]
    assert ["hhh", "0.5", "25%", "12%", "1.5", "2.5", "3"] in rows
    assert ["lll", "0.25", "75%", "50%", "1.25", "2.25", "1"] in rows
    assert ["sum", "0.75"] in rows
    assert ["accuracy", "7", "px", "112", "px"] in rows
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_bar_is_as_long_as_it_is_whatever_the_shares(look: Look) -> None:
    odd = Rank(0, "here:1", None, phases={"embed": 1 / 3, "mine": 1 / 3, "loss": 0.33, "new_phase": 0.0033})
    (row,) = [line for line in text_of(replace(look, ranks=(odd,)), colours=True).splitlines() if "here:1" in line]

    assert row.count("█") + row.count("░") == 24
    assert row.endswith("embed 33%  mine 33%  loss 33%")


def test_without_colours_the_phases_are_words(look: Look) -> None:
    text = text_of(look)

    assert "█" not in text
    assert "embed 40%  data_wait 20%  exchange 20%  second_pass 20%" in text


def test_a_rank_that_does_not_answer_has_its_row(look: Look) -> None:
    silent = Rank(1, "there:9", "timed out")
    rows = [line.split() for line in text_of(replace(look, ranks=(look.ranks[0], silent))).splitlines()]

    assert ["1", "there:9", "no", "answer:", "timed", "out"] in rows


def test_of_many_ranks_those_that_need_a_look_are_shown(look: Look) -> None:
    many = [Rank(number, f"here:{number}", None, phases={"embed": 1.0}) for number in range(500)]
    many[77] = Rank(77, "here:77", "timed out")
    many[400] = Rank(400, "here:400", None, phases={"embed": 0.5, "data_wait": 0.5})
    text = text_of(replace(look, ranks=tuple(many)))

    assert "here:77 " in text
    assert "here:400 " in text
    assert "… and 468 ranks that answer and wait less for data" in text


def test_a_run_that_does_not_answer_is_told(directory: Path) -> None:
    nobody = Watch().take(Seen([(0, Scrape("here:1", fault="Connection refused"))], 9, True, "here:1"))
    assert "no rank answers: the run has ended, was killed, or is starting again" in text_of(nobody)

    nothing = Watch().take(Seen([], 9, False, "runs/a/steps"))
    assert "no rank has told where it is, and nothing is written yet: runs/a/steps" in text_of(nothing)

    broken = Watch().take(Seen([(0, Scrape("steps", fault="cannot read"))], 9, False, "runs/a/steps"))
    assert "cannot read runs/a/steps: cannot read" in text_of(broken)


# The command.


def test_one_look_is_printed_as_text_or_as_an_object(call: Octoscale, directory: Path) -> None:
    with trained(directory) as ranks:
        ranks.steps(3)
        text = call("top", directory, "--once")
        document = call("top", directory, "--once", "--json")

    assert text.code == 0
    assert "step 3 of 100" in text.out
    # Wider than the 80 columns of something that is no terminal.
    rows = [line.split() for line in text.out.splitlines() if "exchange 20%" in line]
    assert [(row[0], row[2], row[-1]) for row in rows] == [("0", "3", "20%"), ("1", "3", "20%")]
    look = json.loads(document.out)
    assert (look["event"], look["step"], look["terms"]["hhh"]["loss"], len(look["ranks"])) == ("look", 3, 0.5, 2)


def test_one_look_at_a_run_that_is_not_there_has_exit_code_1(call: Octoscale, directory: Path) -> None:
    with trained(directory):
        pass

    answer = call("top", directory, "--once")
    assert (answer.code, "nothing is written yet" in answer.out) == (1, True)
    refused(call("top", directory.parent, "--once"), "is no run")
