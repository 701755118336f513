"""What a page consists of."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from matplotlib.figure import Figure

from octoscale.report.palette import Color


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Key:
    """One entry of a chart's legend."""

    name: str
    color: Color
    dashed: bool = False


class Chart(Protocol):
    """Numbers that can be drawn and be tabulated."""

    kind: ClassVar[str] = "chart"

    @property
    def title(self) -> str:
        """Its heading."""

    @property
    def note(self) -> str:
        """What the reader has to know of it; may be empty."""

    def draw(self) -> Figure:
        """In the light colours of the palette."""

    def table(self) -> Table:
        """The very numbers that are drawn."""

    def legend(self) -> tuple[Key, ...]:
        """What the colours mean."""

    def alt(self) -> str:
        """The picture in words."""


@dataclass(frozen=True)
class Picture:
    """A large picture: a data URI."""

    kind: ClassVar[str] = "picture"
    title: str
    image: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Face:
    """A small picture: a data URI, what it shows, and a line under it."""

    image: str
    alt: str
    label: str
    marked: bool = False


@dataclass(frozen=True)
class FaceGroup:
    """Images that belong together, in rows of `across`."""

    title: str
    faces: tuple[Face, ...]
    across: int


@dataclass(frozen=True)
class Faces:
    """Groups of images, and their numbers as a table."""

    kind: ClassVar[str] = "faces"
    title: str
    groups: tuple[FaceGroup, ...]
    numbers: Table
    note: str = ""


@dataclass(frozen=True)
class Text:
    """Preformatted text that is folded away."""

    kind: ClassVar[str] = "text"
    title: str
    text: str


@dataclass(frozen=True)
class Missing:
    """What the page leaves out, why, and what to do."""

    kind: ClassVar[str] = "missing"
    what: str
    why: str


Item = Table | Chart | Picture | Faces | Text | Missing


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its anchor."""

    name: str
    title: str
    intro: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Tile:
    """One number of the summary."""

    label: str
    value: str
    note: str = ""


def number(value: float | None) -> str:
    """Four significant digits; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percentage(fraction: float | None) -> str:
    """In %, two decimals, without the sign."""
    return "–" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.2f}"


def duration(seconds: float) -> str:
    """In the two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
