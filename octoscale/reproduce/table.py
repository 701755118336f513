"""Tables like the paper's: percentages with their changes, the best of each part in bold."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable
from rich.text import Text

from octoscale.evaluate.compared_table import Row, signed_points
from octoscale.evaluate.comparison import compare
from octoscale.evaluate.evaluation import Evaluation
from octoscale.reproduce.cells import Cell, Study
from octoscale.reproduce.found import Found


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        status: of the cell that it is of; anything but ``finished`` has no values.
        values: in %, one for each column; None where there is none.
        statuses: of the cell of each value, where each is of another; empty where `status` is that of all.
        changes: in points, since the row that the part is compared with; empty in that row itself.
        compete: the row is one of those among which the best is looked for.
    """

    label: str
    status: str = "finished"
    values: tuple[float | None, ...] = ()
    changes: tuple[float | None, ...] = ()
    statuses: tuple[str, ...] = ()
    compete: bool = True


@dataclass(frozen=True)
class Part:
    """Rows that are compared with each other."""

    title: str
    lines: tuple[Line, ...]

    def best(self, column: int) -> float | None:
        """What is printed bold in a column, as it is printed; None where there is no choice."""
        values = [round(line.values[column] or 0.0, 2) for line in self.lines if line.values and line.compete]
        return max(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Table:
    """What is printed, and written as Markdown and CSV."""

    title: str
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    def to_markdown(self) -> str:
        lines = [
            f"**{self.title}**\n", f"| | {' | '.join(self.columns)} |", "|---|" + "---:|" * len(self.columns),
        ]  # fmt: skip
        for part in self.parts:
            if part.title:
                lines.append(f"| *{part.title}* |" + " |" * len(self.columns))
            for line in part.lines:
                lines.append(f"| {line.label} | {' | '.join(self._texts(part, line, '**'))} |")
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """A row for each line: its part, label and status, then each column's value in % and its change.

        Where each value has a status of its own, those that are not finished are named by their columns.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        headings = [heading for column in self.columns for heading in (column, f"{column} change")]
        writer.writerow(["part", "row", "status", *headings])
        for part in self.parts:
            for line in part.lines:
                nothing = (None,) * len(self.columns)
                pairs = zip(line.values or nothing, line.changes or nothing, strict=True)
                cells = ["" if value is None else f"{value:.4f}" for pair in pairs for value in pair]
                unlike = zip(self.columns, line.statuses, strict=False)
                lacking = "; ".join(f"{column} {status}" for column, status in unlike if status != "finished")
                writer.writerow([part.title, line.label, lacking or line.status, *cells])
        return text.getvalue()

    def render(self) -> RichTable:
        """For a terminal: changes on a line of their own, since all of them side by side are wider than it."""
        table = RichTable("", title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column, justify="right")
        for part in self.parts:
            table.add_section()
            if part.title:
                table.add_row(Text(part.title, style="italic"))
            for line in part.lines:
                texts = [
                    Text(text.strip("*").replace(" (", "\n("), style="bold" if text.startswith("*") else "")
                    for text in self._texts(part, line, "*")
                ]
                table.add_row(Text(line.label, style="" if line.values else "dim"), *texts)
        return table

    def _texts(self, part: Part, line: Line, mark: str) -> list[str]:
        if not line.values:
            return [line.status, *([""] * (len(self.columns) - 1))]
        texts = []
        changes = line.changes or (None,) * len(self.columns)
        for number, (value, change) in enumerate(zip(line.values, changes, strict=True)):
            if value is None:
                texts.append(line.statuses[number] if line.statuses else "–")
                continue
            shown = f"{value:.2f}"
            text = shown if change is None else f"{shown} ({signed_points(change)})"
            best = line.compete and part.best(number) == round(value, 2)
            texts.append(f"{mark}{text}{mark}" if best else text)
        return texts


def table4(
    cells: Sequence[Cell], studies: Sequence[Study], found: Mapping[str, Found], errors: Mapping[str, str]
) -> Table | None:
    """The paper's table 4, as far as its cells are finished; None: none is.

    Changes are since the first row of each part, and left out while that is missing. Of the network before the
    training there is a row above.
    """
    done = [cell for cell in cells if found[cell.name].status == "finished"]
    if not done:
        return None
    # Where the benchmarks were not evaluated before a run, its own pairs must not stand for a benchmark of their name.
    whole = {cell.name: cell.before or not cell.wanted_benchmarks for cell in done}
    compared = compare({name: _by_step(found[name], before=before) for name, before in whole.items()}).tables[0]
    start = next((row for row in compared.rows if row.step == 0), None)
    ends = {row.run: row for row in compared.rows if row.step > 0}
    parts = []
    if start is not None:
        before = Line("before fine-tuning", values=_percent(start.rates), compete=False)
        parts.append(Part("", (before,)))
    for study in studies:
        first = ends.get(study.rows[0][1])
        lines = []
        for number, (label, name) in enumerate(study.rows):
            row = ends.get(name)
            if row is None:
                status = "failed" if name in errors else found[name].status
                lines.append(Line(label, status=status))
            else:
                changes = _percent(_minus(row, first)) if first is not None and number else ()
                lines.append(Line(label, values=_percent(row.rates), changes=changes))
        parts.append(Part(study.title, tuple(lines)))
    return Table(compared.title, compared.columns, tuple(parts))


def _by_step(found: Found, *, before: bool) -> dict[str, dict[int, Evaluation]]:
    """The evaluations as `compare` takes them."""
    scores = {name: {evaluation.step: evaluation} for name, evaluation in found.after.items()}
    if before:
        for name, evaluation in found.before.items():
            scores.setdefault(name, {})[evaluation.step] = evaluation
    return scores


def _minus(row: Row, first: Row) -> tuple[float, ...]:
    return tuple(now - then for now, then in zip(row.rates, first.rates, strict=True))


def _percent(fractions: Sequence[float]) -> tuple[float, ...]:
    return tuple(100 * fraction for fraction in fractions)
