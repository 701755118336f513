"""Commands that look at a run's commits: list, verify, export, prune."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octoscale.cli.console import Json, Quiet, StorageSettings, answer, make_writable, output_of, storage_from
from octoscale.errors import EXIT_FAILED, OctoscaleError

if TYPE_CHECKING:
    from rich.table import Table

    from octoscale.checkpoint import Checkpoints, Commit
    from octoscale.telemetry.output import Output

app = typer.Typer(no_args_is_help=True, help="Look at a run's commits, check them, export and prune them.")

Target = Annotated[str, typer.Argument(help="A run's directory, or the URL of its checkpoints.", show_default=False)]


@app.command("list")
def list_commits(target: Target, storage: StorageSettings = None, as_json: Json = False) -> None:
    """The commits, oldest first: step, attempt, when, score, bytes."""
    checkpoints = _found(target, storage)
    found = checkpoints.listing()
    rows = [_row(checkpoints, commit, "counts") for commit in found.commits]
    rows += [_row(checkpoints, commit, "replaced attempt") for commit in found.fenced]
    rows += [{"name": name, "state": "unreadable"} for name in found.senseless]
    _answer_rows(output_of(as_json=as_json), checkpoints, rows, "state")


@app.command()
def verify(target: Target, storage: StorageSettings = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read every part of every commit and compare it with its checksum. Exit code 1: one is damaged."""
    from octoscale.checkpoint import DamagedError
    from octoscale.telemetry.progress import stages

    checkpoints = _found(target, storage)
    found = checkpoints.listing()
    rows = []
    output = output_of(quiet=quiet, as_json=as_json)
    with stages(output) as show:
        for number, commit in enumerate(found.commits, start=1):
            row = _row(checkpoints, commit, "whole")
            try:
                with checkpoints.verified(commit):
                    pass
            except DamagedError as error:
                row |= {"state": "damaged", "cause": str(error)}
            rows.append(row)
            show("verify", number, len(found.commits))
    rows += [{"name": name, "state": "damaged", "cause": "its content makes no sense"} for name in found.senseless]
    _answer_rows(output, checkpoints, rows, "state", "cause")
    if any(row["state"] == "damaged" for row in rows):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def export(
    target: Target,
    output: Annotated[Path, typer.Argument(help="The file to write, for model.weights.", show_default=False)],
    step: Annotated[int | None, typer.Option(help="The commit of this step instead of the newest.")] = None,
    best: Annotated[bool, typer.Option("--best", help="The best evaluated commit instead of the newest.")] = False,
    storage: StorageSettings = None,
    as_json: Json = False,
) -> None:
    """Write the network's weights of one commit to a file that `model.weights` loads."""
    from octoscale.data.storage_config import refuse_for_local
    from octoscale.models import save_weights
    from octoscale.trained import load_trained

    if target.endswith((".yaml", ".yml")):
        raise OctoscaleError(f"{target} is a configuration; give a run's directory or the URL of its checkpoints")
    make_writable(output.absolute().parent, "OUTPUT")
    if output.is_dir():
        raise OctoscaleError(f"OUTPUT: {output} is a folder; give the name of a file")
    reached = storage_from(storage)
    trained = load_trained(target, best=best, step=step, storage=reached)
    refuse_for_local(reached, target, trained.config.checkpoint.url)
    save_weights(trained.network, output)
    text = f"wrote {output}: the weights after step {trained.step}"
    answer(output_of(as_json=as_json), "exported", text, path=str(output), step=trained.step)


@app.command()
def prune(
    target: Target,
    keep_last: Annotated[int, typer.Option(min=1, help="Newest commits to keep.")],
    keep_best: Annotated[bool, typer.Option(help="Also keep the best evaluated commit.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    storage: StorageSettings = None,
    as_json: Json = False,
) -> None:
    """Delete all but the newest commits and the best, and parts that no commit names; the newest is verified first."""
    from octoscale.checkpoint import DamagedError
    from octoscale.checkpoint.retention import prune as prune_commits

    checkpoints = _found(target, storage)
    for newest in checkpoints.listing().commits[-1:]:
        try:
            with checkpoints.verified(newest):
                pass
        except DamagedError as error:
            raise OctoscaleError(
                f"the newest commit, of step {newest.step}, is damaged: {error}. Nothing is deleted: an older one may "
                "be the only whole one; train on, which puts it aside, and prune then"
            ) from error
    gone, prefixes = prune_commits(checkpoints.store, keep_last=keep_last, keep_best=keep_best, dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    commits, folders = [commit.name for commit in gone], list(prefixes)
    lines = [f"{verb} {name}" for name in [*commits, *folders]]
    text = "\n".join([*lines, f"{verb} {len(commits)} commits and {len(folders)} folders of parts"])
    output = output_of(as_json=as_json)
    answer(output, "pruned", text, url=checkpoints.store.url, commits=commits, folders=folders, dry_run=dry_run)


def _found(target: str, storage: list[str] | None) -> "Checkpoints":
    from octoscale.data.storage_config import refuse_for_local
    from octoscale.trained import places_with_commits

    reached = storage_from(storage)
    for checkpoints in places_with_commits(target, reached):
        refuse_for_local(reached, checkpoints.store.url)
        return checkpoints
    raise OctoscaleError(f"{target} holds no checkpoint; give a run's directory, or the URL of its checkpoints")


def _row(checkpoints: "Checkpoints", commit: "Commit", state: str) -> dict[str, Any]:
    return {
        "name": commit.name,
        "step": commit.step,
        "attempt": commit.attempt,
        "unix_time": commit.unix_time,
        "score": commit.score,
        "bytes": checkpoints.size_bytes(commit),
        "state": state,
    }


def _answer_rows(output: "Output", checkpoints: "Checkpoints", rows: list[dict[str, Any]], *more: str) -> None:
    answer(output, "commits", _table(checkpoints, rows, *more), url=checkpoints.store.url, commits=rows)


def _table(checkpoints: "Checkpoints", rows: list[dict[str, Any]], *more: str) -> "Table":
    from datetime import datetime

    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    table = Table("step", "attempt", "committed", "score", "size", *more, title=escape(checkpoints.store.url))
    for row in rows:
        if "step" not in row:
            cells = [row["name"], "", "", "", ""]
        else:
            when = datetime.fromtimestamp(row["unix_time"]).astimezone().isoformat(" ", "seconds")
            score = "" if row["score"] is None else f"{row['score']:.4f}"
            size = "?" if row["bytes"] is None else decimal(row["bytes"])
            cells = [str(row["step"]), str(row["attempt"]), when, score, size]
        table.add_row(*cells, *(escape(str(row.get(key, ""))) for key in more))
    return table
