"""Tables of runs side by side, before and after."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One network; rates (of pairs: accuracies) and changes are fractions, column by column."""

    run: str
    step: int
    rates: tuple[float, ...]
    changes: tuple[float, ...] | None  # since step 0 of the same run


@dataclass(frozen=True)
class ComparedTable:
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def before_and_after(steps: Collection[int]) -> list[int]:
    """A run's start, if it is among the steps, and the newest of them."""
    return sorted({0, max(steps)} if 0 in steps else {max(steps)})


def table_of(
    title: str, columns: tuple[str, ...], rates: Mapping[str, Mapping[int, tuple[float, ...]]]
) -> ComparedTable:
    """A table of rates by run and step, the steps ascending."""
    rows: list[Row] = []
    for run, steps in rates.items():
        start: tuple[float, ...] | None = None
        for step, values in steps.items():
            changes = tuple(now - then for now, then in zip(values, start, strict=True)) if start else None
            rows.append(Row(run, step, values, changes))
            start = start or values
    return ComparedTable(title, columns, tuple(rows))


def cells(table: ComparedTable) -> Iterator[tuple[Row, list[str]]]:
    """Each row with its texts: rates in %, with their changes in points."""
    for row in table.rows:
        changes = row.changes or (None,) * len(row.rates)
        yield (
            row,
            [
                f"{100 * rate:.2f}" + (f" ({signed_points(100 * change)})" if change is not None else "")
                for rate, change in zip(row.rates, changes, strict=True)
            ],
        )


def signed_points(change: float) -> str:
    """A change. What rounds to nothing has no sign: two means of the same folds may differ in their last bit."""
    return "0.00" if abs(change) < 0.005 else f"{change:+.2f}"
