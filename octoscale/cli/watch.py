"""Commands that look at what is there: top, doctor."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from octoscale.cli.console import Json, Quiet, StorageSettings, answer, errors, out, output_of, storage_from
from octoscale.cli.runs import Overrides
from octoscale.errors import EXIT_FAILED

if TYPE_CHECKING:
    from octoscale.doctor.check import Check

# Each command imports what it runs: `octoscale --help` answers at once.


def top(
    run: Annotated[
        str,
        typer.Argument(help="A run's directory, a path or URL, or HOST:PORT of a rank's metrics.", show_default=False),
    ],
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look. Exit code 1: nothing answers.")] = False,
    storage: StorageSettings = None,
    as_json: Json = False,
) -> None:
    """Follow a run, wherever it trains: speed, loss, ranks, accuracy. Ctrl-C ends it, not the run."""
    from octoscale.top.follow import follow
    from octoscale.top.sources import source_of

    try:
        known = follow(
            source_of(run, storage_from(storage)), out, output_of(as_json=as_json), every_seconds=every, once=once
        )
    except KeyboardInterrupt:
        return
    if not known:
        raise typer.Exit(EXIT_FAILED)


def doctor(
    config: Annotated[
        str | None, typer.Argument(help="A run's configuration: what it needs is checked too.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster that must answer: auto, host:port or http://host:8265.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check this machine, and what a run needs of it: devices, network, storage, ports, disks, limits, clock.

    Exit code 1: something would stop the run.
    """
    from octoscale.config import load_config
    from octoscale.doctor.examination import examine

    resolved = None if config is None else load_config(config, overrides or ())
    output = output_of(quiet=quiet, as_json=as_json)
    counts: Counter[str] = Counter()
    with errors.status("looking …"):
        for check in examine(resolved, ray_address=address):
            counts[check.status] += 1
            if as_json:
                output.event("check", **asdict(check))
            elif check.status != "ok" or not quiet:
                out.print(_line(check), soft_wrap=True)
    found = {status: counts[status] for status in ("ok", "warning", "failed")}
    answer(output, "doctor", ", ".join(f"{count} {status}" for status, count in found.items()), **found)
    if counts["failed"]:
        raise typer.Exit(EXIT_FAILED)


def _line(check: "Check") -> str:
    colour = {"ok": "green", "warning": "yellow", "failed": "bold red"}[check.status]
    line = f"[{colour}]{check.status:8}[/] {check.name:18} {escape(check.found)}"
    return line if check.advice is None else f"{line}\n{'':27} [bold]do:[/] {escape(check.advice)}"
