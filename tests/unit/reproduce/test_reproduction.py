"""Tables and pictures from what finished runs have kept."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
from rich.console import Console

from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.evaluate.evaluation import Evaluation
from octoscale.reproduce.figures import shown_resolutions
from octoscale.reproduce.found import look
from octoscale.reproduce.reproduction import Reproduction, figure2_of, figure3_of, figure4_of, table4_of, write
from octoscale.reproduce.sweep import Swept
from octoscale.reproduce.table import Table
from tests.unit.reproduce.conftest import Finish, base_config, made_up

BENCHMARKS = {"benchmarks": {name: {"pairs": "p", "images": "i"} for name in ("calfw", "xqlfw")}}


def swept(wanted: Reproduction, **errors: str) -> Swept:
    return Swept({cell.name: look(cell) for cell in wanted.cells}, errors, stopped=False)


def table_of(wanted: Reproduction, **errors: str) -> Table:
    drawn = wanted.draw(swept(wanted, **errors))
    assert drawn is not None
    return drawn.table


def rows(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def printed(table: Table) -> str:
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table.render())
    return captured.get()


def test_table_4_compares_with_the_first_row_of_each_part(sweep_folder: str, finish: Finish) -> None:
    wanted = table4_of(base_config(), sweep_folder, {})
    for number, cell in enumerate(wanted.cells):
        finish(cell, 0.9 - 0.01 * number)

    table = table_of(wanted)

    assert table.columns == ("7 px", "14 px", "112 px", "mean")
    before, first, second = rows(table)[:3]
    assert (before["row"], before["mean"], before["mean change"]) == ("before fine-tuning", "60.0000", "")
    assert (first["row"], first["mean"], first["mean change"]) == ("hhh + hll + lhh + lll", "90.0000", "")
    assert (second["row"], second["7 px"], second["mean change"]) == ("hhh", "84.0000", "-1.0000")
    shared = rows(table)[16]
    assert (shared["row"], shared["mean"], shared["mean change"]) == ("euclidean, margin 25", "90.0000", "")
    last = rows(table)[-1]
    assert (last["row"], last["mean change"]) == ("cosine, margin 0.3", "-18.0000")
    assert "| hhh | 84.00 (-1.00) | 89.00 (-1.00) | 94.00 (-1.00) | 89.00 (-1.00) |" in table.to_markdown()


def test_the_best_of_each_part_is_bold(sweep_folder: str, finish: Finish) -> None:
    wanted = table4_of(base_config(), sweep_folder, {})
    for cell in wanted.cells:
        finish(cell, {"lll": 0.92, "cosine": 0.91}.get(cell.name, 0.9), before=0.94)
    bold = [line.split(" | ")[0] for line in table_of(wanted).to_markdown().splitlines() if "**" in line]
    assert bold == ["**Cross-resolution accuracy, % (lfw)**", "| lll", "| cosine, margin 0.3"]


def test_rows_that_are_missing_or_failed_say_so(sweep_folder: str, finish: Finish) -> None:
    wanted = table4_of(base_config(), sweep_folder, {})
    assert wanted.draw(swept(wanted)) is None
    finish(wanted.cells[1], 0.9)
    finish(wanted.cells[2], 0.8)

    table = table_of(wanted, lhh="out of memory")

    found = {row["row"]: (row["status"], row["mean"], row["mean change"]) for row in rows(table)}
    assert found["hhh + hll + lhh + lll"] == ("missing", "", "")
    # There is no first row to compare with.
    assert found["hll"] == ("finished", "80.0000", "")
    assert found["lhh"] == ("failed", "", "")
    assert "failed" in printed(table)


def test_table_4_averages_the_sets_and_shows_lfw_and_xqlfw_apart(sweep_folder: str, finish: Finish) -> None:
    wanted = table4_of(base_config(evaluate=BENCHMARKS), sweep_folder, {})
    finish(wanted.cells[0], 0.9, benchmarks={"calfw": 0.8, "xqlfw": 0.7})
    finish(wanted.cells[1], 0.9, benchmarks={"calfw": 0.82, "xqlfw": 0.7})

    table = table_of(wanted)

    assert table.columns == ("LFW", "7 px", "14 px", "112 px", "mean", "XQLFW")
    before, first, second = rows(table)[:3]
    assert [first[column] for column in ("LFW", "7 px", "mean", "XQLFW")] == [
        "95.0000",
        "80.0000",
        "85.0000",
        "75.0000",
    ]
    assert (before["mean"], before["XQLFW"]) == ("65.0000", "65.0000")
    assert (second["mean change"], second["XQLFW change"]) == ("1.0000", "0.0000")


def picture(wanted: Reproduction, name: str) -> Path:
    drawn = wanted.draw(swept(wanted))
    assert drawn is not None
    files = write(drawn, wanted.directory, base_config())
    assert files == [f"{wanted.directory}/{name}.{end}" for end in ("png", "md", "csv")]
    path = Path(files[0])
    height, width, _ = matplotlib.image.imread(path).shape
    assert height > 600
    assert width > 600
    return path


def test_figure_2_has_the_error_rates_at_the_chosen_resolutions(sweep_folder: str, finish: Finish) -> None:
    wanted = figure2_of(base_config(evaluate=BENCHMARKS), sweep_folder, [7])
    finish(wanted.cells[0], 0.9, benchmarks={"calfw": 0.8, "xqlfw": 0.7})

    picture(wanted, "figure2")

    found = {row["row"]: row for row in rows(table_of(wanted))}
    assert (found["lfw"]["7 px"], found["lfw"]["7 px change"], found["lfw"]["112 px"]) == ("15.0000", "-30.0000", "")
    # XQLFW's pairs differ in resolution as they are.
    assert (found["xqlfw"]["7 px"], found["xqlfw"]["112 px"]) == ("", "25.0000")


def test_a_benchmark_of_xqlfws_protocol_is_drawn_as_xqlfw_is(sweep_folder: str) -> None:
    crossed = replace(made_up(100, 0.8, "cross_quality"), protocol="xqlfw")
    assert shown_resolutions(crossed) == (112,)
    assert shown_resolutions(made_up(100, 0.8, "XQLFW")) == (112,)
    assert shown_resolutions(made_up(100, 0.8, "calfw")) == (7, 14, 112)


def test_table_4_of_xqlfw_alone_is_its_column(sweep_folder: str, finish: Finish) -> None:
    wanted = table4_of(base_config(evaluate={"protocol": "xqlfw"}), sweep_folder, {})
    for cell in wanted.cells[:2]:
        finish(cell, 0.8)
        for path in (Path(cell.config.directory) / "evaluations").iterdir():
            evaluation = replace(Evaluation.from_json(path.read_text()), protocol="xqlfw")
            path.write_text(evaluation.to_json())

    table = table_of(wanted)

    assert table.columns == ("XQLFW",)
    assert [row["XQLFW"] for row in rows(table)[:3]] == ["65.0000", "85.0000", "85.0000"]


def test_figure_2_refuses_a_resolution_that_is_not_evaluated(sweep_folder: str) -> None:
    with pytest.raises(OctoscaleError, match=r"--resolution 8: evaluate.resolutions has 7, 14, 112"):
        figure2_of(base_config(), sweep_folder, [8])


def test_figure_3_has_every_set_and_resolution(sweep_folder: str, finish: Finish) -> None:
    wanted = figure3_of(base_config(evaluate=BENCHMARKS), sweep_folder)
    assert wanted.draw(swept(wanted)) is None
    finish(wanted.cells[0], 0.55, benchmarks={"calfw": 0.8, "xqlfw": 0.7})

    picture(wanted, "figure3")

    found = {row["row"]: row for row in rows(table_of(wanted))}
    assert (found["lfw"]["14 px"], found["lfw"]["14 px change"]) == ("55.0000", "-5.0000")
    assert (found["calfw"]["14 px"], found["calfw"]["14 px change"]) == ("80.0000", "10.0000")


def test_figure_4_is_drawn_from_what_there_is(sweep_folder: str, finish: Finish) -> None:
    wanted = figure4_of(base_config(), sweep_folder, [0.0, 1.0, 25.0], [64, 128], equal_steps=False)
    for cell, mean in zip(wanted.cells[:5], (0.7, 0.8, 0.9, 0.75, 0.85), strict=True):
        finish(cell, mean)

    picture(wanted, "figure4")

    first, second, before = rows(table_of(wanted))
    assert (first["row"], first["margin 1"], first["margin 25"]) == ("batch of 64", "80.0000", "90.0000")
    assert (second["row"], second["margin 1"], second["margin 25"]) == ("batch of 128", "85.0000", "")
    assert before["margin 25"] == "60.0000"
    assert "| batch of 128 | **75.00** | **85.00** | missing |" in table_of(wanted).to_markdown()


def test_figure_4_tells_of_each_run_that_is_lacking(sweep_folder: str, finish: Finish) -> None:
    wanted = figure4_of(base_config(), sweep_folder, [1.0, 5.0, 25.0], [64, 128], equal_steps=False)
    finish(wanted.cells[0], 0.8)
    Store(wanted.cells[2].config.directory).write("config.yaml", wanted.cells[2].config.to_yaml().encode())

    table = table_of(wanted, **{"margin-5-batch-64": "out of memory", "margin-5-batch-128": "out of memory"})

    assert "| batch of 64 | **80.00** | failed | unfinished |" in table.to_markdown()
    assert "| batch of 128 | missing | failed | missing |" in table.to_markdown()
    assert rows(table)[0]["status"] == "margin 5 failed; margin 25 unfinished"
    assert "unfinished" in printed(table)


def test_a_picture_that_cannot_be_drawn_leaves_nothing_behind(sweep_folder: str, finish: Finish) -> None:
    wanted = figure4_of(base_config(), sweep_folder, [25.0], [64], equal_steps=False)
    finish(wanted.cells[0], 0.9)
    drawn = wanted.draw(swept(wanted))
    assert drawn is not None

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no font")

    broken = type(drawn)(drawn.table, {**drawn.files, "figure4.csv": fail})
    with pytest.raises(RuntimeError):
        write(broken, sweep_folder, base_config())
    assert list(Path(sweep_folder).glob("figure4*")) == []
