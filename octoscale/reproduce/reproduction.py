"""A table or a figure: its cells, and how it is drawn from those that are finished."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from octoscale.config import Config
from octoscale.data.storage import Store
from octoscale.errors import OctoscaleError
from octoscale.reproduce.cells import Cell, before_and_after_cell, figure4_cells, table4_cells
from octoscale.reproduce.figures import Pair, accuracies, draw_figure2, draw_figure3, draw_figure4, shown_resolutions
from octoscale.reproduce.found import Found
from octoscale.reproduce.margins import shown, variant_of
from octoscale.reproduce.sweep import Swept
from octoscale.reproduce.table import Line, Part, Table, table4


@dataclass(frozen=True)
class Drawn:
    """What the finished cells give: the table for the terminal, and the files by name.

    Each file is written by being called with a local path.
    """

    table: Table
    files: Mapping[str, Callable[[Path], object]]


@dataclass(frozen=True)
class Reproduction:
    """What a command reproduces.

    Attributes:
        draw: of a sweep; None where none of its cells is finished.
    """

    name: str
    directory: str
    cells: tuple[Cell, ...]
    draw: Callable[[Swept], Drawn | None]


def table4_of(base: Config, directory: str, margins: Mapping[str, float]) -> Reproduction:
    """Loss terms, metrics and normalisation; see `table4_cells`."""
    cells, studies = table4_cells(base, directory, margins)

    def draw(swept: Swept) -> Drawn | None:
        table = table4(cells, studies, swept.found, swept.errors)
        return None if table is None else Drawn(table, _as_text("table4", table))

    return Reproduction("table4", directory, cells, draw)


def figure2_of(base: Config, directory: str, resolutions: Sequence[int]) -> Reproduction:
    """ROC curves before and after, at the resolutions given or all.

    Raises:
        OctoscaleError: a resolution is not evaluated.
    """
    cell = before_and_after_cell(base, directory)
    assert base.evaluate is not None
    for resolution in resolutions:
        if resolution not in base.evaluate.resolutions:
            raise OctoscaleError(
                f"--resolution {resolution}: evaluate.resolutions has {', '.join(map(str, base.evaluate.resolutions))}"
            )

    def draw(swept: Swept) -> Drawn | None:
        sets = _before_and_after(swept.found[cell.name])
        if not sets:
            return None
        rates = [_rates(pair, resolutions) for pair in sets.values()]
        table = _by_resolution("Equal error rate after fine-tuning, % (change)", sets, rates)
        pictures = {"figure2.png": lambda path: draw_figure2(sets, path, resolutions)}
        return Drawn(table, {**pictures, **_as_text("figure2", table)})

    return Reproduction("figure2", directory, (cell,), draw)


def figure3_of(base: Config, directory: str) -> Reproduction:
    """Accuracy before and after, by data set and resolution."""
    cell = before_and_after_cell(base, directory)

    def draw(swept: Swept) -> Drawn | None:
        sets = _before_and_after(swept.found[cell.name])
        if not sets:
            return None
        values = [accuracies(pair) for pair in sets.values()]
        table = _by_resolution("Cross-resolution accuracy after fine-tuning, % (change)", sets, values)
        return Drawn(table, {"figure3.png": partial(draw_figure3, sets), **_as_text("figure3", table)})

    return Reproduction("figure3", directory, (cell,), draw)


def figure4_of(
    base: Config, directory: str, margins: Sequence[float], batch_sizes: Sequence[int], *, equal_steps: bool
) -> Reproduction:
    """Margins and batch sizes; see `figure4_cells`."""
    cells = figure4_cells(base, directory, margins, batch_sizes, equal_steps=equal_steps)
    sizes = tuple(dict.fromkeys(cell.config.global_batch_size for cell in cells))
    columns = tuple(dict.fromkeys(cell.config.loss.margin for cell in cells))

    def draw(swept: Swept) -> Drawn | None:
        found: dict[int, dict[float, float]] = {}
        before = None
        for cell in cells:
            one = swept.found[cell.name]
            if one.status == "finished":
                (after,) = one.after.values()
                by_margin = found.setdefault(cell.config.global_batch_size, {})
                by_margin[cell.config.loss.margin] = after.mean_accuracy("cross")
                before = next((each.mean_accuracy("cross") for each in one.before.values()), before)
        if not found:
            return None
        lines = []
        for size in sizes:
            by_margin = found.get(size, {})
            values = tuple(100 * by_margin[margin] if margin in by_margin else None for margin in columns)
            of_size = [cell.name for cell in cells if cell.config.global_batch_size == size]
            statuses = tuple("failed" if name in swept.errors else swept.found[name].status for name in of_size)
            label, alike = f"batch of {size:,}", len(set(statuses)) == 1
            if by_margin or not alike:
                lines.append(Line(label, values=values, statuses=statuses))
            else:
                lines.append(Line(label, status=statuses[0]))
        if before is not None:
            lines.append(Line("before fine-tuning", values=(100 * before,) * len(columns), compete=False))
        headings = tuple(f"margin {shown(margin)}" for margin in columns)
        table = Table("Mean cross-resolution accuracy, %", headings, (Part("", tuple(lines)),))
        draw_it = partial(draw_figure4, found, metric=variant_of(base.loss), before=before)
        return Drawn(table, {"figure4.png": draw_it, **_as_text("figure4", table)})

    return Reproduction("figure4", directory, cells, draw)


def write(drawn: Drawn, directory: str, base: Config) -> list[str]:
    """Write the files into the sweep's directory, each whole or not at all; their URLs."""
    store = Store(directory, base.storage)
    with tempfile.TemporaryDirectory(prefix="octoscale-reproduce-") as folder:
        for name, make in drawn.files.items():
            make(Path(folder, name))
        for name in drawn.files:
            store.upload(Path(folder, name), name)
    return [f"{directory.rstrip('/')}/{name}" for name in drawn.files]


def _as_text(name: str, table: Table) -> dict[str, Callable[[Path], object]]:
    return {
        f"{name}.md": lambda path: path.write_text(table.to_markdown()),
        f"{name}.csv": lambda path: path.write_text(table.to_csv()),
    }


def _before_and_after(found: Found) -> dict[str, Pair]:
    if found.status != "finished":
        return {}
    return {name: (found.before[name], after) for name, after in found.after.items() if name in found.before}


# Resolution ─▶ (before, after), in %.
_Values = dict[int, tuple[float, float]]


def _rates(pair: Pair, resolutions: Sequence[int]) -> _Values:
    before, after = (evaluation.scores for evaluation in pair)
    return {
        each: (100 * before["cross", each].equal_error_rate, 100 * after["cross", each].equal_error_rate)
        for each in shown_resolutions(pair[1], resolutions)
    }


def _by_resolution(title: str, sets: Mapping[str, Pair], values: Sequence[_Values]) -> Table:
    """A row for each data set, a column for each resolution that one of them has."""
    columns = sorted({resolution for each in values for resolution in each})
    lines = []
    for name, by_resolution in zip(sets, values, strict=True):
        pairs = [by_resolution.get(resolution) for resolution in columns]
        lines.append(
            Line(
                name,
                values=tuple(None if pair is None else pair[1] for pair in pairs),
                changes=tuple(None if pair is None else pair[1] - pair[0] for pair in pairs),
                compete=False,
            )
        )
    return Table(title, tuple(f"{each} px" for each in columns), (Part("", tuple(lines)),))
