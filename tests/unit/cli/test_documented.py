"""docs/commands.md has every command with every option."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from octoscale.cli.entry import app

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs/commands.md").read_text()


def commands(command: Any, path: str = "octoscale") -> Iterator[tuple[str, Any]]:
    """(``octoscale jobs list``, its command) of everything that can be called."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(path: str) -> str:
    """The part of the document under the heading of a command, or of its group."""
    heading = " ".join(path.split()[:2])
    parts = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)
    return "".join(part for part in parts if part.startswith(f"{heading}\n"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_is_documented_with_its_options(path: str) -> None:
    text = section(path)
    assert f"`{path}" in text, f"no description of {path}"

    for parameter in COMMANDS[path].params:
        names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
        # What is on by default is called by its negation.
        if names and names != ["--help"]:
            assert any(re.search(rf"(?<![\w-]){name}\b", text) for name in names), f"{path}: {names} is not documented"


def test_every_event_that_the_code_knows_is_documented() -> None:
    root = Path(__file__).resolve().parents[3] / "octoscale"
    sources = "".join(path.read_text() for path in [*root.rglob("cli/*.py"), *root.rglob("top/*.py"),
                                                    root / "journal.py", root / "train.py"])  # fmt: skip
    found = set(re.findall(r'(?:\.event|\btell|_tell|answer)\(\s*(?:output(?:_of\([^)]*\))?,\s*)?"(\w+)"', sources))

    assert {"step", "commit", "geometry", "look", "check", "jobs"} <= found
    documented = set(re.findall(r"`(\w+)`", DOCUMENT[: DOCUMENT.index("## octoscale pack")]))
    assert found <= documented
