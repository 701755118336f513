"""Where commands print to, and the options that many of them share."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from octoscale.errors import OctoscaleError

out = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and results.")]


def make_writable(folder: Path, option: str) -> None:
    """Before the work: a folder that cannot be written to is found out now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OctoscaleError(f"{option}: cannot make the folder {folder}: {error.strerror}; choose another") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OctoscaleError(f"{option}: cannot write to the folder {folder}; choose another")
