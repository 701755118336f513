"""What README.md, the documents and the configurations tell to type or to click is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from octoscale.cli.entry import app
from octoscale.config import Config, parse_config

ROOT = Path(__file__).resolve().parents[2]
# Which commands there are, with words of its own for their arguments, is tested in `cli/test_documented.py`.
OVERVIEW = ROOT / "docs/commands.md"
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cluster/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def command_lines(path: Path) -> Iterator[str]:
    """Those that call octoscale, also under torchrun: in a document's blocks, in a configuration's comments."""
    text = path.read_text().replace("\\\n", " ")
    if path.suffix == ".md":
        lines = "".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()
    else:
        lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    for line in lines:
        if match := re.match(r"(?:torchrun .* -m )?octoscale(?:\.cli)? (.*)", line):
            # Without what is optional, and without the description behind it.
            yield re.split(r"\s+#|\s{3,}", re.sub(r" \[[^\]']*\]", "", match[1]))[0]


@pytest.mark.parametrize("path", [path for path in [*TEXTS, *CONFIGS] if path != OVERVIEW], ids=name_of)
def test_every_command_line_fits_its_command(path: Path) -> None:
    for line in command_lines(path):
        command: Any = typer.main.get_command(app)
        arguments = ["2" if word == "N" else word for word in shlex.split(line)]
        while hasattr(command, "commands"):
            assert "".join(arguments[:1]) in command.commands, f"octoscale {line}: no such command"
            command = command.commands[arguments.pop(0)]
        # Raises what the command line would be refused with.
        command.make_context(command.name, arguments)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_part_of_a_configuration_is_valid(path: Path) -> None:
    sets = {"pairs": "pairs.txt", "images": "crops"}
    whole = {"directory": "run", "global_batch_size": 64, "steps": 1, "data": {"url": "u"}, "model": {"name": "tiny"}}
    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
        values = yaml.safe_load(block)
        if values.keys() <= Config.model_fields.keys():
            if "evaluate" in values:
                values["evaluate"] = sets | values["evaluate"]
            parse_config(whole | values, source=name_of(path))


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


def anchors_of(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    without_blocks = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", without_blocks, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
