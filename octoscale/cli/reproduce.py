"""Commands that reproduce the paper's table 4 and figures 2 to 4 on one's own data."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from octoscale.cli.console import Json, Quiet, answer, errors, out, output_of, tell
from octoscale.cli.runs import ConfigArgument, Overrides
from octoscale.errors import EXIT_FAILED, EXIT_INTERRUPTED, OctoscaleError

if TYPE_CHECKING:
    from octoscale.config import Config
    from octoscale.reproduce.cells import Cell
    from octoscale.reproduce.reproduction import Drawn, Reproduction
    from octoscale.reproduce.sweep import Swept, Train
    from octoscale.telemetry.output import Output

# Each command imports what it runs: `octoscale --help` answers at once.

app = typer.Typer(
    no_args_is_help=True,
    help="Run the sweep behind a table or a figure of the paper on your data, and draw it; the same command goes on.",
)

Directory = Annotated[
    str, typer.Option(help="Where the runs, the table and the picture go, a path or URL.", show_default=True)
]
Parallel = Annotated[int, typer.Option(min=1, help="Runs at a time.")]
Address = Annotated[
    str | None,
    typer.Option(help="Each run as a job of this Ray cluster's job server; else here.", metavar="http://HOST:8265"),
]
Env = Annotated[list[str] | None, typer.Option(help="With --address: a variable of the jobs, as of submit.")]
Secret = Annotated[list[str] | None, typer.Option(help="With --address: a variable that the cluster must have.")]
Installed = Annotated[bool, typer.Option("--installed", help="With --address: use the octoscale that the nodes have.")]
MaxResubmissions = Annotated[
    int, typer.Option(min=0, help="With --address: how often a job whose driver died is submitted again.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the runs and how far they are; run nothing.")]


@dataclass(frozen=True)
class _Options:
    parallel: int
    address: str | None
    env: list[str] | None
    secret: list[str] | None
    installed: bool
    max_resubmissions: int
    dry_run: bool
    quiet: bool
    as_json: bool


def table4(
    config: ConfigArgument,
    overrides: Overrides = None,
    directory: Directory = "reproduce/table4",
    margin: Annotated[
        list[str] | None,
        typer.Option(
            help="The margin of a metric; may be repeated. Defaults: docs/reproduce.md.", metavar="METRIC=MARGIN"
        ),
    ] = None,
    parallel: Parallel = 1,
    address: Address = None,
    env: Env = None,
    secret: Secret = None,
    installed: Installed = False,
    max_resubmissions: MaxResubmissions = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Table 4: all 15 subsets of the loss's terms, and the metrics with and without normalisation."""
    from octoscale.config import load_config
    from octoscale.reproduce.margins import parse_margins
    from octoscale.reproduce.reproduction import table4_of

    base, margins = load_config(config, overrides or ()), parse_margins(margin or ())
    options = _Options(parallel, address, env, secret, installed, max_resubmissions, dry_run, quiet, as_json)
    _reproduce(base, table4_of(base, directory, margins), options)


def figure2(
    config: ConfigArgument,
    overrides: Overrides = None,
    directory: Directory = "reproduce/before_and_after",
    resolution: Annotated[
        list[int] | None, typer.Option(min=1, help="Draw this one, px; may be repeated. By default all.")
    ] = None,
    parallel: Parallel = 1,
    address: Address = None,
    env: Env = None,
    secret: Secret = None,
    installed: Installed = False,
    max_resubmissions: MaxResubmissions = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Figure 2: ROC curves before and after the fine-tuning, of every data set. Shares its run with figure 3."""
    from octoscale.config import load_config
    from octoscale.reproduce.reproduction import figure2_of

    base = load_config(config, overrides or ())
    options = _Options(parallel, address, env, secret, installed, max_resubmissions, dry_run, quiet, as_json)
    _reproduce(base, figure2_of(base, directory, resolution or ()), options)


def figure3(
    config: ConfigArgument,
    overrides: Overrides = None,
    directory: Directory = "reproduce/before_and_after",
    parallel: Parallel = 1,
    address: Address = None,
    env: Env = None,
    secret: Secret = None,
    installed: Installed = False,
    max_resubmissions: MaxResubmissions = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Figure 3: accuracy before and after, of every data set and resolution. Shares its run with figure 2."""
    from octoscale.config import load_config
    from octoscale.reproduce.reproduction import figure3_of

    base = load_config(config, overrides or ())
    options = _Options(parallel, address, env, secret, installed, max_resubmissions, dry_run, quiet, as_json)
    _reproduce(base, figure3_of(base, directory), options)


def figure4(
    config: ConfigArgument,
    overrides: Overrides = None,
    directory: Directory = "reproduce/figure4",
    margin: Annotated[
        list[float] | None,
        typer.Option(min=0, help="May be repeated. By default 1 to 500 for the Euclidean distance."),
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=4, help="May be repeated. By default 64, 128 and 256.")
    ] = None,
    equal_steps: Annotated[
        bool, typer.Option("--equal-steps", help="As many steps for every batch size; by default as many images.")
    ] = False,
    parallel: Parallel = 1,
    address: Address = None,
    env: Env = None,
    secret: Secret = None,
    installed: Installed = False,
    max_resubmissions: MaxResubmissions = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Figure 4: mean accuracy for margins and batch sizes."""
    from octoscale.config import load_config
    from octoscale.reproduce.reproduction import figure4_of

    base = load_config(config, overrides or ())
    options = _Options(parallel, address, env, secret, installed, max_resubmissions, dry_run, quiet, as_json)
    wanted = figure4_of(base, directory, margin or (), batch_size or (), equal_steps=equal_steps)
    _reproduce(base, wanted, options)


for _command in (table4, figure2, figure3, figure4):
    app.command()(_command)


def _reproduce(base: "Config", wanted: "Reproduction", options: _Options) -> None:
    from octoscale.reproduce.reproduction import write
    from octoscale.reproduce.sweep import sweep
    from octoscale.resilience import Workers
    from octoscale.telemetry.logging import set_up_logging
    from octoscale.telemetry.progress import stages

    if options.address is None and (options.env or options.secret or options.installed or options.max_resubmissions):
        raise OctoscaleError("--env, --secret, --installed and --max-resubmissions belong to --address; leave them out")
    set_up_logging(quiet=options.quiet, console=errors)
    output = output_of(quiet=options.quiet, as_json=options.as_json)
    if options.dry_run:
        _list(wanted, output)
        return
    if options.parallel > 1:
        # A job's ranks are elsewhere; what its benchmarks are evaluated by is here.
        ranks = 1 if options.address is not None else Workers.parse(base.resilience.workers).maximum
        _share_cores(options.parallel * ranks)
    train = _train(wanted, options)
    teller = _Teller(output, len(wanted.cells))
    with stages(output) as show:
        swept = sweep(wanted.cells, train, parallel=options.parallel, show=show, tell=teller)
    drawn = wanted.draw(swept)
    files = [] if drawn is None else write(drawn, wanted.directory, base)
    _end(wanted, swept, drawn, files, output)


def _share_cores(processes: int) -> None:
    """For those that are started from here: each would take as many threads as there are cores."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def _train(wanted: "Reproduction", options: _Options) -> "Train":
    from octoscale.reproduce.sweep import train_here

    if options.address is None:
        return train_here
    from octoscale.reproduce.cluster import TrainOnCluster

    return TrainOnCluster(
        options.address, wanted.cells, env=options.env or (), secrets=options.secret or (),
        installed=options.installed, max_resubmissions=options.max_resubmissions,
    )  # fmt: skip


class _Teller:
    """Says when a cell begins and how it ends."""

    def __init__(self, output: "Output", total: int) -> None:
        self._output, self._total = output, total

    def __call__(self, cell: "Cell", status: str, error: str | None = None, /) -> None:
        self._output.event("cell", name=cell.name, directory=cell.config.directory, status=status, error=error)
        if error is not None:
            errors.print(Text(f"{cell.name} has failed: {error}", style="red"), soft_wrap=True)
        elif not self._output.quiet:
            tell(f"{cell.name}: {status}")


def _list(wanted: "Reproduction", output: "Output") -> None:
    from octoscale.reproduce.found import look

    table = Table(title=f"{wanted.name}: {len(wanted.cells)} runs in {wanted.directory}", title_justify="left")
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("settings", overflow="fold")
    cells = []
    for cell in wanted.cells:
        status = look(cell).status
        settings = " ".join(f"{key}={_short(value)}" for key, value in cell.settings.items())
        table.add_row(*map(Text, (cell.name, status, settings)))
        cells.append(_cell_values(cell, status))
    answer(output, "cells", table, what=wanted.name, cells=cells)


def _cell_values(cell: "Cell", status: str) -> dict[str, Any]:
    return {"name": cell.name, "directory": cell.config.directory, "status": status, "settings": cell.settings}


def _short(value: Any) -> str:
    from octoscale.reproduce.margins import shown

    if isinstance(value, list):
        return ",".join(map(_short, value))
    return shown(value) if isinstance(value, float) else str(value)


def _end(wanted: "Reproduction", swept: "Swept", drawn: "Drawn | None", files: list[str], output: "Output") -> None:
    """The table, the files, what is missing, and the exit code."""
    missing = [name for name, found in swept.found.items() if found.status != "finished" and name not in swept.errors]
    if not output.has_events:
        if drawn is not None:
            out.print(drawn.table.render())
        for file in files:
            out.print(f"wrote {file}", markup=False, soft_wrap=True)
    cells = [_cell_values(cell, _status(cell.name, swept)) for cell in wanted.cells]
    output.event(
        "reproduced", what=wanted.name, directory=wanted.directory, files=files, cells=cells, errors=dict(swept.errors)
    )
    if swept.errors:
        tell(f"failed: {', '.join(swept.errors)}; the same command tries again")
    if missing:
        tell(f"not finished: {', '.join(missing)}; the same command goes on with what is committed")
    if swept.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if swept.errors:
        raise typer.Exit(EXIT_FAILED)
    if drawn is None and not missing:
        raise OctoscaleError(
            f"nothing to draw: {', '.join(swept.found)} has finished, but without evaluations/00000000.json: the "
            "network before the training, which is evaluated at a run's start alone; remove the run's directory, or "
            "give another --directory"
        )


def _status(name: str, swept: "Swept") -> str:
    return "failed" if name in swept.errors else swept.found[name].status
