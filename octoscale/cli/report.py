"""Command of the report."""

from typing import Annotated

import typer

from octoscale.cli.console import Json, StorageSettings, answer, output_of, storage_from


def report(
    runs: Annotated[
        list[str], typer.Argument(help="Directories of runs, paths or URLs; several are compared.", show_default=False)
    ],
    output: Annotated[str, typer.Option(help="The page, a path or URL.", metavar="FILE.html")] = "report.html",
    storage: StorageSettings = None,
    as_json: Json = False,
) -> None:
    """One HTML page about a run, or several side by side: needs no network, prints well."""
    from octoscale.report.page import write_report

    write_report(runs, output, storage_from(storage))
    answer(output_of(as_json=as_json), "report", f"wrote {output}", url=output)
