"""The page: its parts in order, and the HTML that shows them."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import octoscale
from octoscale.data.storage import Store
from octoscale.data.storage_config import StorageConfig, refuse_for_local
from octoscale.errors import OctoscaleError
from octoscale.report import palette
from octoscale.report.accuracy import accuracy_section, data_sets_section, roc_section
from octoscale.report.facts import comparison, facts_section, tiles
from octoscale.report.items import Chart, Section
from octoscale.report.mislabels import mislabels_section
from octoscale.report.octuplets import octuplets_section
from octoscale.report.runs import Run, read_runs
from octoscale.report.svg import as_svg
from octoscale.report.timing import timing_section
from octoscale.report.training import training_section

_TEMPLATES = Path(__file__).with_name("templates")


def write_report(targets: Sequence[str], output: str, storage: StorageConfig | None = None) -> None:
    """Write one page about the runs in `targets` to the file `output`, a path or URL; whole or not at all.

    Args:
        storage: how all of them are reached; None: by the defaults.

    Raises:
        OctoscaleError: a target is no run, or `storage` is given and nothing is on object storage; or the file cannot
            be written, which is found out before the work.
    """
    destination, name = destination_of(output, storage)
    destination.probe_writable()
    runs = read_runs(targets, storage)
    refuse_for_local(storage, output, *targets, *(place for run in runs for place in run.places))
    destination.write(name, render_page(runs).encode())


def destination_of(output: str, storage: StorageConfig | None = None) -> tuple[Store, str]:
    """Where the page goes: the folder, and the name in it. Raises OctoscaleError for what is no name of a file."""
    folder, _, name = output.rpartition("/")
    if not name or ("://" not in output and Path(output).expanduser().is_dir()):
        raise OctoscaleError(f"--output: {output} is a folder; give the name of a file, such as report.html")
    return Store(folder or ("/" if output.startswith("/") else "."), storage or StorageConfig()), name


def render_page(runs: Sequence[Run]) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(
        title=", ".join(run.name for run in runs),
        tiles=tiles(runs[0]) if len(runs) == 1 else (),
        sections=sections_of(runs),
        colors=palette.ALL,
        svg=_numbered(),
        version=octoscale.__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """The parts of the page, in order."""
    sections = [
        comparison(runs) if len(runs) > 1 else None,
        accuracy_section(runs),
        roc_section(runs),
        data_sets_section(runs),
        training_section(runs),
        octuplets_section(runs),
        mislabels_section(runs),
        timing_section(runs),
        *(facts_section(run, runs) for run in runs),
    ]
    return [section for section in sections if section is not None]


def _numbered() -> Callable[[Chart], Markup]:
    """Draws charts, each with ids of its own."""
    numbers = itertools.count(1)
    return lambda chart: as_svg(chart, f"chart-{next(numbers)}")
