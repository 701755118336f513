"""The command compare: runs side by side."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from octoscale.cli.console import Json, StorageSettings, out, output_of, storage_from, tell
from octoscale.errors import OctoscaleError

if TYPE_CHECKING:
    from octoscale.evaluate.compared_table import ComparedTable


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Runs' directories, or files of evaluate --scores.", show_default=False)
    ],
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, a row per figure.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    storage: StorageSettings = None,
) -> None:
    """Compare runs as the paper's tables 1, 2 and 3 do, before and after; then templates and galleries."""
    from octoscale.evaluate.comparison import compare as compare_scores
    from octoscale.evaluate.comparison import scores_of

    if as_json + as_csv + as_markdown > 1:
        raise OctoscaleError("--json, --csv and --markdown exclude each other; choose one")
    if len(set(runs)) < len(runs):
        raise OctoscaleError(f"a run is named twice: {' '.join(runs)}")
    reached = storage_from(storage, *runs)
    found = compare_scores({run: scores_of(run, reached) for run in runs})
    tables = found.tables
    if as_json:
        output_of(as_json=True).event("tables", tables=[asdict(table) for table in tables], left_out=found.left_out)
    elif as_csv:
        _write_csv(tables)
    elif as_markdown:
        sys.stdout.write("\n".join(map(_markdown, tables)))
    else:
        _print(tables)
    for reason in found.left_out:
        tell(f"left out: {reason}")


def _write_csv(tables: "Sequence[ComparedTable]") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["table", "run", "step", "column", "rate", "change"])
    for table in tables:
        for row in table.rows:
            changes = row.changes or ("",) * len(row.rates)
            for column, rate, change in zip(table.columns, row.rates, changes, strict=True):
                writer.writerow([table.title, row.run, row.step, column, rate, change])


def _markdown(table: "ComparedTable") -> str:
    from octoscale.evaluate.compared_table import cells

    lines = [
        f"**{table.title}**\n",
        f"| run | step | {' | '.join(table.columns)} |",
        "|---|" + "---:|" * (1 + len(table.columns)),
        *(f"| {row.run} | {row.step} | {' | '.join(texts)} |" for row, texts in cells(table)),
    ]
    return "\n".join(lines) + "\n"


def _print(tables: "Sequence[ComparedTable]") -> None:
    from rich.table import Table

    from octoscale.evaluate.compared_table import cells

    for table in tables:
        shown = Table("run", title=table.title, title_justify="left")
        shown.add_column("step", justify="right")
        for column in table.columns:
            shown.add_column(column, justify="right")
        for row, texts in cells(table):
            # The change on its own line: nine columns of rates and changes are wider than a terminal.
            shown.add_row(row.run, str(row.step), *(text.replace(" (", "\n(") for text in texts))
        out.print(shown)
