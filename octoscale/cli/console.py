"""Where commands print to, and the options that all of them share.

Results go to stdout, everything else to stderr. With ``--json`` stdout has one JSON object a line, with its `event`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from octoscale.errors import OctoscaleError
from octoscale.telemetry.output import Output

if TYPE_CHECKING:
    from octoscale.data.storage_config import StorageConfig

out = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
StorageSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--storage",
        help="How object storage is reached, as the block storage says it: endpoint_url=http://…; may be repeated.",
        metavar="KEY=VALUE",
    ),
]


def output_of(*, quiet: bool = False, as_json: bool = False) -> Output:
    """The output that the options ask for."""
    return Output(errors, quiet=quiet, events=sys.stdout if as_json else None)


def storage_from(settings: Sequence[str] | None, *places: str | None) -> "StorageConfig | None":
    """The `storage` block that `--storage` makes; None without one.

    Args:
        places: all paths and URLs that it is for, where these are known.

    Raises:
        OctoscaleError: a setting that does not fit, or all places are local.
    """
    from octoscale.config import storage_of
    from octoscale.data.storage_config import refuse_for_local

    storage = storage_of([f"storage.{setting}" for setting in settings or ()])
    if places:
        refuse_for_local(storage, *places)
    return storage


def answer(output: Output, event: str, text: RenderableType, **values: Any) -> None:
    """A result: `text` for people, or the event with its values for programs."""
    if output.has_events:
        output.event(event, **values)
    elif isinstance(text, str):
        out.print(text, markup=False, soft_wrap=True)
    else:
        out.print(text)


def tell(text: str) -> None:
    """A line for people, as it is, on stderr."""
    errors.print(text, markup=False, soft_wrap=True)


def make_writable(folder: Path, option: str) -> None:
    """Before the work: a folder that cannot be written to is found out now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OctoscaleError(f"{option}: cannot make the folder {folder}: {error.strerror}; choose another") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OctoscaleError(f"{option}: cannot write to the folder {folder}; choose another")


def make_file_writable(file: Path, option: str) -> None:
    """Before the work: a file that cannot be written is found out now."""
    if file.is_dir():
        raise OctoscaleError(f"{option}: {file} is a folder; give the name of a file")
    make_writable(file.parent, option)
