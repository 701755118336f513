"""The command ``octoscale``: its subcommands, and how it ends."""

import gc
import sys
from typing import Annotated

import typer
from rich.markup import escape

from octoscale import __version__
from octoscale.cli import checkpoints, compare, data, embed, evaluate, jobs, report, reproduce, runs, watch, weights
from octoscale.cli.console import errors, out, output_of
from octoscale.errors import EXIT_FAILED, OctoscaleError

app = typer.Typer(
    name="octoscale",
    help="Make a face recognition network robust to image resolution, at any batch size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
jobs_app = typer.Typer(no_args_is_help=True, help="Look after runs that were submitted to a cluster.")
config_app = typer.Typer(no_args_is_help=True, help="Look at a run's configuration.")

# In the order of use.
for command in (
    data.pack, data.index, data.inspect, watch.doctor, runs.train, runs.launch, jobs.submit, watch.top,
    evaluate.evaluate, compare.compare, report.report, embed.embed, embed.verify, runs.noise,
    weights.export, runs.quickstart,
):  # fmt: skip
    app.command()(command)
app.add_typer(reproduce.app, name="reproduce")
app.add_typer(jobs_app, name="jobs")
jobs_app.command("list")(jobs.jobs_list)
jobs_app.command("status")(jobs.jobs_status)
jobs_app.command("logs")(jobs.jobs_logs)
jobs_app.command("stop")(jobs.jobs_stop)
app.add_typer(config_app, name="config")
config_app.command("show")(runs.config_show)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(weights.app, name="weights")


def _version(show: bool) -> None:
    if show:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run a command; what the user can mend is one message and exit code 1, usage errors are exit code 2."""
    failed = False
    try:
        app(prog_name="octoscale")
    except OctoscaleError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        output_of(as_json="--json" in sys.argv).event("error", message=str(error))
        failed = True
    if failed:
        # The error's frames held the process group, and gloo's threads abort at the end of the interpreter.
        gc.collect()
        sys.exit(EXIT_FAILED)
